"""What a model says of a frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Segmentation:
    """Class and mask of one frame.

    Attributes
    ----------
    label : int
        Index of the predicted class.
    name : str
        Its name.
    defect : bool
        Whether it counts as a defect.
    scores : float32 [K]
        Score of each class.
    mask : uint8 [H, W]
        255 where the defect is, else 0; empty for a frame without defect.
    relevance : float32 [H, W]
        Relevance of each pixel for the explained class.
    milliseconds : float
        Time of the engine's call, divided by the frames in it.
    """

    label: int
    name: str
    defect: bool
    scores: NDArray[np.float32]
    mask: NDArray[np.uint8]
    relevance: NDArray[np.float32]
    milliseconds: float
