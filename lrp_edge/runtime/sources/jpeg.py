"""JPEGs as cameras send them, one for each frame."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lrp_edge.errors import LrpEdgeError
from lrp_edge.runtime.sources.files import decode_image, is_cut_short

#: Why a JPEG without its end is not a frame.
CUT_SHORT = "the JPEG is cut short"


def decode_jpeg(data: bytes, order: str) -> NDArray[np.uint8]:
    """Decode a camera's JPEG to uint8 [H, W, C] in a channel order.

    Raises
    ------
    LrpEdgeError
        If it is cut short, or none.
    """
    if is_cut_short(data):
        raise LrpEdgeError(CUT_SHORT)
    return decode_image(data, "the JPEG", order)
