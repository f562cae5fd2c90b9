"""How bad it is: number, area and extent of the regions of a mask."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lrp_edge.errors import needs_extra

with needs_extra("evaluate"):
    from skimage.measure import label, regionprops


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
    regions = regionprops(label(mask, connectivity=2))
    extent = max((float(region.feret_diameter_max) for region in regions), default=0.0)
    return Severity(len(regions), int(mask.sum()), extent)
