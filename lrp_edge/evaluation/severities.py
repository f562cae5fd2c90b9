"""How bad it is: number, area and extent of the regions of a mask."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lrp_edge.runtime.regions import survey


@dataclass(frozen=True)
class Severity:
    """Regions of one mask, joined across corners.

    Attributes
    ----------
    count : int
        Their number.
    area : int
        Pixels of all of them.
    extent : float
        Greatest distance between two points of one of them, in pixels (the maximum Feret diameter).
    """

    count: int
    area: int
    extent: float


def severity(mask: NDArray[np.bool_]) -> Severity:
    """Measure the regions of a mask, bool [H, W]."""
    regions = survey(mask.astype(np.uint8), most=1, longest=True)
    return Severity(regions.count, regions.area, regions.extent)
