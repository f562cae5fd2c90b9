"""The images that the page shows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrp_edge.errors import needs_extra
from lrp_edge.runtime.overlay import draw_result, to_bgr
from lrp_edge.runtime.result import Result

with needs_extra("cpu"):
    import cv2

UInt8 = NDArray[np.uint8]
Float32 = NDArray[np.float32]

#: Longest sides in pixels. Relevance is smooth, and costs most to encode.
_PICTURE, _RELEVANCE, _THUMBNAIL = 1280, 640, 320
_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 85]
_PNG = [cv2.IMWRITE_PNG_COMPRESSION, 1]
if hasattr(cv2, "IMWRITE_PNG_FILTER"):
    # Otherwise it tries all filters, which takes most of the time and makes nothing smaller.
    _PNG += [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE]
# Those of the overlays, blue first.
_FOR, _AGAINST, _TINT = (45, 45, 220), (220, 90, 30), (40, 40, 255)
_TINT_ALPHA = 89
# Few levels of alpha make small files.
_LEVELS = 31


def live_layers(result: Result, order: str) -> dict[str, bytes]:
    """Encode a frame and what lies over it.

    Parameters
    ----------
    result : Result
        Of a frame with or without pixels.
    order : {"BGR", "RGB", "GRAY"}
        The frame's channel order.

    Returns
    -------
    dict of str to bytes
        ``frame.jpg``, at most 1280 pixels long, and with a segmentation ``relevance.png`` and ``mask.png``, RGBA, which
        are to be stretched over it; empty for a frame without pixels.
    """
    image, found = result.frame.image, result.segmentation
    if image is None:
        return {}
    layers = {"frame.jpg": _jpeg(to_bgr(_shrunk(image, _PICTURE), order))}
    if found is not None:
        layers["relevance.png"] = _png(_relevance(found.relevance))
        layers["mask.png"] = _png(_mask(found.mask))
    return layers


def defect_pictures(result: Result, order: str) -> dict[str, bytes]:
    """Encode a defect's overlay as ``large.jpg``, and without its header as ``thumbnail.jpg``."""
    assert result.frame.image is not None
    drawn = draw_result(result, order)
    height, width = result.frame.image.shape[:2]
    header = len(drawn) - height * (drawn.shape[1] // width)
    return {
        "large.jpg": _jpeg(_shrunk(drawn, _PICTURE)),
        "thumbnail.jpg": _jpeg(_shrunk(drawn[header:], _THUMBNAIL)),
    }


def _shrunk(image: Any, longest: int) -> Any:
    factor = -(-max(image.shape[:2]) // longest)
    if factor == 1:
        return image
    height, width = (max(1, side // factor) for side in image.shape[:2])
    # By a whole number it is four times as fast, and what is cut off for it is less than a pixel of the image.
    return cv2.resize(image[: height * factor, : width * factor], (width, height), interpolation=cv2.INTER_AREA)


def _relevance(relevance: Float32) -> UInt8:
    """Return relevance as colours that lie over a frame: over white they are those of ``draw_relevance``."""
    small = np.nan_to_num(_shrunk(relevance, _RELEVANCE), posinf=0.0, neginf=0.0)
    strength = np.abs(small)
    strength = np.sqrt(strength / (strength.max() or 1.0))
    alpha = np.asarray(np.round(strength * _LEVELS) * (255 / _LEVELS), np.uint8)
    speaks = small >= 0
    return _layer(*(np.where(speaks, *each) for each in zip(_FOR, _AGAINST, strict=True)), alpha)


def _mask(mask: UInt8) -> UInt8:
    """Return a mask as a tint with an outline."""
    # A region that is thinner than a pixel of the image is kept.
    inside = np.asarray(_shrunk(mask, _PICTURE) > 0, np.uint8)
    alpha = inside * np.uint8(_TINT_ALPHA)
    contours, _ = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(alpha, contours, -1, 255, max(1, max(inside.shape) // 400))
    return _layer(*(np.full_like(alpha, value) for value in _TINT), alpha)


def _layer(*planes: NDArray[Any]) -> UInt8:
    """Put blue, green, red and alpha together."""
    return np.asarray(cv2.merge([np.asarray(plane, np.uint8) for plane in planes]), np.uint8)


def _jpeg(image: Any) -> bytes:
    return bytes(cv2.imencode(".jpg", image, _JPEG)[1])


def _png(image: UInt8) -> bytes:
    return bytes(cv2.imencode(".png", image, _PNG)[1])
