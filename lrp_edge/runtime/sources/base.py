"""The interface of sources, and the options that they take."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lrp_edge.errors import LrpEdgeError
from lrp_edge.runtime.frame import Frame

ROTATIONS = (0, 90, 180, 270)


@dataclass(frozen=True)
class SourceOptions:
    """What is asked of a source.

    Attributes
    ----------
    size : (height, width), optional
        Requested from a camera; if it delivers another size, and for files, frames are resized to it.
    fps : float, optional
        Requested from a camera; a file's frames come at this rate.
    roi : (x, y, width, height), optional
        Part of the frame that is used, in pixels, before rotation and resizing.
    rotate : {0, 90, 180, 270}
        Degrees clockwise, after cropping.
    loop : bool
        Restart a file or folder at its end.
    hardware : bool
        Decode where the machine has a decoder for it.
    timeout : float
        Seconds without a frame after which a camera counts as lost.
    credentials : path, optional
        File whose first line is ``user:password``; otherwise ``LRP_EDGE_SOURCE_USER`` and
        ``LRP_EDGE_SOURCE_PASSWORD`` of the environment are used where they are set.
    """

    size: tuple[int, int] | None = None
    fps: float | None = None
    roi: tuple[int, int, int, int] | None = None
    rotate: int = 0
    loop: bool = False
    hardware: bool = False
    timeout: float = 5.0
    credentials: Path | None = None

    def __post_init__(self) -> None:
        if self.rotate not in ROTATIONS:
            raise LrpEdgeError(f"rotation is {self.rotate}; expected 0, 90, 180 or 270 degrees")
        if self.size is not None and min(self.size) < 1:
            raise LrpEdgeError(f"size is {self.size[0]}x{self.size[1]}; expected a height and width of 1 or more")
        if self.fps is not None and self.fps <= 0:
            raise LrpEdgeError(f"fps is {self.fps:g}; expected more than 0")
        if self.timeout <= 0:
            raise LrpEdgeError(f"timeout is {self.timeout:g} seconds; expected more than 0")
        if self.roi is not None and (min(self.roi[:2]) < 0 or min(self.roi[2:]) < 1):
            raise LrpEdgeError(
                f"region of interest is {','.join(map(str, self.roi))}; expected x,y,width,height with x and y of 0 or "
                "more, and a width and height of 1 or more"
            )


class SourceLost(LrpEdgeError):  # noqa: N818
    """A live source cannot be opened, or gives no more frames; it may come back."""


class Source(ABC):
    """Frames in order; each iteration opens the source again and releases it at the end.

    Attributes
    ----------
    name : str
        What logs call it, without credentials.
    live : bool
        Whether it is a camera: it waits for nobody, and is opened again after a loss.
    length : int, or None
        Its number of frames where that is known.
    """

    name: str
    live: bool = False
    length: int | None = None

    def __init__(self) -> None:
        self.interrupted = threading.Event()

    def faults(self) -> list[str]:
        """Return what is known beforehand to be unreadable, without decoding."""
        return []

    def interrupt(self) -> None:
        """End the iteration that is under way in another thread, before its next frame."""
        self.interrupted.set()

    @abstractmethod
    def __iter__(self) -> Iterator[Frame]:
        """Yield frames.

        Raises
        ------
        SourceLost
            If a live source cannot be opened or gives no frame within the timeout.
        """
