"""From a mask to the list of its regions, and from that to a verdict."""

from __future__ import annotations

import math
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

#: Up to this many points, all pairs are compared.
_FEW = 64
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
    left, top, width, height = cv2.boundingRect(mask)
    if not width:
        return ()
    box = (slice(top, top + height), slice(left, left + width))
    inside = np.ascontiguousarray(mask[box])
    count, found, table, _ = cv2.connectedComponentsWithStats(inside, connectivity=8)
    labels, stats = np.asarray(found, np.int32), np.asarray(table, np.int32)
    means = np.zeros(count) if relevance is None else _means(labels, stats, relevance[box])
    extents = _extents(inside, labels, stats, min_area)
    regions = [
        Region(left + x, top + y, w, h, area, extents[index], mean)
        for index, ((x, y, w, h, area), mean) in enumerate(zip(stats.tolist(), means.tolist(), strict=True))
        if index and area >= min_area
    ]
    return tuple(sorted(regions, key=lambda region: (-region.area, region.y, region.x)))


def _means(labels: NDArray[np.int32], stats: NDArray[np.int32], relevance: Float32) -> NDArray[np.float64]:
    """Return the mean relevance under each label."""
    sums = np.bincount(labels.ravel(), relevance.ravel(), len(stats))
    # Where all is defect the background has no pixel.
    return sums / np.maximum(stats[:, cv2.CC_STAT_AREA], 1)


def _extents(inside: UInt8, labels: NDArray[np.int32], stats: NDArray[np.int32], min_area: int) -> dict[int, float]:
    """Return the greatest distance between two points of the outline of each region that is large enough."""
    # The outlines of holes lie inside those of regions.
    contours, tree = cv2.findContours(inside, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    extents = {}
    for contour, (_, _, _, parent) in zip(contours, tree[0].tolist(), strict=True):
        if parent >= 0:
            continue
        x, y = contour[0, 0]
        index = int(labels[y, x])
        _, _, width, height, area = stats[index]
        if area >= min_area:
            # A noisy mask has thousands of regions, most of them a pixel or a line of some.
            is_line = 1 in (width, height)
            extents[index] = float(max(width, height)) if is_line else _extent(np.asarray(contour, np.int32))
    return extents


def _extent(contour: NDArray[np.int32]) -> float:
    outline = (cv2.convexHull(contour).astype(np.float64) + _REACH).reshape(-1, 2)
    if len(outline) > _FEW:
        # The two farthest points of a set are corners of its hull.
        outline = cv2.convexHull(outline.astype(np.float32)).reshape(-1, 2).astype(np.float64)
    x, y = outline.T
    return float(np.sqrt(((x[:, None] - x) ** 2 + (y[:, None] - y) ** 2).max()))


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
            If it is not a rule, or its unit does not fit what is compared.
        """
        match = _RULE.fullmatch(" ".join(text.split()))
        if not match:
            raise LrpEdgeError(f"rule {text!r} is not understood; expected e.g. {_FORMS}")
        what = match["what"].lower()
        pixels, metric = _UNITS[what]
        unit = (match["unit"] or pixels).lower().replace("2", "²")
        unit = "px" if unit == "px²" and metric == "mm²" else unit
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
                raise LrpEdgeError(f"rule '{self}' is in millimetres; give the size of a pixel with --mm-per-px")
            found *= mm_per_px ** (2 if self.unit == "mm²" else 1)
        # 250 pixels of 0.1 mm are 2.5 mm², which floating point misses by its last digit.
        same = math.isclose(found, self.limit, rel_tol=1e-9)
        if not _SIGNS[self.sign](self.limit if same else found, self.limit):
            return ""
        return f"{self.what} {_short(found)}{self._suffix} {self._comparison}"

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

    @property
    def _comparison(self) -> str:
        return f"{self.sign} {self.limit:.15g}{self._suffix}"

    def __str__(self) -> str:
        return f"{self.what} {self._comparison}"


def _short(value: float) -> str:
    return f"{value:.4g}" if value < 10_000 else f"{value:.0f}"
