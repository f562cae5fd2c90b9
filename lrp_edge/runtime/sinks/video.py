"""A video of the overlays."""

from __future__ import annotations

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

with needs_extra("cpu"):
    import cv2

UInt8 = NDArray[np.uint8]

CODECS = {".mp4": "mp4v", ".avi": "MJPG"}
# OpenCV does not say when the disk is full, and a video without its end cannot be played: that much stays free for it.
_RESERVE = 2**24


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
    overwrite : bool
        Whether a file that is there is replaced.

    Raises
    ------
    LrpEdgeError
        If the suffix is another, the rate not positive, or the file is there and to stay.
    """

    name, recording = "video", True

    def __init__(self, path: str | Path, order: str, *, fps: float, overwrite: bool = False) -> None:
        self._path, self._order, self._fps = Path(path), order, fps
        if self._path.suffix.lower() not in CODECS:
            raise LrpEdgeError(f"{path}: this video cannot be written; expected one of {', '.join(CODECS)}")
        if fps <= 0:
            raise LrpEdgeError(f"the video has {fps:g} frames a second; expected more than 0")
        if self._path.exists() and not overwrite:
            raise LrpEdgeError(f"{path} exists; choose another name, or --overwrite")
        self._partial = self._path.with_name(f".{self._path.stem}.partial{self._path.suffix}")
        self._writer: Any = None
        self._size = (0, 0)

    def open(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._partial.touch()
        except OSError as error:
            raise LrpEdgeError(f"cannot write {self._path}: {error.strerror}; choose another folder") from error

    def wants(self, result: Result) -> bool:
        return result.segmentation is not None

    def write(self, result: Result) -> None:
        if shutil.disk_usage(self._path.parent).free < _RESERVE:
            raise LrpEdgeError(f"cannot write {self._path}: fewer than {_RESERVE >> 20} MiB are free; free space")
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
            os.replace(self._partial, self._path)
        except OSError as error:
            raise LrpEdgeError(f"cannot write {self._path}: {error.strerror}; it is {self._partial}") from error

    def _begin(self, image: UInt8) -> None:
        height, width = image.shape[:2]
        self._size = (width + width % 2, height + height % 2)
        codec = cv2.VideoWriter.fourcc(*CODECS[self._path.suffix.lower()])
        writer = cv2.VideoWriter(str(self._partial), codec, self._fps, self._size)
        if not writer.isOpened():
            raise LrpEdgeError(f"cannot write {self._path}: this OpenCV has no encoder for it; choose another suffix")
        self._writer = writer


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
