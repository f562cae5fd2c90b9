"""A mask's pixels: which are marked, whatever form of mask a labelling tool wrote."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrp_edge.errors import LrpEdgeError, needs_extra
from lrp_edge.options import PictureOptions
from lrp_edge.pictures.decode import has_alpha, is_gray, read_bytes
from lrp_edge.pictures.files import check_data, opened, pages_of, refusing

with needs_extra("cpu"):
    import cv2
    from PIL import ImageOps

#: An area, at least, is of 3x3 pixels.
_AREA = np.ones((3, 3), np.uint8)


def read_marks(path: str | os.PathLike[str], options: PictureOptions = PictureOptions()) -> NDArray[np.bool_]:
    """Read a mask.

    Marked is what is white of black and white, what is not 0 of label ids, what is not black of a palette or of
    painted classes, and what is opaque of a layer that is transparent elsewhere.

    Parameters
    ----------
    path : path
        The file.
    options : PictureOptions
        Its limit of size.

    Returns
    -------
    ndarray, bool [H, W]
        True where it is marked, turned as its orientation says.

    Raises
    ------
    LrpEdgeError
        If it cannot be read, as :func:`~lrp_edge.pictures.read_picture`, or may as well be ids as shades.
    """
    return marks_of(read_bytes(path), str(path), options)


def marks_of(data: bytes, name: str, options: PictureOptions = PictureOptions()) -> NDArray[np.bool_]:
    """Decode a mask in memory, which errors call `name`; all else as for :func:`read_marks`."""
    with refusing(name):
        image = opened(data, name, options.max_megapixels)
        if (count := len(pages_of(image))) > 1:
            raise LrpEdgeError(f"mask {name} has {count} pages; expected a mask in a file of its own")
        check_data(image, data)
        lossless, image = image.format not in ("JPEG", "MPO"), ImageOps.exif_transpose(image)
        return _marked(image, lossless, name)


def _marked(image: Any, lossless: bool, name: str) -> NDArray[np.bool_]:
    if has_alpha(image):
        alpha = np.asarray(image.convert("RGBA"))[..., 3]
        if alpha.min() < 255:
            return _shades(alpha, name)
    if not image.mode.startswith(("I", "F")):
        colours = np.asarray(image.convert("RGB"))
        brightest = colours.max(axis=2)
        return brightest > 0 if lossless and not is_gray(image) else _shades(brightest, name)
    return _shades(np.asarray(image), name)


def _shades(values: Any, name: str) -> NDArray[np.bool_]:
    """Tell black and white, with soft edges, from ids, which begin at 1."""
    values = values.astype(np.float32)
    white = 255 if values.max() <= 255 else 65535
    high = values > white // 2
    if not high.any():
        return np.asarray(values > 0)
    # Soft edges and a JPEG's noise are no plain areas; those of ids, and of a second colour, are.
    plain = cv2.erode(values, _AREA) == cv2.dilate(values, _AREA)
    if (plain & (values > 0) & ~high).any():
        raise LrpEdgeError(
            f"mask {name} has values up to {int(values.max())} that are neither black and white nor label ids of "
            f"at most {white // 2}; save it as one of these, or with a palette"
        )
    return np.asarray(high)
