"""A frame of a source, or a note that it could not be read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame, or the note that it could not be read: no black or repeated image takes its place.

    Attributes
    ----------
    index : int
        Its position in the source, from 0; in a pipeline its id: counted over the whole run, reconnects included.
    source : str
        Where it is from, without credentials: a file; for a video with ``#`` and the frame's number; a camera.
    image : uint8 [H, W, C], or None
        Pixels in the asked channel order; None where there are none.
    timestamp : float
        When it was captured by the wall clock, in seconds since the epoch.
    captured : float
        The same moment by :func:`time.perf_counter`, which no clock adjustment moves.
    error : str
        Why there are no pixels.
    """

    index: int
    source: str
    image: NDArray[np.uint8] | None
    timestamp: float
    captured: float = 0.0
    error: str = ""
