"""OpenCV, imported at its first use."""

from __future__ import annotations

from typing import Any

from lrp_edge.errors import needs_extra


def load_cv2() -> Any:
    """Return the module ``cv2``, whichever wheel or system build gives it.

    Raises
    ------
    LrpEdgeError
        If it is not installed.
    """
    with needs_extra("cpu"):
        import cv2
    return cv2
