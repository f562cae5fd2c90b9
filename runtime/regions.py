"""From a mask to the list of its regions, and from that to a verdict."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lrp_edge.errors import LrpEdgeError, needs_extra

with needs_extra("cpu"):
    import cv2

UInt8 = NDArray[np.uint8]
Float32 = NDArray[np.float32]

# A pixel reaches half a pixel from its centre along the axes, as the half-level contour of a mask does.
_REACH = np.array([[0.5, 0.0], [-0.5, 0.0], [0.0, 0.5], [0.0, -0.5]])


@dataclass(frozen=True, slots=True)
class Region:
    """A connected region of a mask; pixels that touch at a corner are connected.

    Attributes
    ----------
    x, y, width, height : int
        Bounding box in pixels, from the frame's upper left corner.
    area : int
        Pixels.
    extent : float
        Greatest distance between two points of its outline in pixels (the maximum Feret diameter).
    relevance : float
        Mean relevance of its pixels.
    """

    x: int
    y: int
    width: int
    height: int
    area: int
    extent: float
    relevance: float


def find_regions(mask: UInt8, relevance: Float32 | None = None, min_area: int = 1) -> tuple[Region, ...]:
    """List the regions of a mask, largest first.

    Parameters
    ----------
    mask : uint8 [H, W]
        Not zero where a defect is.
    relevance : float32 [H, W], optional
        Relevance of each pixel.
    min_area : int
        Regions of fewer pixels are left out.

    Returns
    -------
    tuple of Region
        By falling area; of equal ones the upper, then the left first.
    """
    if not cv2.countNonZero(mask):
        return ()
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    regions = [
        _region(labels, index, stats[index], relevance)
        for index in range(1, count)
        if stats[index, cv2.CC_STAT_AREA] >= min_area
    ]
    return tuple(sorted(regions, key=lambda region: (-region.area, region.y, region.x)))


def _region(labels: NDArray[np.int32], index: int, stats: NDArray[np.int32], relevance: Float32 | None) -> Region:
    x, y, width, height, area = (int(value) for value in stats)
    box = (slice(y, y + height), slice(x, x + width))
    inside = labels[box] == index
    mean = float(relevance[box][inside].mean()) if relevance is not None else 0.0
    return Region(x, y, width, height, area, _extent(inside), mean)


def _extent(inside: NDArray[np.bool_]) -> float:
    """Return the greatest distance between two points of a region's outline."""
    contours, _ = cv2.findContours(inside.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    centres = cv2.convexHull(contours[0]).reshape(-1, 1, 2).astype(np.float64)
    outline = (centres + _REACH).reshape(-1, 2)
    # The two farthest points of a set are corners of its hull, of which there are few.
    corners = cv2.convexHull(outline.astype(np.float32)).reshape(-1, 2).astype(np.float64)
    return float(np.sqrt(((corners[:, None] - corners[None]) ** 2).sum(2).max()))


_RULE = re.compile(
    r"(?:reject\s+if\s+)?(?P<what>any region|total area|any extent|regions)\s*(?P<sign>>=|>)\s*"
    r"(?P<limit>\d+(?:\.\d+)?)\s*(?P<unit>mm2|mm²|mm|px2|px²|px)?",
    re.IGNORECASE,
)
_SIGNS: dict[str, Callable[[float, float], bool]] = {">": operator.gt, ">=": operator.ge}
_UNITS = {"any region": ("px", "mm²"), "total area": ("px", "mm²"), "any extent": ("px", "mm"), "regions": ("", "")}
_FORMS = "'any region > 2.5 mm2', 'total area > 400 px', 'any extent > 3 mm' or 'regions > 4'"


@dataclass(frozen=True)
class Rule:
    """When a part is rejected by the regions of its mask.

    Attributes
    ----------
    what : {"any region", "total area", "any extent", "regions"}
        What is compared: the largest region's area, the area of all, the longest extent, or their number.
    sign : {">", ">="}
        How.
    limit : float
        With what.
    unit : {"px", "mm", "mm²", ""}
        The limit's unit.
    """

    what: str
    sign: str
    limit: float
    unit: str

    @classmethod
    def parse(cls, text: str) -> Rule:
        """Read a rule such as ``reject if any region > 2.5 mm2``; the first two words may be left out.

        Raises
        ------
        LrpEdgeError
            If it is none, or its unit is not one of what is compared.
        """
        match = _RULE.fullmatch(" ".join(text.split()))
        if not match:
            raise LrpEdgeError(f"rule {text!r} is not understood; expected e.g. {_FORMS}")
        what = match["what"].lower()
        pixels, metric = _UNITS[what]
        unit = (match["unit"] or pixels).lower().replace("2", "²")
        unit = "px" if unit == "px²" and pixels else unit
        if unit not in (pixels, metric):
            raise LrpEdgeError(f"rule {text!r}: {what!r} is not measured in {unit}; expected e.g. {_FORMS}")
        return cls(what, match["sign"], float(match["limit"]), unit)

    @property
    def needs_scale(self) -> bool:
        """Whether it can be applied only where millimetres per pixel are known."""
        return self.unit in ("mm", "mm²")

    def reason(self, regions: Sequence[Region], mm_per_px: float | None = None) -> str:
        """Say why regions are rejected; empty if they are not.

        Parameters
        ----------
        regions : sequence of Region
            Those of one frame.
        mm_per_px : float, optional
            Millimetres of a pixel's side, for a rule in millimetres.

        Raises
        ------
        LrpEdgeError
            If the rule is in millimetres and the scale is not known.
        """
        found = self._measure(regions)
        if self.needs_scale:
            if mm_per_px is None:
                raise LrpEdgeError(f"rule '{self}' is in millimetres; say how many a pixel has with --mm-per-px")
            found *= mm_per_px ** (2 if self.unit == "mm²" else 1)
        return f"{self.what} {_short(found)}{self._suffix} {self.sign} {_short(self.limit)}{self._suffix}" * _SIGNS[
            self.sign
        ](found, self.limit)

    def _measure(self, regions: Sequence[Region]) -> float:
        if self.what == "regions":
            return len(regions)
        if self.what == "total area":
            return sum(region.area for region in regions)
        values = (region.extent if self.what == "any extent" else region.area for region in regions)
        return max(values, default=0)

    @property
    def _suffix(self) -> str:
        return f" {self.unit}" if self.unit else ""

    def __str__(self) -> str:
        return f"{self.what} {self.sign} {_short(self.limit)}{self._suffix}"


def _short(value: float) -> str:
    return f"{value:.4g}" if value < 10_000 else f"{value:.0f}"
