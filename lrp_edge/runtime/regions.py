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
Int32 = NDArray[np.int32]
#: Numbers of regions, as OpenCV gives them, int [N].
Labels = NDArray[np.intp]

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


@dataclass(frozen=True, slots=True)
class Regions:
    """The regions of a mask: the largest one by one, and all of them as a whole.

    Attributes
    ----------
    listed : tuple of Region
        The largest, by falling area; of equal ones the upper, then the left first.
    count : int
        Number of all.
    area : int
        Pixels of all.
    extent : float
        Longest extent: of all where that was asked for, else of those that are listed; 0 where there is none.
    """

    listed: tuple[Region, ...] = ()
    count: int = 0
    area: int = 0
    extent: float = 0.0

    @classmethod
    def of(cls, regions: Sequence[Region]) -> Regions:
        """Return those of a list that has them all, largest first."""
        extent = max((region.extent for region in regions), default=0.0)
        return cls(tuple(regions), len(regions), sum(region.area for region in regions), extent)


def find_regions(mask: UInt8, relevance: Float32 | None = None, min_area: int = 1) -> tuple[Region, ...]:
    """List all regions of a mask, largest first; parameters as for :func:`survey`."""
    return survey(mask, relevance, min_area).listed


def survey(
    mask: UInt8,
    relevance: Float32 | None = None,
    min_area: int = 1,
    most: int | None = None,
    *,
    longest: bool = False,
) -> Regions:
    """List the largest regions of a mask, and count all.

    A noisy mask has a hundred thousand of them: all are counted in C, and only those that are listed are measured
    one by one.

    Parameters
    ----------
    mask : uint8 [H, W]
        Not zero where a defect is.
    relevance : float32 [H, W], optional
        Relevance of each pixel.
    min_area : int
        Regions of fewer pixels are left out.
    most : int, optional
        How many are listed; by default all.
    longest : bool
        Whether the longest extent is that of all, which may take longer.

    Returns
    -------
    Regions
        What is there.
    """
    left, top, width, height = cv2.boundingRect(mask)
    if not width:
        return Regions()
    box = (slice(top, top + height), slice(left, left + width))
    inside = np.ascontiguousarray(mask[box])
    _, found, table, _ = cv2.connectedComponentsWithStats(inside, connectivity=8)
    labels, stats = np.asarray(found, np.int32), np.asarray(table, np.int32)
    areas = stats[:, cv2.CC_STAT_AREA]
    # The first label is the background's.
    counted = np.flatnonzero(areas[1:] >= min_area) + 1
    if not len(counted):
        return Regions()
    chosen = _largest(stats, counted, most)
    extents = _extents(labels, stats, chosen)
    means = np.zeros(len(stats)) if relevance is None else _means(labels, stats, relevance[box])
    listed = [
        Region(left + x, top + y, w, h, area, extents[index], mean)
        for index, (x, y, w, h, area), mean in zip(
            chosen.tolist(), stats[chosen].tolist(), means[chosen].tolist(), strict=True
        )
    ]
    extent = max(extents.values())
    if longest:
        extent = max(extent, _longest(labels, stats, np.setdiff1d(counted, chosen), extent))
    return Regions(tuple(listed), len(counted), int(areas[counted].sum(dtype=np.int64)), extent)


def _largest(stats: Int32, counted: Labels, most: int | None) -> Labels:
    """Return the labels of the largest regions: by falling area; of equal ones the upper, then the left first."""
    areas = stats[counted, cv2.CC_STAT_AREA]
    if most is not None and most < len(counted):
        least = np.partition(areas, len(areas) - most)[len(areas) - most]
        counted, areas = counted[areas >= least], areas[areas >= least]
    order = np.lexsort((stats[counted, cv2.CC_STAT_LEFT], stats[counted, cv2.CC_STAT_TOP], -areas))
    return counted[order[:most]]


def _longest(labels: Int32, stats: Int32, others: Labels, at_least: float) -> float:
    """Return the longest extent of some regions, as far as it exceeds a length."""
    width, height = stats[others, cv2.CC_STAT_WIDTH], stats[others, cv2.CC_STAT_HEIGHT]
    # From a pixel's edge in one corner of the box to one in the opposite corner.
    bound = np.sqrt(width.astype(np.float64) ** 2 + height.astype(np.float64) ** 2 - 2 * np.minimum(width, height) + 1)
    return max(_extents(labels, stats, others[bound > at_least]).values(), default=0.0)


def _means(labels: Int32, stats: Int32, relevance: Float32) -> NDArray[np.float64]:
    """Return the mean relevance under each label."""
    sums = np.bincount(labels.ravel(), relevance.ravel(), len(stats))
    # Where all is defect the background has no pixel.
    return sums / np.maximum(stats[:, cv2.CC_STAT_AREA], 1)


def _extents(labels: Int32, stats: Int32, chosen: Labels) -> dict[int, float]:
    """Return the greatest distance between two points of the outline of some regions, by their labels."""
    if not len(chosen):
        return {}
    wanted = np.zeros(len(stats), np.uint8)
    wanted[chosen] = 1
    # The outlines of holes lie inside those of regions.
    contours, tree = cv2.findContours(wanted[labels], cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    extents = {}
    for contour, (_, _, _, parent) in zip(contours, tree[0].tolist(), strict=True):
        if parent >= 0:
            continue
        x, y = contour[0, 0]
        index = int(labels[y, x])
        _, _, width, height, _ = stats[index]
        # A noisy mask has thousands of regions, most of them a pixel or a line of some.
        is_line = 1 in (width, height)
        extents[index] = float(max(width, height)) if is_line else _extent(np.asarray(contour, np.int32))
    return extents


def _extent(contour: Int32) -> float:
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

    def reason(self, regions: Regions, mm_per_px: float | None = None) -> str:
        """Say why regions are rejected; empty if they are not.

        Parameters
        ----------
        regions : Regions
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

    @property
    def needs_extents(self) -> bool:
        """Whether it depends on the longest extent of all regions."""
        return self.what == "any extent"

    def _measure(self, regions: Regions) -> float:
        if self.what == "regions":
            return regions.count
        if self.what == "total area":
            return regions.area
        return regions.extent if self.needs_extents else max((region.area for region in regions.listed[:1]), default=0)

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
