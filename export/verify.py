"""Whether files still compute what they were exported from: the same frames through a reference and through each file.

A file is run by each backend that fits it and answers here. What cannot be run is listed with its reason, for a file
that nothing ran is not verified.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

from lrp_edge.card import ModelCard
from lrp_edge.errors import LrpEdgeError, needs_extra
from lrp_edge.export.deployable import Deployable
from lrp_edge.export.frames import Picture, read_pictures
from lrp_edge.export.parity import (
    PROMISED,
    SOUND,
    Answer,
    Parity,
    Session,
    Tolerance,
    TorchSession,
    compare,
    random_frames,
    run_frames,
)
from lrp_edge.export.reading import card_of, load_proto
from lrp_edge.export.reference import open_reference
from lrp_edge.export.sides import draw_sides, write_png
from lrp_edge.export.sources import load_model, sha256
from lrp_edge.files import claim_folder
from lrp_edge.runtime.engines import Engine, open_engine
from lrp_edge.runtime.engines.engine_file import EngineFile

with needs_extra("export"):
    import numpy as np
    from numpy.typing import NDArray

UInt8 = NDArray[np.uint8]
#: Called with what is run, the frames done and all of them.
Progress = Callable[[str, int, int], None]

#: What runs a file, by the name that it is asked for.
BACKENDS = {
    "types": "an ONNX file on the CPU, each node rounded to the very type that the graph is written in, as on a GPU",
    "cpu": "an ONNX file in ONNX Runtime on the CPU, which computes half precision in float32",
    "openvino": "an ONNX file in OpenVINO on the CPU, which computes half precision in float32",
    "cuda": "an ONNX file in ONNX Runtime with CUDA",
    "tensorrt": "an ONNX file in ONNX Runtime with TensorRT, or an engine file of TensorRT",
    "nv_tensorrt_rtx": "an ONNX file in ONNX Runtime with TensorRT-RTX",
    "rtx": "an engine file of TensorRT-RTX",
}
_FOR_ONNX = ("types", "cpu", "openvino", "cuda", "tensorrt", "nv_tensorrt_rtx")
_WAYS = "a checkpoint, module:factory or an .onnx file in fp32"
_NOISE = 8
_USUAL = (224, 224)


@dataclass(frozen=True)
class Result:
    """One file on one backend.

    Attributes
    ----------
    file : Path
        The file.
    sha256 : str
        Its SHA-256, in hexadecimal.
    backend : str
        One of :data:`BACKENDS`.
    precision : str
        The card's.
    reference : str
        What it was compared with.
    parity : Parity
        The differences.
    tolerance : Tolerance
        How great they may be.
    beyond : list of str
        What exceeds that, in words.
    seconds : float
        Time that the backend took for all frames, without loading.
    worst : str
        Source of the worst frame.
    picture : Path or None
        Where that frame was drawn.
    """

    file: Path
    sha256: str
    backend: str
    precision: str
    reference: str
    parity: Parity
    tolerance: Tolerance
    beyond: list[str]
    seconds: float
    worst: str
    picture: Path | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON; a figure that is not finite is None."""
        return {
            **vars(self),
            "file": str(self.file),
            "parity": _finite(self.parity.as_dict(self.reference)),
            "tolerance": _finite(dataclasses.asdict(self.tolerance)),
            "picture": str(self.picture) if self.picture else None,
        }


@dataclass(frozen=True)
class Unavailable:
    """A backend that could not run a file.

    Attributes
    ----------
    file : Path
        The file.
    backend : str
        One of :data:`BACKENDS`.
    reason : str
        Why, in one line.
    started : bool
        Whether it took the file, and then failed on frames.
    """

    file: Path
    backend: str
    reason: str
    started: bool = False


