"""Files that are to be verified, and what may run each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lrp_edge.card import ModelCard
from lrp_edge.errors import LrpEdgeError
from lrp_edge.export.origin import sha256
from lrp_edge.export.read import card_of
from lrp_edge.export.verify.options import BACKENDS
from lrp_edge.runtime.engines.engine_file import EngineFile

_FOR_ONNX = ("types", "cpu", "openvino", "cuda", "tensorrt", "nv_tensorrt_rtx")


@dataclass(frozen=True)
class Subject:
    """A file that is to be verified.

    Attributes
    ----------
    path : Path
        The file.
    card : ModelCard
        Its card.
    sha256 : str
        Its SHA-256, in hexadecimal.
    """

    path: Path
    card: ModelCard
    sha256: str

    @classmethod
    def read(cls, path: Path) -> Subject:
        """Read a file's card.

        Raises
        ------
        LrpEdgeError
            If it is neither an ONNX nor an engine file of ours.
        """
        if path.suffix not in (".onnx", ".engine"):
            raise LrpEdgeError(f"{path}: expected an .onnx file of lrp-edge export or an .engine of lrp-edge compile")
        card = card_of(path) if path.suffix == ".onnx" else EngineFile.read(path).card
        return cls(path, card, sha256(path))

    @property
    def backends(self) -> tuple[str, ...]:
        """Those of :data:`BACKENDS` that the file is for."""
        return _FOR_ONNX if self.path.suffix == ".onnx" else (str(self.card.engine["product"]),)


def choose(subject: Subject, asked: Sequence[str] | None) -> list[str]:
    """Return the backends to run a file on: those asked for that fit it, by default all that do.

    Raises
    ------
    LrpEdgeError
        If none of those asked for fits the file.
    """
    if asked is None:
        # In float32 the types' own computation is that of ONNX Runtime on the CPU.
        return [name for name in subject.backends if name != "types" or subject.card.precision != "fp32"]
    fitting = [name for name in dict.fromkeys(asked) if name in subject.backends]
    if not fitting:
        raise LrpEdgeError(
            f"{subject.path} is not for {' or '.join(asked)}; expected {' or '.join(subject.backends)}: ask for that "
            "too, or leave the file out"
        )
    return fitting


def check_asked(subjects: Sequence[Subject], asked: Sequence[str] | None) -> None:
    """Refuse a backend that was asked for and would run nothing.

    Raises
    ------
    LrpEdgeError
        If there is one.
    """
    for name in asked or ():
        if not any(name in subject.backends for subject in subjects):
            raise LrpEdgeError(f"backend {name} runs none of the files: it is for {BACKENDS[name]}")
