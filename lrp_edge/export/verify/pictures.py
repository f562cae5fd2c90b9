"""One frame as several computations see it, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lrp_edge.card import ModelCard
from lrp_edge.errors import needs_extra
from lrp_edge.export.verify.parity import Answer
from lrp_edge.files import whole
from lrp_edge.runtime.overlay import draw_overlay, draw_relevance, to_bgr
from lrp_edge.runtime.result import Segmentation

with needs_extra("cpu"):
    import cv2
    import numpy as np
    from numpy.typing import NDArray

UInt8 = NDArray[np.uint8]
_STRIP, _LEAST_SIDE = 28, 320


def draw_sides(frame: UInt8, sides: Mapping[str, Answer], card: ModelCard, caption: str) -> UInt8:
    """Draw a frame, and each side's overlay and relevance next to it.

    Parameters
    ----------
    frame : uint8 [H, W, C]
        In the card's channel order.
    sides : mapping of str to Answer
        What each side says of it, by its name.
    card : ModelCard
        Classes and channel order.
    caption : str
        A line below.

    Returns
    -------
    uint8 [H', W', 3]
        BGR. Small frames are enlarged by a whole factor; each panel has two strips on top of it.
    """
    factor = max(1, -(-_LEAST_SIDE // max(frame.shape[:2])))
    width = frame.shape[1] * factor

    def panel(title: str, image: UInt8) -> UInt8:
        grown = image.repeat(factor, 0).repeat(factor, 1)
        return np.vstack([_strip(title, width), _strip("", width), grown])

    overlays, maps = [], []
    for name, (scores, label, mask, relevance) in sides.items():
        index, shown = int(label), np.nan_to_num(np.asarray(relevance, np.float32))
        defect = index in card.defect_indices
        found = Segmentation(index, card.classes[index], defect, np.nan_to_num(scores), mask, shown, 0.0)
        overlays.append(np.vstack([_strip(name, width), draw_overlay(frame, found, card.input.order)]))
        maps.append(panel(f"relevance, {name}", draw_relevance(found)))
    row = np.hstack([panel("frame", to_bgr(frame, card.input.order)), *overlays, *maps])
    return np.vstack([row, _strip(caption, row.shape[1])])


def _strip(text: str, width: int) -> UInt8:
    """Return a white strip with a line of text, made small enough to fit."""
    strip = np.full((_STRIP, width, 3), 255, np.uint8)
    length = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.5, 1)[0][0]
    scale = min(0.5, 0.5 * max(1, width - 16) / max(1, length))
    cv2.putText(strip, text, (8, 19), cv2.FONT_HERSHEY_SIMPLEX, scale, (0, 0, 0), 1, cv2.LINE_AA)
    return strip


def write_png(path: Path, image: UInt8) -> None:
    """Write a whole BGR image, see :func:`~lrp_edge.files.whole`."""
    with whole(path) as partial:
        partial.write_bytes(cv2.imencode(".png", image)[1].tobytes())
