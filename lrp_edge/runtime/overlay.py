"""A frame with its verdict drawn on it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lrp_edge.errors import needs_extra
from lrp_edge.runtime.regions import Region
from lrp_edge.runtime.result import Result, Segmentation

with needs_extra("cpu"):
    import cv2

UInt8 = NDArray[np.uint8]

_OK, _DEFECT, _TEXT = (96, 150, 40), (48, 48, 214), (255, 255, 255)
_TINT, _BOX = (40, 40, 255), (0, 220, 255)
_SMALLEST_SIDE, _HEADER, _MOST_BOXES = 320, 28, 50
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def draw_overlay(
    frame: UInt8,
    segmentation: Segmentation,
    order: str = "BGR",
    regions: Sequence[Region] = (),
    *,
    mm_per_px: float | None = None,
    verdict: str = "",
    bad: bool | None = None,
) -> UInt8:
    """Draw mask, regions and verdict on a frame.

    Parameters
    ----------
    frame : uint8 [H, W, C]
        The frame.
    segmentation : Segmentation
        What the model says of it.
    order : {"BGR", "RGB", "GRAY"}
        The frame's channel order.
    regions : sequence of Region
        Boxed, with their area.
    mm_per_px : float, optional
        Areas are written in mm² where it is given, else in pixels.
    verdict : str
        Put before the class in the header.
    bad : bool, optional
        Whether the header is red; by default for a defect.

    Returns
    -------
    uint8 [H', W', 3]
        BGR; small frames enlarged by a whole factor, a header strip with class and score on top.
    """
    canvas = to_bgr(frame, order)
    factor = max(1, -(-_SMALLEST_SIDE // max(canvas.shape[:2])))
    mask = segmentation.mask
    if factor > 1:
        canvas = np.asarray(cv2.resize(canvas, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC), np.uint8)
        mask = np.asarray(cv2.resize(mask, None, fx=factor, fy=factor, interpolation=cv2.INTER_NEAREST), np.uint8)
    thickness = max(1, max(canvas.shape[:2]) // 400)
    if cv2.countNonZero(mask):
        tinted = cv2.addWeighted(canvas, 0.65, np.full_like(canvas, _TINT), 0.35, 0)
        cv2.copyTo(tinted, mask, canvas)
        contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(canvas, contours, -1, _TINT, thickness, cv2.LINE_AA)
    for region in regions[:_MOST_BOXES]:
        _box(canvas, region, factor, thickness, mm_per_px)
    bad = segmentation.defect if bad is None else bad
    return np.vstack([_header(canvas.shape[1], segmentation, verdict, bad), canvas])


def draw_result(result: Result, order: str = "BGR") -> UInt8:
    """Draw a pipeline's result; as :func:`draw_overlay`, with its verdict. It must have pixels and a segmentation."""
    assert result.frame.image is not None
    assert result.segmentation is not None
    return draw_overlay(
        result.frame.image,
        result.segmentation,
        order,
        result.regions,
        mm_per_px=result.mm_per_px,
        verdict="REJECT" if result.reject else "ACCEPT",
        bad=result.reject,
    )


def draw_relevance(result: Segmentation) -> UInt8:
    """Return relevance as colours, uint8 BGR [H, W, 3]: red speaks for the explained class, blue against it."""
    scale = float(np.abs(result.relevance).max()) or 1.0
    share = np.clip(result.relevance / scale, -1, 1)
    strength = np.sqrt(np.abs(share))[..., None]
    colour = np.where(share[..., None] >= 0, np.array([45, 45, 220]), np.array([220, 90, 30]))
    return np.asarray(255 - strength * (255 - colour), np.uint8)


def to_bgr(frame: UInt8, order: str) -> UInt8:
    """Return a frame as a BGR image of its own."""
    if order == "GRAY":
        return np.repeat(frame.reshape(*frame.shape[:2], 1), 3, 2)
    return np.ascontiguousarray(frame[..., ::-1]) if order == "RGB" else frame.copy()


def _box(canvas: UInt8, region: Region, factor: int, thickness: int, mm_per_px: float | None) -> None:
    left, top = region.x * factor, region.y * factor
    right, bottom = left + region.width * factor - 1, top + region.height * factor - 1
    cv2.rectangle(canvas, (left, top), (right, bottom), _BOX, thickness)
    size = f"{region.area} px" if mm_per_px is None else f"{region.area * mm_per_px**2:.3g} mm2"
    scale = 0.4 * max(1.0, max(canvas.shape[:2]) / 800)
    (width, height), _ = cv2.getTextSize(size, _FONT, scale, thickness)
    x = max(0, min(left, canvas.shape[1] - width))
    y = top - 4 if top - 4 >= height else min(bottom + height + 5, canvas.shape[0] - 2)
    cv2.putText(canvas, size, (x, y), _FONT, scale, (0, 0, 0), thickness + 2, cv2.LINE_AA)
    cv2.putText(canvas, size, (x, y), _FONT, scale, _BOX, thickness, cv2.LINE_AA)


def _header(width: int, segmentation: Segmentation, verdict: str, bad: bool) -> UInt8:
    strip = np.full((_HEADER, width, 3), _DEFECT if bad else _OK, np.uint8)
    score = f"{segmentation.scores[segmentation.label]:.0%}"
    title = f"{verdict}: {segmentation.name}" if verdict else segmentation.name
    score_width = cv2.getTextSize(score, _FONT, 0.5, 1)[0][0]
    title_width = cv2.getTextSize(title, _FONT, 0.5, 1)[0][0]
    scale = min(0.5, 0.5 * max(1, width - score_width - 28) / title_width)
    cv2.putText(strip, title, (8, 19), _FONT, scale, _TEXT, 1, cv2.LINE_AA)
    cv2.putText(strip, score, (width - score_width - 8, 19), _FONT, 0.5, _TEXT, 1, cv2.LINE_AA)
    return strip
