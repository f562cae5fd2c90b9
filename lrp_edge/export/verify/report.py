"""What a verification found: each file on each backend, what could not be run, and whether that proves the files."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lrp_edge.export.verify.parity import Parity, Tolerance


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
        One of :data:`~lrp_edge.export.verify.backends.BACKENDS`.
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
    shapes : dict of str to Parity
        The differences in calls of other shapes: ``"batch N"``, and ``"HxW"`` for the ends of an engine's profile.
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
    shapes: dict[str, Parity] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON; a figure that is not finite is None."""
        return {
            **vars(self),
            "file": str(self.file),
            "parity": _finite(self.parity.as_dict(self.reference)),
            "tolerance": _finite(dataclasses.asdict(self.tolerance)),
            "shapes": {shape: _finite(parity.as_dict(self.reference)) for shape, parity in self.shapes.items()},
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
        One of :data:`~lrp_edge.export.verify.backends.BACKENDS`.
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


def _finite(figures: dict[str, Any]) -> dict[str, Any]:
    """Put None in place of NaN and infinity, which JSON does not have."""
    odd = {key for key, value in figures.items() if isinstance(value, float) and not math.isfinite(value)}
    return {key: None if key in odd else value for key, value in figures.items()}