@dataclass(frozen=True)
class Verification:
    """What :func:`verify` found.

    Attributes
    ----------
    files : list of Path
        All that was asked for.
    source : str
        Where the frames are from.
    frames : int
        Their number.
    results : list of Result
        By file and backend, in the order of the files.
    unavailable : list of Unavailable
        What could not be run.
    notes : list of str
        What a reader of the figures must know.
    """

    files: list[Path]
    source: str
    frames: int
    results: list[Result] = field(default_factory=list)
    unavailable: list[Unavailable] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def reference(self) -> str:
        """What the files were compared with."""
        return "; ".join(dict.fromkeys(result.reference for result in self.results))

    def faults(self) -> list[str]:
        """Return why the files are not verified, a line for each reason; empty if they are."""
        beyond = [f"{found.file} on {found.backend}: {said}" for found in self.results for said in found.beyond]
        failed = [f"{found.file} on {found.backend}: {found.reason}" for found in self.unavailable if found.started]
        run = {result.file for result in self.results}
        return [
            *beyond,
            *failed,
            *(f"{file} is not verified: nothing here ran it" for file in self.files if file not in run),
        ]

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "reference": self.reference,
            "frames": {"source": self.source, "count": self.frames},
            "results": [result.as_dict() for result in self.results],
            "unavailable": [{**vars(entry), "file": str(entry.file)} for entry in self.unavailable],
            "notes": self.notes,
            "faults": self.faults(),
        }


def verify(
    files: Sequence[str | Path],
    *,
    against: str | Path | None = None,
    weights: str | Path | None = None,
    frames: str | None = None,
    most: int = 64,
    backends: Sequence[str] | None = None,
    tolerance: Mapping[str, float] | None = None,
    output: str | Path | None = None,
    progress: Progress = lambda what, done, frames: None,
) -> Verification:
    """Compare files with what they were exported from, on frames.

    Parameters
    ----------
    files : sequence of path
        Files of ``lrp-edge export`` and ``lrp-edge compile``.
    against : path or str, optional
        A checkpoint or ``"module:factory"``, computed by PyTorch in float64 with each file's own card; or an exported
        file in float32, run by ONNX Runtime on the CPU. By default the checkpoint that the file's card names, if it
        lies beside the file and has the SHA-256 of the card.
    weights : path, optional
        Weights for ``module:factory``.
    frames : str, optional
        Image, folder, glob or video; by default 8 frames of noise, for which :data:`~lrp_edge.export.parity.SOUND`
        takes the place of :data:`~lrp_edge.export.parity.PROMISED`.
    most : int
        Take so many frames, evenly from the whole source.
    backends : sequence of str, optional
        Of :data:`BACKENDS`; by default all that fit the file.
    tolerance : mapping of str to float, optional
        Fields of :class:`~lrp_edge.export.parity.Tolerance` in place of those for the file's precision.
    output : path, optional
        Folder for ``<file>.<backend>.worst.png``, the worst frame of each; made if it is not there.
    progress : callable
        Called with what is run, the frames done and all frames.

    Raises
    ------
    LrpEdgeError
        If a file or the reference cannot be read, they do not take the same frames, a frame cannot be read or has not
        their size, or a backend that was asked for does not exist, fits no file or cannot run one.
    """
    subjects = [_Subject.read(Path(file)) for file in files]
    chosen = [_choose(subject, backends) for subject in subjects]
    _check_asked(subjects, backends)
    references = _References(against, weights, progress)
    origins = [references.origin(subject) for subject in subjects]
    pictures = _read_frames(frames, references.cards(subjects), most)
    folder = claim_folder(output) if output else None
    found = Verification([subject.path for subject in subjects], frames or "noise", len(pictures))
    found.notes.extend(_notes(subjects, chosen, origins, frames))
    limits = PROMISED if frames else SOUND
    for name, subject, names, origin in zip(_names(subjects), subjects, chosen, origins, strict=True):
        limit = dataclasses.replace(limits[subject.card.precision], **tolerance or {})
        case = _Case(subject, references.open(subject, origin, pictures), pictures, limit)
        for backend in names:
            try:
                found.results.append(case.run(backend, folder and folder / f"{name}.{backend}.worst.png", progress))
            except _UnableError as unable:
                if backends:
                    raise unable.error from unable.error.__cause__
                found.unavailable.append(Unavailable(subject.path, backend, str(unable.error), unable.started))
    return found


class _UnableError(Exception):
    """A backend cannot run a file, or not these frames."""

    def __init__(self, error: LrpEdgeError, started: bool) -> None:
        super().__init__(str(error))
        self.error, self.started = error, started


