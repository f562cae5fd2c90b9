"""System cameras (Video4Linux), through OpenCV."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lrp_edge.errors import LrpEdgeError, needs_extra
from lrp_edge.pictures import decode
from lrp_edge.runtime.pool import Pool
from lrp_edge.runtime.result import Frame
from lrp_edge.runtime.sources.base import Source, SourceLost, SourceOptions
from lrp_edge.runtime.sources.shape import to_order
from lrp_edge.runtime.sources.uri import Address, check_parameters, number

with needs_extra("cpu"):
    import cv2

_PARAMETERS = ("format", "exposure", "gain")
_JPEG = frozenset({"MJPG", "JPEG"})
_POLL = 0.2
# Values of V4L2_CID_EXPOSURE_AUTO, and the unit of V4L2_CID_EXPOSURE_ABSOLUTE in microseconds.
_MANUAL, _EXPOSURE_UNIT = 1, 100

_log = logging.getLogger("lrp_edge.source")


class Video4Linux(Source):
    """A system camera.

    Parameters
    ----------
    address : Address
        ``v4l2://DEVICE`` with ``format`` (four letters, e.g. MJPG or YUYV), ``exposure`` (microseconds) and ``gain``
        (the driver's own number) where they are given.
    order : {"BGR", "RGB", "GRAY"}
        Channel order of the frames.
    options : SourceOptions
        ``size`` and ``fps`` are asked of the camera, which takes what comes nearest.

    Raises
    ------
    LrpEdgeError
        If a parameter is not known or not understood. While it runs: if the camera does not have the format.
    """

    live = True

    def __init__(self, address: Address, order: str, options: SourceOptions) -> None:
        super().__init__()
        check_parameters(address, _PARAMETERS)
        self.name, self._device = address.name, address.place
        self._order, self._options, self._pool = order, options, Pool()
        self._format = address.parameters.get("format", "").upper()
        if self._format and not re.fullmatch(r"[A-Z0-9 ]{4}", self._format):
            raise LrpEdgeError(f"source {self.name}: format is {self._format!r}; expected four letters, e.g. MJPG")
        self._exposure, self._gain = number(address, "exposure"), number(address, "gain")

    def __iter__(self) -> Iterator[Frame]:
        capture = self._open()
        try:
            self._set_up(capture)
            yield from self._frames(capture)
        except cv2.error as error:
            raise SourceLost(f"{self.name} is lost: {error.err}") from error
        finally:
            capture.release()

    def _open(self) -> cv2.VideoCapture:
        if not os.path.exists(self._device):
            there = ", ".join(sorted(str(path) for path in Path("/dev").glob("video*"))) or "none"
            raise SourceLost(f"{self.name}: there is no {self._device}; cameras of this system: {there}")
        if not os.access(self._device, os.R_OK | os.W_OK):
            raise SourceLost(f"{self.name}: no permission to use {self._device}; join the group video")
        capture = cv2.VideoCapture(self._device, cv2.CAP_V4L2)
        if not capture.isOpened():
            raise SourceLost(f"{self.name} cannot be opened; it is not a camera, or another program is using it")
        return capture

    def _set_up(self, capture: cv2.VideoCapture) -> None:
        if self._format:
            capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*self._format))
            if _format_of(capture) != self._format:
                raise LrpEdgeError(f"{self.name} does not deliver {self._format}; see v4l2-ctl --list-formats")
        if self._options.size:
            capture.set(cv2.CAP_PROP_FRAME_WIDTH, self._options.size[1])
            capture.set(cv2.CAP_PROP_FRAME_HEIGHT, self._options.size[0])
        wanted = {"fps": (cv2.CAP_PROP_FPS, self._options.fps), "gain": (cv2.CAP_PROP_GAIN, self._gain)}
        if self._exposure is not None:
            capture.set(cv2.CAP_PROP_AUTO_EXPOSURE, _MANUAL)
            wanted["exposure"] = (cv2.CAP_PROP_EXPOSURE, max(1, round(self._exposure / _EXPOSURE_UNIT)))
        for name, (setting, value) in wanted.items():
            if value is not None and not capture.set(setting, value):
                _log.warning("%s: the camera does not take %s %g", self.name, name, value)
        if _format_of(capture) in _JPEG:
            # OpenCV shows what there is of a truncated JPEG, so it is checked before it is decoded.
            capture.set(cv2.CAP_PROP_CONVERT_RGB, 0)

    def _frames(self, capture: cv2.VideoCapture) -> Iterator[Frame]:
        index, since, limit = 0, time.monotonic(), self._options.timeout
        is_jpeg = _format_of(capture) in _JPEG
        size = (int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)), int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), 3)
        while not self.interrupted.is_set():
            if not cv2.VideoCapture.waitAny([capture], int(_POLL * 1e9))[0]:
                if time.monotonic() - since > limit:
                    raise SourceLost(f"{self.name}: no frame for {limit:g} s")
                continue
            age = _age(capture)
            captured, timestamp = time.perf_counter() - age, time.time() - age
            read, image = capture.retrieve(None if is_jpeg else self._pool.take(size))
            yield self._frame(index, image if read else None, is_jpeg, timestamp, captured)
            index, since = index + 1, time.monotonic()

    def _frame(self, index: int, image: Any, is_jpeg: bool, timestamp: float, captured: float) -> Frame:
        if image is None:
            return Frame(index, self.name, None, timestamp, captured, "the frame cannot be read")
        if not is_jpeg:
            return Frame(index, self.name, to_order(image, self._order, self._pool), timestamp, captured)
        try:
            decoded = decode(image.tobytes(), "the JPEG", self._order, self._options)
        except LrpEdgeError as error:
            return Frame(index, self.name, None, timestamp, captured, str(error))
        return Frame(index, self.name, decoded, timestamp, captured)


def _format_of(capture: cv2.VideoCapture) -> str:
    return int(capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little").decode("latin-1")


def _age(capture: cv2.VideoCapture) -> float:
    """Return the seconds since the driver had the grabbed frame; 0 where it does not say."""
    # Drivers take the time from the same clock as perf_counter.
    age = time.perf_counter() - capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
    return age if 0 <= age < 1 else 0.0
