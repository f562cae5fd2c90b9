"""Whether files still compute what they were exported from: the same frames through a reference and through each file.

A file is run by each backend that fits it and answers here. What cannot be run is listed with its reason, for a file
that nothing ran is not verified.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter

from lrp_edge.errors import LrpEdgeError, first_line
from lrp_edge.export.origin import sha256
from lrp_edge.export.read import load_proto
from lrp_edge.export.verify.backends import Subject, check_asked, choose
from lrp_edge.export.verify.frames import Picture, common_pictures
from lrp_edge.export.verify.options import Limits, VerifyOptions
from lrp_edge.export.verify.parity import PROMISED, SOUND, Answer, Parity, Session, Tolerance, compare, run_frames
from lrp_edge.export.verify.pictures import draw_sides, write_png
from lrp_edge.export.verify.references import EngineSession, Progress, Reference, References, answers_of
from lrp_edge.export.verify.report import Result, Unavailable, Verification
from lrp_edge.export.verify.shapes import answers_in_batches, batch_sizes, end_pictures
from lrp_edge.export.verify.typed_evaluator import open_reference
from lrp_edge.files import claim_folder
from lrp_edge.options import PictureOptions, make
from lrp_edge.runtime.engines import open_engine


def verify(
    files: Sequence[str | Path],
    *,
    against: str | Path | None = None,
    weights: str | Path | None = None,
    frames: str | None = None,
    bits: int | None = None,
    max_megapixels: float = PictureOptions.max_megapixels,
    most: int = VerifyOptions.most,
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
        lies next to the file or where it was, and has the SHA-256 of the card.
    weights : path, optional
        Weights for ``module:factory``.
    frames : str, optional
        Image, folder, glob or video; by default 8 frames of noise, for which
        :data:`~lrp_edge.export.verify.parity.SOUND` takes the place of
        :data:`~lrp_edge.export.verify.parity.PROMISED`.
    bits, max_megapixels
        See :class:`~lrp_edge.options.PictureOptions`.
    most : int
        Take so many frames, evenly from the whole source.
    backends : sequence of str, optional
        Of :data:`~lrp_edge.export.verify.backends.BACKENDS`; by default all that fit the file.
    tolerance : mapping of str to float, optional
        Fields of :class:`~lrp_edge.export.verify.parity.Tolerance` in place of those for the file's precision.
    output : path, optional
        Folder for ``<file>.<backend>.worst.png``, the worst frame of each; created if it does not exist.
    progress : callable
        Called with what is run, the frames done and all frames.

    Raises
    ------
    LrpEdgeError
        If a file or the reference cannot be read, they do not take the same frames, a frame cannot be read or has not
        their size, or a backend that was asked for does not exist, fits no file or cannot run one.
    """
    limits = {name: limit for name, limit in asdict(make(Limits, tolerance or {})).items() if limit is not None}
    options = VerifyOptions(
        against=None if against is None else str(against),
        weights=None if weights is None else Path(weights),
        frames="" if frames is None else str(frames),
        bits=bits,
        max_megapixels=max_megapixels,
        most=most,
        backends=None if backends is None else tuple(backends),
        output=None if output is None else Path(output),
    )
    return _verify([Subject.read(Path(file)) for file in files], options, limits, progress)