@dataclass(frozen=True)
class _Subject:
    """A file that is to be verified."""

    path: Path
    card: ModelCard
    sha256: str

    @classmethod
    def read(cls, path: Path) -> _Subject:
        if path.suffix not in (".onnx", ".engine"):
            raise LrpEdgeError(f"{path}: expected an .onnx file of lrp-edge export or an .engine of lrp-edge compile")
        card = card_of(path) if path.suffix == ".onnx" else EngineFile.read(path).card
        return cls(path, card, sha256(path))

    @property
    def backends(self) -> tuple[str, ...]:
        return _FOR_ONNX if self.path.suffix == ".onnx" else (str(self.card.engine["product"]),)


def _choose(subject: _Subject, asked: Sequence[str] | None) -> list[str]:
    """Return the backends to run a file on."""
    if asked is None:
        # In float32 the types' own computation is that of ONNX Runtime on the CPU.
        return [name for name in subject.backends if name != "types" or subject.card.precision != "fp32"]
    for name in asked:
        if name not in BACKENDS:
            near = difflib.get_close_matches(name.lower(), BACKENDS, 1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise LrpEdgeError(f"no backend {name!r}; {hint}expected one of {', '.join(BACKENDS)}")
    fitting = [name for name in dict.fromkeys(asked) if name in subject.backends]
    if not fitting:
        raise LrpEdgeError(
            f"{subject.path} is not for {' or '.join(asked)}; expected {' or '.join(subject.backends)}: ask for that "
            "too, or leave the file out"
        )
    return fitting


def _check_asked(subjects: Sequence[_Subject], asked: Sequence[str] | None) -> None:
    """Refuse a backend that was asked for and would run nothing."""
    for name in asked or ():
        if not any(name in subject.backends for subject in subjects):
            raise LrpEdgeError(f"backend {name} runs none of the files: it is for {BACKENDS[name]}")


@dataclass(frozen=True)
class _Reference:
    """What a file must answer.

    Attributes
    ----------
    name : str
        What computed it.
    answers : list of Answer
        Of each frame.
    gate : bool
        Whether it leaves relevance out where no defect is decided.
    sha256 : str
        Of the file, where it is one that ONNX Runtime ran.
    """

    name: str
    answers: list[Answer]
    gate: bool = False
    sha256: str = ""


class _References:
    """References by what they depend on: files of one model and card, whatever their precision, share one."""

    def __init__(self, against: str | Path | None, weights: str | Path | None, progress: Progress) -> None:
        if weights is not None and against is None:
            raise LrpEdgeError("weights are for a module:factory; give that with --against")
        self._against, self._weights, self._progress = against, weights, progress
        self._kept: dict[tuple[str, str], _Reference] = {}

    @property
    def _file(self) -> Path | None:
        """The exported file to compare with, if it is one."""
        return Path(self._against) if self._against is not None and Path(self._against).suffix == ".onnx" else None

    def origin(self, subject: _Subject) -> str:
        """Return the source of a file's reference."""
        if self._against is None:
            return str(_recorded(subject))
        source = str(self._against)
        if ":" not in source and not Path(source).is_file():
            raise LrpEdgeError(f"no file at {source} to compare with; expected {_WAYS}")
        return source

    def cards(self, subjects: Sequence[_Subject]) -> list[tuple[Path, ModelCard]]:
        """Return the cards of all files that are run on the frames."""
        cards = [(subject.path, subject.card) for subject in subjects]
        if self._file is None:
            return cards
        card = card_of(self._file)
        if card.precision != "fp32":
            raise LrpEdgeError(f"{self._file} is {card.precision}; expected a file in fp32 to compare with")
        for path, other in cards:
            if other.classes != card.classes:
                raise LrpEdgeError(
                    f"{path} has the classes {', '.join(other.classes)}, and {self._file} {', '.join(card.classes)}; "
                    "expected files of one model"
                )
        return [*cards, (self._file, card)]

    def open(self, subject: _Subject, origin: str, pictures: Sequence[Picture]) -> _Reference:
        """Return the reference's answers to all frames."""
        if self._file is not None:
            return self._once((origin, ""), lambda: self._of_file(Path(origin), pictures))
        card = subject.card.replace(precision="fp32", gate=False, profile={}, engine={}, provenance={}, parity={})
        return self._once((origin, card.to_json()), lambda: self._of_model(subject.path, card, origin, pictures))

    def _once(self, key: tuple[str, str], make: Callable[[], _Reference]) -> _Reference:
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    def _of_file(self, file: Path, pictures: Sequence[Picture]) -> _Reference:
        name = f"ONNX Runtime float32, {file.name}"
        with open_engine(file, "cpu") as engine:
            answers = _answers(_EngineSession(engine), pictures, name, self._progress)
            return _Reference(name, answers, engine.card.gate, sha256(file))

    def _of_model(self, path: Path, card: ModelCard, origin: str, pictures: Sequence[Picture]) -> _Reference:
        network, _, known = load_model(origin, self._weights)
        deployable = Deployable(network, card, card.input.size or card.input.resize or _USUAL).eval()
        if deployable.unrolled.classes != len(card.classes):
            raise LrpEdgeError(
                f"{origin} has {deployable.unrolled.classes} outputs, and {path} the classes "
                f"{', '.join(card.classes)}; expected what the file was exported from"
            )
        name = f"PyTorch float64, {' '.join(str(known[key]) for key in ('model', 'checkpoint') if key in known)}"
        return _Reference(name, _answers(TorchSession(deployable), pictures, name, self._progress))


def _recorded(subject: _Subject) -> Path:
    """Find the checkpoint that a file was exported from, by name and SHA-256."""
    path, known = subject.path, subject.card.provenance
    ways = f"--against with {_WAYS}"
    if "model" in known or "checkpoint" not in known:
        made = f"was exported from {known['model']}" if "model" in known else "names no checkpoint"
        raise LrpEdgeError(f"{path} {made}, and no file can prove itself; say what to compare it with: {ways}")
    name = Path(str(known["checkpoint"]))
    found = [place for place in (path.parent / name.name, name) if place.is_file()]
    if not found:
        raise LrpEdgeError(f"{path} was exported from {name}, which is not beside it; say where it is: {ways}")
    same = [place for place in found if sha256(place) == known.get("sha256")]
    if not same:
        raise LrpEdgeError(
            f"{found[0]} is not the checkpoint that {path} was exported from: its SHA-256 is {sha256(found[0])[:12]}…, "
            f"the card's {str(known.get('sha256'))[:12]}…; say what to compare it with: {ways}"
        )
    return same[0]


class _EngineSession:
    """An engine behind the call of ONNX Runtime's sessions; a frame is repeated where fewer are not taken."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._least = int(engine.card.profile["min"][0]) if engine.card.profile else 1

    def run(self, names: list[str] | None, feeds: dict[str, Any]) -> list[Any]:
        return list(self._engine.run(feeds["image"].repeat(self._least, 0)))


def _answers(session: Session, pictures: Sequence[Picture], what: str, progress: Progress) -> list[Answer]:
    answers: list[Answer] = []
    progress(what, 0, len(pictures))
    for picture in pictures:
        answers += run_frames(session, [picture.image])
        progress(what, len(answers), len(pictures))
    return answers


@dataclass(frozen=True)
class _Case:
    """A file with what it must answer."""

    subject: _Subject
    reference: _Reference
    pictures: Sequence[Picture]
    tolerance: Tolerance

    def run(self, backend: str, target: Path | None, progress: Progress) -> Result:
        """Compare what a backend answers; raises `_UnableError` if it does not."""
        subject, reference = self.subject, self.reference
        with self._session(backend) as session:
            start = perf_counter()
            try:
                found = _answers(session, self.pictures, f"{subject.path.name} on {backend}", progress)
            except LrpEdgeError as error:
                raise _UnableError(error, started=True) from error
            seconds = perf_counter() - start
        parity = compare(found, reference.answers, self._explained())
        source = self.pictures[parity.worst].source
        if target is not None:
            self._draw(found[parity.worst], parity, backend, target)
        beyond = parity.beyond(self.tolerance)
        facts = (subject.path, subject.sha256, backend, subject.card.precision, reference.name)
        return Result(*facts, parity, self.tolerance, beyond, seconds, source, target)

    @contextlib.contextmanager
    def _session(self, backend: str) -> Iterator[Session]:
        with contextlib.ExitStack() as owner:
            try:
                session = self._open(backend, owner)
            except LrpEdgeError as error:
                raise _UnableError(error, started=False) from error
            yield session

    def _open(self, backend: str, owner: contextlib.ExitStack) -> Session:
        subject = self.subject
        if backend in ("types", "cpu") and subject.sha256 == self.reference.sha256:
            raise LrpEdgeError(f"{subject.path} on {backend} is the reference itself; give another --against")
        if backend != "types":
            return _EngineSession(owner.enter_context(open_engine(subject.path, backend)))
        proto, card = load_proto(subject.path)
        try:
            return open_reference(proto, card.precision)
        except LrpEdgeError:
            raise
        except Exception as error:  # of ONNX's evaluator or ONNX Runtime, which have no common base
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise LrpEdgeError(f"{subject.path} is no graph that can be run: {reason}") from error

    def _explained(self) -> list[bool]:
        """Say of each frame whether both sides compute its relevance."""
        gated, defects = self.subject.card.gate or self.reference.gate, self.subject.card.defect_indices
        return [not gated or int(answer[1]) in defects for answer in self.reference.answers]

    def _draw(self, found: Answer, parity: Parity, backend: str, target: Path) -> None:
        picture, card = self.pictures[parity.worst], self.subject.card
        sides = {self.reference.name.partition(",")[0]: self.reference.answers[parity.worst], backend: found}
        caption = f"{self.subject.path.name} on {backend}: {picture.source}, IoU {parity.mask_iou_worst:.4f}"
        write_png(target, draw_sides(picture.image, sides, card, caption))


def _read_frames(source: str | None, cards: Sequence[tuple[Path, ModelCard]], most: int) -> list[Picture]:
    """Read frames, or make some of noise, that all files take."""
    order, size = _common_input(cards)
    return _noise(cards, size, min(most, _NOISE)) if source is None else read_pictures(source, order, size, most)


def _common_input(cards: Sequence[tuple[Path, ModelCard]]) -> tuple[str, tuple[int, int] | None]:
    """Return channel order and size of the frames; None is any size."""
    first, card = cards[0]
    order, sizes = card.input.order, {path: other.input.size for path, other in cards if other.input.size}
    for path, other in cards:
        if other.input.order != order:
            raise LrpEdgeError(f"{first} takes {order} frames, and {path} {other.input.order}; verify them one by one")
    if len(set(sizes.values())) > 1:
        said = ", ".join(f"{path} {size[0]}x{size[1]}" for path, size in sizes.items())
        raise LrpEdgeError(f"the files take frames of several sizes ({said}); verify them one by one")
    return order, next(iter(sizes.values()), None)


def _noise(cards: Sequence[tuple[Path, ModelCard]], size: tuple[int, int] | None, count: int) -> list[Picture]:
    spec = cards[0][1].input
    profiles = [card.profile["opt"][1:] for _, card in cards if card.profile]
    height, width = size or (profiles[0] if profiles else spec.resize or _USUAL)
    frames = random_frames((int(height), int(width)), spec.channels, count)
    return [Picture(f"noise#{index}", frame) for index, frame in enumerate(frames)]


def _notes(
    subjects: Sequence[_Subject], chosen: Sequence[Sequence[str]], origins: Sequence[str], frames: str | None
) -> list[str]:
    notes = []
    if frames is None:
        notes.append(
            "warning: these frames are noise, which is no proof for real ones; only the limits of a broken file apply: "
            "give --frames SOURCE"
        )
    narrow = any(subject.card.precision != "fp32" for subject in subjects)
    floats = [name for name in ("cpu", "openvino") if any(name in names for names in chosen)]
    if narrow and floats:
        notes.append(f"{' and '.join(floats)}: half precision is computed in float32 here; types rounds as a GPU does")
    for subject, origin in zip(subjects, origins, strict=True):
        known = subject.card.provenance
        if Path(origin).suffix == ".safetensors" and known.get("sha256") not in (None, sha256(origin)):
            notes.append(
                f"{subject.path} was exported from {known.get('checkpoint')} {known['sha256'][:12]}…, and {origin} is "
                f"{sha256(origin)[:12]}…"
            )
    return notes


def _names(subjects: Sequence[_Subject]) -> list[str]:
    """Return a name for each file's pictures: its own, with a number where several have it."""
    times = Counter(subject.path.name for subject in subjects)
    names = [subject.path.name for subject in subjects]
    return [name if times[name] == 1 else f"{place}.{name}" for place, name in enumerate(names, 1)]


def _finite(figures: dict[str, Any]) -> dict[str, Any]:
    """Put None in place of NaN and infinity, which JSON does not have."""
    odd = {key for key, value in figures.items() if isinstance(value, float) and not math.isfinite(value)}
    return {key: None if key in odd else value for key, value in figures.items()}
