"""What files are compared with: their origin in float64, or another file, with its answers to the frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lrp_edge.card import ModelCard
from lrp_edge.errors import LrpEdgeError
from lrp_edge.export.deployable import Deployable
from lrp_edge.export.origin import load_model, sha256
from lrp_edge.export.read import card_of
from lrp_edge.export.verify.backends import Subject
from lrp_edge.export.verify.frames import USUAL, Picture
from lrp_edge.export.verify.parity import Answer, Session, TorchSession, run_frames
from lrp_edge.runtime.engines import Engine, open_engine

#: Called with what is run, the frames done and all of them.
Progress = Callable[[str, int, int], None]

_WAYS = "a checkpoint, module:factory or an .onnx file in fp32"


@dataclass(frozen=True)
class Reference:
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


class References:
    """References by what they depend on: files of one model and card, whatever their precision, share one."""

    def __init__(self, against: str | Path | None, weights: str | Path | None, progress: Progress) -> None:
        if weights is not None and against is None:
            raise LrpEdgeError("weights are for a module:factory; give that with --against")
        self._against, self._weights, self._progress = against, weights, progress
        self._kept: dict[tuple[str, str, tuple[str, ...]], Reference] = {}

    @property
    def _file(self) -> Path | None:
        """The exported file to compare with, if it is one."""
        return Path(self._against) if self._against is not None and Path(self._against).suffix == ".onnx" else None

    def origin(self, subject: Subject) -> str:
        """Return the source of a file's reference."""
        if self._against is None:
            return str(_recorded(subject))
        source = str(self._against)
        if ":" not in source and not Path(source).is_file():
            raise LrpEdgeError(f"no file at {source} to compare with; expected {_WAYS}")
        return source

    def cards(self, subjects: Sequence[Subject]) -> list[tuple[Path, ModelCard]]:
        """Return path and card of each file that is run on the frames.

        Raises
        ------
        LrpEdgeError
            If the file to compare with is not in float32, or has other classes or another threshold.
        """
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
            if _threshold(other) != _threshold(card):
                raise LrpEdgeError(
                    f"{path} decides {_threshold(other)}, and {self._file} {_threshold(card)}; expected files of one "
                    "decision: lrp-edge calibrate sets it, and engines are then built again"
                )
        return [*cards, (self._file, card)]

    def open(self, subject: Subject, origin: str, pictures: Sequence[Picture]) -> Reference:
        """Return the reference's answers to all frames.

        Raises
        ------
        LrpEdgeError
            If the origin cannot be loaded or run, or has not the classes of the file.
        """
        frames = tuple(picture.source for picture in pictures)
        if self._file is not None:
            return self._once((origin, "", frames), lambda: self._of_file(Path(origin), pictures))
        card = subject.card.replace(precision="fp32", gate=False, profile={}, engine={}, provenance={}, parity={})
        return self._once(
            (origin, card.to_json(), frames), lambda: self._of_model(subject.path, card, origin, pictures)
        )

    def _once(self, key: tuple[str, str, tuple[str, ...]], make: Callable[[], Reference]) -> Reference:
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    def _of_file(self, file: Path, pictures: Sequence[Picture]) -> Reference:
        name = f"ONNX Runtime float32, {file.name}"
        with open_engine(file, "cpu") as engine:
            answers = answers_of(EngineSession(engine), pictures, name, self._progress)
            return Reference(name, answers, engine.card.gate, sha256(file))

    def _of_model(self, path: Path, card: ModelCard, origin: str, pictures: Sequence[Picture]) -> Reference:
        network, _, known = load_model(origin, self._weights, len(card.classes))
        spec = card.input
        size = spec.size or spec.resize or USUAL
        deployable = Deployable(network, card, size, any_size=spec.size is None).eval()
        if deployable.unrolled.classes != len(card.classes):
            raise LrpEdgeError(
                f"{origin} has {deployable.unrolled.classes} outputs, and {path} the classes "
                f"{', '.join(card.classes)}; expected what the file was exported from"
            )
        name = f"PyTorch float64, {' '.join(str(known[key]) for key in ('model', 'checkpoint') if key in known)}"
        return Reference(name, answers_of(TorchSession(deployable), pictures, name, self._progress))


def _threshold(card: ModelCard) -> str:
    return f"at a threshold of {card.decision.threshold:.6g}" if card.decision else "by the greatest score"


def _recorded(subject: Subject) -> Path:
    """Find the checkpoint that a file was exported from, by name and SHA-256."""
    path, known = subject.path, subject.card.provenance
    ways = f"--against with {_WAYS}"
    if "model" in known or "checkpoint" not in known:
        made = f"was exported from {known['model']}" if "model" in known else "names no checkpoint"
        raise LrpEdgeError(
            f"{path} {made}, and a file cannot be verified against itself; say what to compare it with: {ways}"
        )
    name = Path(str(known["checkpoint"]))
    places = (path.parent / name.name, path.parent / str(known.get("path", name.name)), name)
    found = [place for place in places if place.is_file()]
    if not found:
        raise LrpEdgeError(
            f"{path} was exported from {name}, which is neither next to it nor where it was; say where it is: {ways}"
        )
    same = [place for place in found if sha256(place) == known.get("sha256")]
    if not same:
        raise LrpEdgeError(
            f"{found[0]} is not the checkpoint that {path} was exported from: its SHA-256 is {sha256(found[0])[:12]}…, "
            f"the card's {str(known.get('sha256'))[:12]}…; say what to compare it with: {ways}"
        )
    return same[0]


class EngineSession:
    """An engine behind the call of ONNX Runtime's sessions; a frame is repeated where fewer are not taken."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._least = int(engine.card.profile["min"][0]) if engine.card.profile else 1

    def run(self, names: list[str] | None, feeds: dict[str, Any]) -> list[Any]:
        frames = feeds["image"]
        return list(self._engine.run(frames if len(frames) >= self._least else frames.repeat(self._least, 0)))


def answers_of(session: Session, pictures: Sequence[Picture], what: str, progress: Progress) -> list[Answer]:
    """Run frames one by one, and return the answer to each."""
    answers: list[Answer] = []
    progress(what, 0, len(pictures))
    for picture in pictures:
        answers += run_frames(session, [picture.image])
        progress(what, len(answers), len(pictures))
    return answers
