"""The interface of sources, and the options that they take."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator

from lrp_edge.errors import LrpEdgeError
from lrp_edge.runtime.config import SourceOptions
from lrp_edge.runtime.result import Frame

__all__ = ["Source", "SourceLost", "SourceOptions"]


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
