"""A frame, its mask and the verdict as one picture for people."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrp_edge.runtime.segmenter import Segmentation
from lrp_edge.runtime.vision import load_cv2

# Colours are blue, green, red.
_DEFECT = (66, 66, 235)
_OK = (96, 174, 39)
_STRIP = (38, 32, 30)
_TEXT = (245, 245, 245)
_FAINT = (170, 164, 160)
_TINT = 0.38
_LEAST_SIDE = 320
_LEAST_WIDTH = 360


def draw_overlay(
    frame: NDArray[np.uint8], segmentation: Segmentation, order: str = "BGR"
) -> NDArray[np.uint8]:
    """Draw mask and verdict on a frame.

    Parameters
    ----------
    frame : ndarray, uint8 [H, W, C]
        The frame that was segmented; [H, W] too if it is gray.
    segmentation : Segmentation
        What the engine said of it.
    order : {"BGR", "RGB", "GRAY"}
        Channel order of the frame.

    Returns
    -------
    ndarray, uint8 [h, w, 3]
        Blue, green, red. A small frame is enlarged until it is 320 pixels on its shorter side; the mask is tinted
        and outlined; a strip above says class, score and share of the pixels, green for OK and red for a defect.
    """
    cv2 = load_cv2()
    scale = max(1.0, _LEAST_SIDE / min(frame.shape[:2]))
    size = (round(frame.shape[1] * scale), round(frame.shape[0] * scale))
    picture = cv2.resize(_to_bgr(cv2, frame, order), size, interpolation=cv2.INTER_CUBIC)
    mask = cv2.resize(segmentation.mask, size, interpolation=cv2.INTER_LINEAR) > 127
    _mark(cv2, picture, mask)
    spare = max(0, _LEAST_WIDTH - picture.shape[1])
    picture = cv2.copyMakeBorder(
        picture, 0, 0, spare // 2, spare - spare // 2, cv2.BORDER_CONSTANT, value=_STRIP
    )
    joined: NDArray[np.uint8] = np.concatenate([_strip(cv2, segmentation, picture.shape[1]), picture])
    return joined


def _to_bgr(cv2: Any, frame: NDArray[np.uint8], order: str) -> NDArray[np.uint8]:
    codes = {"RGB": cv2.COLOR_RGB2BGR, "GRAY": cv2.COLOR_GRAY2BGR}
    converted: NDArray[np.uint8] = cv2.cvtColor(frame, codes[order]) if order in codes else frame.copy()
    return converted


def _mark(cv2: Any, picture: NDArray[np.uint8], mask: NDArray[np.bool_]) -> None:
    tinted = (1 - _TINT) * picture[mask] + _TINT * np.array(_DEFECT)
    picture[mask] = tinted.round().astype(np.uint8)
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    weight = max(1, round(min(picture.shape[:2]) / 320))
    # A dark line under the bright one keeps the outline visible on any ground.
    cv2.drawContours(picture, outlines, -1, _STRIP, 2 * weight + 1, cv2.LINE_AA)
    cv2.drawContours(picture, outlines, -1, _DEFECT, weight, cv2.LINE_AA)


def _strip(cv2: Any, segmentation: Segmentation, width: int) -> NDArray[np.uint8]:
    height = max(44, round(width * 0.055))
    strip = np.full((height, width, 3), _STRIP, np.uint8)
    colour = _DEFECT if segmentation.defect else _OK
    cv2.rectangle(strip, (0, 0), (max(6, height // 7), height), colour, -1)
    cv2.rectangle(strip, (0, height - max(2, height // 20)), (width, height), colour, -1)
    share = f"{segmentation.mask_area:.2%} masked" if segmentation.mask.any() else "no mask"
    right = f"{segmentation.scores[segmentation.label]:.1%}  {share}"
    margin = height // 3
    taken = _write(cv2, strip, right, width - margin, 0.3, _FAINT, align_right=True, room=width * 0.5)
    start = max(6, height // 7) + margin
    verdict = "DEFECT" if segmentation.defect else "OK"
    name = segmentation.name if segmentation.name.upper() == verdict else f"{verdict}  {segmentation.name}"
    _write(cv2, strip, name, start, 0.4, _TEXT, room=width - taken - 2 * margin - start)
    return strip


def _write(
    cv2: Any,
    strip: NDArray[np.uint8],
    text: str,
    x: int,
    share: float,
    colour: tuple[int, int, int],
    *,
    room: float,
    align_right: bool = False,
) -> int:
    """Write text of a height given as a share of the strip, made smaller if there is no room; return its width."""
    font, height = cv2.FONT_HERSHEY_DUPLEX, strip.shape[0]
    weight = max(1, height // 50)
    (wide, high), _ = cv2.getTextSize(text, font, 1.0, weight)
    size = min(share * height / high, room / max(1, wide))
    (wide, high), _ = cv2.getTextSize(text, font, size, weight)
    at = (x - wide if align_right else x, (height + high) // 2)
    cv2.putText(strip, text, at, font, size, colour, weight, cv2.LINE_AA)
    return int(wide)
