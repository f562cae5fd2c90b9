"""A window that shows the newest result."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Callable

from lrp_edge.errors import LrpEdgeError, needs_extra
from lrp_edge.runtime.overlay import draw_result
from lrp_edge.runtime.result import Result
from lrp_edge.runtime.sinks.base import Sink

with needs_extra("cpu"):
    import cv2

_TITLE = "lrp-edge"
_QUIT_KEYS = (ord("q"), 27)


class Window(Sink):
    """Shows the newest overlay in a window until q, Esc, or its closing.

    Keys are checked when a result arrives.

    Parameters
    ----------
    order : {"BGR", "RGB", "GRAY"}
        Channel order of the frames.
    quit : callable
        Called, in the sink's thread, when the user closes the window.
    """

    name, newest, depth = "window", True, 1

    def __init__(self, order: str, quit: Callable[[], object]) -> None:
        self._order, self._quit = order, quit
        self._shown = self._ended = False

    def open(self) -> None:
        if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise LrpEdgeError(
                "no display: DISPLAY and WAYLAND_DISPLAY are not set; log in at a desktop, or use --view"
            )
        # OpenCV before 4.10 has no function for this.
        if re.search(r"GUI:\s+NONE", cv2.getBuildInformation()):
            raise LrpEdgeError(
                "this OpenCV has no windows; install opencv-python in place of opencv-python-headless, or use --view"
            )

    def wants(self, result: Result) -> bool:
        return result.segmentation is not None

    def write(self, result: Result) -> None:
        if self._ended:
            return
        if not self._shown:
            cv2.namedWindow(_TITLE, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
            self._shown = True
        cv2.imshow(_TITLE, draw_result(result, self._order))
        # Some toolkits put modifiers into the upper bits.
        key = cv2.waitKey(1)
        if (key != -1 and key & 0xFF in _QUIT_KEYS) or _is_closed():
            self._ended = True
            self._quit()

    def close(self) -> None:
        if self._shown:
            with contextlib.suppress(cv2.error):
                cv2.destroyWindow(_TITLE)


def _is_closed() -> bool:
    try:
        return bool(cv2.getWindowProperty(_TITLE, cv2.WND_PROP_VISIBLE) < 1)
    except cv2.error:
        # Qt answers like this once its last window is gone.
        return True