def _verify(
    subjects: Sequence[Subject], options: VerifyOptions, tolerance: Mapping[str, float], progress: Progress
) -> Verification:
    frames, backends = options.frames, options.backends
    chosen = [choose(subject, backends) for subject in subjects]
    check_asked(subjects, backends)
    references = References(options.against, options.weights, progress)
    origins = [references.origin(subject) for subject in subjects]
    of_frames = PictureOptions(options.bits, options.max_megapixels)
    pictures = common_pictures(frames or None, references.cards(subjects), options.most, of_frames)
    folder = claim_folder(options.output) if options.output else None
    found = Verification([subject.path for subject in subjects], frames or "noise", len(pictures))
    found.notes.extend(_notes(subjects, chosen, origins, frames))
    limits = PROMISED if frames else SOUND
    for name, subject, names, origin in zip(_names(subjects), subjects, chosen, origins, strict=True):
        limit = dataclasses.replace(limits[subject.card.precision], **tolerance)
        case = _Case(subject, references.open(subject, origin, pictures), pictures, limit)
        ends = end_pictures(subject.card, pictures[0])
        at_ends = _Case(subject, references.open(subject, origin, ends), ends, limit) if ends else None
        for backend in names:
            try:
                target = folder and folder / f"{name}.{backend}.worst.png"
                found.results.append(case.run(backend, target, progress, at_ends))
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
class _Case:
    """A file with what it must answer."""

    subject: Subject
    reference: Reference
    pictures: Sequence[Picture]
    tolerance: Tolerance

    def run(self, backend: str, target: Path | None, progress: Progress, at_ends: _Case | None) -> Result:
        """Compare what a backend answers; raises `_UnableError` if it does not."""
        subject, reference = self.subject, self.reference
        with self._session(backend) as session:
            start = perf_counter()
            try:
                found = answers_of(session, self.pictures, f"{subject.path.name} on {backend}", progress)
                seconds = perf_counter() - start
                shapes = {} if backend == "types" else dict(self._other_shapes(session, at_ends))
            except LrpEdgeError as error:
                raise _UnableError(error, started=True) from error
        parity = compare(found, reference.answers, self._explained())
        source = self.pictures[parity.worst].source
        if target is not None:
            self._draw(found[parity.worst], parity, backend, target)
        beyond = parity.beyond(self.tolerance)
        for shape, other in shapes.items():
            beyond += [f"{shape}: {said}" for said in other.beyond(self.tolerance)]
        facts = (subject.path, subject.sha256, backend, subject.card.precision, reference.name)
        return Result(*facts, parity, self.tolerance, beyond, seconds, source, target, shapes)

    def _other_shapes(self, session: Session, at_ends: _Case | None) -> Iterator[tuple[str, Parity]]:
        """Yield the parity of calls of other shapes than one frame of those given."""
        explained = self._explained()
        for size in batch_sizes(self.subject.card):
            rows = list(answers_in_batches(session, self.pictures, size))
            expected = [self.reference.answers[index] for index, _ in rows]
            yield (
                f"batch {size}",
                compare([answer for _, answer in rows], expected, [explained[index] for index, _ in rows]),
            )
        for place, picture in enumerate(at_ends.pictures if at_ends else ()):
            assert at_ends is not None
            height, width = picture.image.shape[:2]
            answer = run_frames(session, [picture.image])
            yield (
                f"{height}x{width}",
                compare(answer, [at_ends.reference.answers[place]], [at_ends._explained()[place]]),
            )

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
            return EngineSession(owner.enter_context(open_engine(subject.path, backend)))
        proto, card = load_proto(subject.path)
        try:
            return open_reference(proto, card.precision)
        except LrpEdgeError:
            raise
        except Exception as error:  # of ONNX's evaluator or ONNX Runtime, which have no common base
            raise LrpEdgeError(f"{subject.path} is not a graph that can be run: {first_line(error)}") from error

    def _explained(self) -> list[bool]:
        """Say of each frame whether both sides compute its relevance."""
        gated, defects = self.subject.card.gate or self.reference.gate, self.subject.card.defect_indices
        return [not gated or int(answer[1]) in defects for answer in self.reference.answers]

    def _draw(self, found: Answer, parity: Parity, backend: str, target: Path) -> None:
        picture, card = self.pictures[parity.worst], self.subject.card
        sides = {self.reference.name.partition(",")[0]: self.reference.answers[parity.worst], backend: found}
        caption = f"{self.subject.path.name} on {backend}: {picture.source}, IoU {parity.mask_iou_worst:.4f}"
        write_png(target, draw_sides(picture.image, sides, card, caption))


def _notes(
    subjects: Sequence[Subject], chosen: Sequence[Sequence[str]], origins: Sequence[str], frames: str
) -> list[str]:
    notes = []
    if not frames:
        notes.append(
            "warning: these frames are noise, which proves nothing about real ones; only the limits for a broken file "
            "apply: give --frames SOURCE"
        )
    narrow = any(subject.card.precision != "fp32" for subject in subjects)
    floats = [name for name in ("cpu", "openvino") if any(name in names for names in chosen)]
    if narrow and floats:
        notes.append(f"{' and '.join(floats)}: half precision is computed in float32 here; types rounds as a GPU does")
    notes += [
        f"{subject.path} is not usable, whatever its parity: {'; '.join(subject.card.unusable)}"
        for subject in subjects
        if subject.card.unusable
    ]
    for subject, origin in zip(subjects, origins, strict=True):
        known = subject.card.provenance
        if Path(origin).suffix == ".safetensors" and known.get("sha256") not in (None, sha256(origin)):
            notes.append(
                f"{subject.path} was exported from {known.get('checkpoint')} {known['sha256'][:12]}…, and {origin} is "
                f"{sha256(origin)[:12]}…"
            )
    return notes


def _names(subjects: Sequence[Subject]) -> list[str]:
    """Return a name for each file's pictures: its own, with a number where several have it."""
    times = Counter(subject.path.name for subject in subjects)
    names = [subject.path.name for subject in subjects]
    return [name if times[name] == 1 else f"{place}.{name}" for place, name in enumerate(names, 1)]
