"""A video of the overlays."""

from __future__ import annotations

import itertools
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrp_edge.errors import LrpEdgeError, needs_extra
from lrp_edge.runtime.overlay import draw_result
from lrp_edge.runtime.result import Result
from lrp_edge.runtime.sinks.base import Sink
from lrp_edge.runtime.sinks.folder import Lock

with needs_extra("cpu"):
    import cv2

UInt8 = NDArray[np.uint8]

CODECS = {".mp4": "mp4v", ".avi": "MJPG"}
# OpenCV does not say when the disk is full, and a video without its end cannot be played: that much stays free for it.
_RESERVE = 2**24

_log = logging.getLogger("lrp_edge.video")


class VideoFile(Sink):
    """Writes overlays as a video, which has its name once it is whole.

    Its frames have the size of the first one, rounded up to even; later ones of another size are fitted in, with black
    at the sides.

    Parameters
    ----------
    path : path
        The file, ``.mp4`` or ``.avi``.
    order : {"BGR", "RGB", "GRAY"}
        Channel order of the frames.
    fps : float
        Frames a second when it is played.
    existing : {"refuse", "append", "overwrite"}
        What to do where there is such a file: with append the video is ``NAME-2``, ``NAME-3`` and so on.

    Attributes
    ----------
    path : path
        The file that is written.

    Raises
    ------
    LrpEdgeError
        If the suffix is another, the rate not positive, or the file is there and to stay.
    """

    name, recording = "video", True

    def __init__(self, path: str | Path, order: str, *, fps: float, existing: str = "refuse") -> None:
        self.path, self._order, self._fps = Path(path), order, fps
        if self.path.suffix.lower() not in CODECS:
            raise LrpEdgeError(f"{path}: this video cannot be written; expected one of {', '.join(CODECS)}")
        if fps <= 0:
            raise LrpEdgeError(f"the video has {fps:g} frames a second; expected more than 0")
        if existing == "append":
            self.path = _next(self.path)
            if self.path != Path(path):
                _log.info("%s is there and stays; this run writes %s", path, self.path.name)
        elif os.path.exists(self.path) and existing == "refuse":
            raise LrpEdgeError(f"{path} exists; choose another name, --append or --overwrite")
        self._partial = self.path.with_name(f".{self.path.stem}.partial{self.path.suffix}")
        self._lock: Lock | None = None
        self._writer: Any = None
        self._size = (0, 0)

    def open(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock = self.path.with_name(f".{self.path.name}.lock")
            self._lock = Lock(lock, f"another run writes {self.path}; choose another name, or stop that one first")
            self._partial.touch()
        except OSError as error:
            raise LrpEdgeError(f"cannot write {self.path}: {error.strerror}; choose another folder") from error

    def wants(self, result: Result) -> bool:
        return result.segmentation is not None

    def write(self, result: Result) -> None:
        if shutil.disk_usage(self.path.parent).free < _RESERVE:
            raise LrpEdgeError(f"cannot write {self.path}: fewer than {_RESERVE >> 20} MiB are free; free space")
        image = draw_result(result, self._order)
        if self._writer is None:
            self._begin(image)
        self._writer.write(_fit(image, self._size))

    def close(self) -> None:
        try:
            if self._writer is None:
                self._partial.unlink(missing_ok=True)
                return
            self._writer.release()
            os.replace(self._partial, self.path)
        except OSError as error:
            raise LrpEdgeError(f"cannot write {self.path}: {error.strerror}; it is {self._partial}") from error
        finally:
            if self._lock is not None:
                self._lock.close()

    def _begin(self, image: UInt8) -> None:
        height, width = image.shape[:2]
        self._size = (width + width % 2, height + height % 2)
        codec = cv2.VideoWriter.fourcc(*CODECS[self.path.suffix.lower()])
        writer = cv2.VideoWriter(str(self._partial), codec, self._fps, self._size)
        if not writer.isOpened():
            raise LrpEdgeError(f"cannot write {self.path}: this OpenCV has no encoder for it; choose another suffix")
        self._writer = writer


def _next(path: Path) -> Path:
    """Return the first name that is free: the given one, or that with the next number."""
    numbered = (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in itertools.count(2))
    return next(each for each in itertools.chain((path,), numbered) if not os.path.exists(each))


def _fit(image: UInt8, size: tuple[int, int]) -> UInt8:
    """Return an image of (width, height), with what does not fill it in its middle; larger ones are scaled down."""
    width, height = size
    scale = min(width / image.shape[1], height / image.shape[0])
    if scale < 1:
        scaled = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        image = np.asarray(cv2.resize(image, scaled, interpolation=cv2.INTER_AREA), np.uint8)
    right, below = width - image.shape[1], height - image.shape[0]
    if not right and not below:
        return image
    left, above = right // 2, below // 2
    border = (above, below - above, left, right - left)
    return np.asarray(cv2.copyMakeBorder(image, *border, cv2.BORDER_CONSTANT, value=(0, 0, 0)), np.uint8)
