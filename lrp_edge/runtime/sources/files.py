"""Frames of image files and of video files."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lrp_edge.errors import LrpEdgeError, needs_extra
from lrp_edge.runtime.pool import Pool
from lrp_edge.runtime.result import Frame
from lrp_edge.runtime.sources.base import Source
from lrp_edge.runtime.sources.containers import is_cut, is_iso, is_trimmed
from lrp_edge.runtime.sources.shape import to_order

with needs_extra("cpu"):
    import cv2

IMAGES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
VIDEOS = frozenset({".mp4", ".avi", ".mkv", ".mov", ".m4v", ".mpg", ".mpeg", ".webm"})

_log = logging.getLogger("lrp_edge.source")
# cv2 decodes what there is of a truncated file and only warns, so its end is checked first.
_JPEG, _JPEG_SCAN, _JPEG_END = b"\xff\xd8\xff", 0xDA, b"\xff\xd9"
_PNG, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"


def read_image(path: Path, order: str = "BGR") -> NDArray[np.uint8]:
    """Read an image as uint8 [H, W, C], 8 bits a channel.

    Raises
    ------
    LrpEdgeError
        If the file is missing, cut short or not an image.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise LrpEdgeError(f"{path} cannot be read: {error.strerror}") from error
    return decode_image(data, str(path), order)


def decode_image(data: bytes, name: str, order: str = "BGR") -> NDArray[np.uint8]:
    """Decode a PNG, JPEG or any format OpenCV knows; parameters and errors otherwise as for :func:`read_image`."""
    if is_cut_short(data):
        raise LrpEdgeError(f"{name} is cut short; fix or remove it")
    flag = cv2.IMREAD_GRAYSCALE if order == "GRAY" else cv2.IMREAD_COLOR
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flag) if data else None
    if image is None:
        raise LrpEdgeError(f"{name} is not an image that OpenCV can decode")
    return to_order(image, order)


def _fault(path: Path) -> str:
    """Return what is wrong with the file according to its first and last bytes; empty if nothing."""
    try:
        if is_cut_short(path.read_bytes()):
            return f"{path} is cut short"
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}"
    return "" if cv2.haveImageReader(str(path)) else f"{path} is not an image"


def is_cut_short(data: bytes) -> bool:
    """Say whether a PNG or JPEG lacks its end."""
    if data.startswith(_PNG):
        return _PNG_END not in data
    return data.startswith(_JPEG) and not _has_jpeg_end(data)


def _has_jpeg_end(data: bytes) -> bool:
    """Search after the start of the first scan: a thumbnail before it has its own end marker."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        if data[at + 1] == _JPEG_SCAN:
            return _JPEG_END in data[at:]
        at += 1 if data[at + 1] == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return False


class Images(Source):
    """Image files, one frame each."""

    def __init__(self, files: list[Path], order: str, name: str) -> None:
        super().__init__()
        self.files, self.order, self.name = files, order, name
        self.length = len(files)

    def faults(self) -> list[str]:
        return [fault for file in self.files if (fault := _fault(file))]

    def __iter__(self) -> Iterator[Frame]:
        for index, file in enumerate(self.files):
            captured, timestamp = time.perf_counter(), time.time()
            try:
                image, error = read_image(file, self.order), ""
            except LrpEdgeError as problem:
                image, error = None, str(problem)
            yield Frame(index, str(file), image, timestamp, captured, error)


class Video(Source):
    """A video file's frames.

    Raises
    ------
    LrpEdgeError
        If it cannot be opened or has no frame.
    """

    def __init__(self, path: Path, order: str, *, hardware: bool = False) -> None:
        super().__init__()
        self.path, self.order, self.name = path, order, str(path)
        self._acceleration = cv2.VIDEO_ACCELERATION_ANY if hardware else cv2.VIDEO_ACCELERATION_NONE
        self._pool = Pool()
        capture = self._open()
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.length = count if count > 0 else None
        has_frame = capture.grab()
        capture.release()
        if not has_frame:
            raise LrpEdgeError(f"{path} is a video without a frame that can be decoded; record it again")

    def _open(self) -> cv2.VideoCapture:
        wanted = [cv2.CAP_PROP_HW_ACCELERATION, self._acceleration]
        capture = cv2.VideoCapture(str(self.path), cv2.CAP_ANY, wanted)
        if not capture.isOpened():
            raise LrpEdgeError(f"{self.path} is not a video that OpenCV can open; expected e.g. mp4, mkv or avi")
        return capture

    def __iter__(self) -> Iterator[Frame]:
        capture = self._open()
        index = 0
        try:
            size = (int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)), int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), 3)
            while True:
                captured, timestamp = time.perf_counter(), time.time()
                read, image = capture.read(self._pool.take(size))
                if not read:
                    break
                image = to_order(image, self.order, self._pool)
                yield Frame(index, f"{self.path}#{index}", image, timestamp, captured)
                index += 1
        finally:
            capture.release()
        if lacks := self._what_is_missing(index):
            yield Frame(index, f"{self.path}#{index}", None, time.time(), time.perf_counter(), lacks)

    def _what_is_missing(self, frames: int) -> str:
        """Return what is missing behind so many frames; empty where nothing is, or it cannot be known."""
        fewer = self.length is not None and frames < self.length
        counted = f"{frames} of {self.length} frames" if fewer else f"{frames} frames"
        if is_cut(self.path):
            return f"{self.path} is cut short: it ends after {counted}"
        if fewer and is_iso(self.path) and not is_trimmed(self.path):
            return f"{self.path} ends after {counted}"
        if fewer:
            # Other containers have a duration, from which OpenCV estimates a number.
            _log.warning("%s: %s, and the file is whole: a varying rate, longer sound, or an edit", self.path, counted)
        return ""


#: Why a JPEG without its end is not a frame.
CUT_SHORT = "the JPEG is cut short"


def decode_jpeg(data: bytes, order: str) -> NDArray[np.uint8]:
    """Decode a camera's JPEG to uint8 [H, W, C] in a channel order.

    Raises
    ------
    LrpEdgeError
        If it is cut short, or is not a JPEG.
    """
    if is_cut_short(data):
        raise LrpEdgeError(CUT_SHORT)
    return decode_image(data, "the JPEG", order)
