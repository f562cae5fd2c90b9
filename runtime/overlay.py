"""A frame with its verdict drawn on it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lrp_edge.errors import needs_extra
from lrp_edge.runtime.segmentation import Segmentation

with needs_extra("cpu"):
    import cv2

UInt8 = NDArray[np.uint8]

_OK, _DEFECT, _TEXT = (96, 150, 40), (48, 48, 214), (255, 255, 255)
_TINT = (40, 40, 255)
_SMALLEST_SIDE = 320


def draw_overlay(frame: UInt8, result: Segmentation, order: str = "BGR") -> UInt8:
    """Draw mask and verdict on a frame.

    Parameters
    ----------
    frame : uint8 [H, W, C]
        The frame.
    result : Segmentation
        What the model says of it.
    order : {"BGR", "RGB", "GRAY"}
        The frame's channel order.

    Returns
    -------
    uint8 [H', W', 3]
        BGR; small frames enlarged by a whole factor, a header strip with class and score on top.
    """
    canvas = to_bgr(frame, order)
    factor = max(1, -(-_SMALLEST_SIDE // max(canvas.shape[:2])))
    canvas = np.asarray(cv2.resize(canvas, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC), np.uint8)
    mask = cv2.resize(result.mask, None, fx=factor, fy=factor, interpolation=cv2.INTER_NEAREST)
    inside = mask > 0
    canvas[inside] = (0.65 * canvas[inside] + 0.35 * np.array(_TINT)).astype(np.uint8)
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(canvas, contours, -1, _TINT, max(1, max(canvas.shape[:2]) // 400), cv2.LINE_AA)
    return np.vstack([_header(canvas.shape[1], result), canvas])


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


def _header(width: int, result: Segmentation) -> UInt8:
    font, height = cv2.FONT_HERSHEY_SIMPLEX, 28
    strip = np.full((height, width, 3), _DEFECT if result.defect else _OK, np.uint8)
    score = f"{result.scores[result.label]:.0%}"
    score_width = cv2.getTextSize(score, font, 0.5, 1)[0][0]
    name_width = cv2.getTextSize(result.name, font, 0.5, 1)[0][0]
    scale = min(0.5, 0.5 * max(1, width - score_width - 28) / name_width)
    cv2.putText(strip, result.name, (8, 19), font, scale, _TEXT, 1, cv2.LINE_AA)
    cv2.putText(strip, score, (width - score_width - 8, 19), font, 0.5, _TEXT, 1, cv2.LINE_AA)
    return strip
