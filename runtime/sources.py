"""Where frames come from: an image, a folder, a glob, a video.

A frame that cannot be read is an event, never a picture: no black or repeated frame takes its place.
"""

from __future__ import annotations

import glob
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lrp_edge.errors import LrpEdgeError, needs_extra

with needs_extra("cpu"):
    import cv2

IMAGES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
VIDEOS = frozenset({".mp4", ".avi", ".mkv", ".mov", ".m4v", ".mpg", ".mpeg", ".webm"})
# cv2 decodes what is there of a file that was cut short and only warns, so its end is looked at first.
_JPEG, _JPEG_SCAN, _JPEG_END = b"\xff\xd8\xff", 0xDA, b"\xff\xd9"
_PNG, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"


@dataclass(frozen=True)
class Frame:
    """A frame, or the news that it could not be read.

    Attributes
    ----------
    index : int
        Position in the source, from 0.
    source : str
        The file that it is from; for a video with ``#`` and the frame's number.
    image : uint8 [H, W, C], or None
        Pixels in the asked channel order; None where there are none.
    timestamp : float
        When it was read, in seconds since the epoch.
    error : str
        Why there are no pixels.
    """

    index: int
    source: str
    image: NDArray[np.uint8] | None
    timestamp: float
    error: str = ""


class Source(Protocol):
    """Frames in order; `length` is None where it is not known."""

    length: int | None

    def faults(self) -> list[str]:
        """Return what is known beforehand to be unreadable, without decoding."""

    def __iter__(self) -> Iterator[Frame]: ...


def open_source(text: str, order: str = "BGR") -> Source:
    """Open an image file, a directory (searched deeply, sorted), a glob or a video file.

    Parameters
    ----------
    text : str
        Path or pattern.
    order : {"BGR", "RGB", "GRAY"}
        Channel order of the frames.

    Raises
    ------
    LrpEdgeError
        If there is nothing by that name, no image in the directory, or the video cannot be opened.
    """
    path = Path(text)
    if path.is_file() and path.suffix.lower() in VIDEOS:
        return Video(path, order)
    if path.is_file():
        return Images([path], order)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() in IMAGES)
    else:
        files = sorted(Path(file) for file in glob.glob(text, recursive=True) if Path(file).is_file())
    if not files:
        what = "has no images" if path.is_dir() else "matches no file"
        raise LrpEdgeError(f"source {text} {what}; expected an image, a folder of images, a glob or a video")
    return Images(files, order)


def read_image(path: Path, order: str = "BGR") -> NDArray[np.uint8]:
    """Read an image as uint8 [H, W, C], 8 bits a channel.

    Raises
    ------
    LrpEdgeError
        If the file is missing, cut short or no image.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise LrpEdgeError(f"{path} cannot be read: {error.strerror}") from error
    if _is_cut_short(data):
        raise LrpEdgeError(f"{path} is cut short; mend or remove it")
    flag = cv2.IMREAD_GRAYSCALE if order == "GRAY" else cv2.IMREAD_COLOR
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flag) if data else None
    if image is None:
        raise LrpEdgeError(f"{path} is not an image that OpenCV can decode")
    return _ordered(image, order)


def _fault(path: Path) -> str:
    """Say what the file's first and last bytes show to be wrong with it; empty if nothing."""
    try:
        if _is_cut_short(path.read_bytes()):
            return f"{path} is cut short"
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}"
    return "" if cv2.haveImageReader(str(path)) else f"{path} is not an image"


def _is_cut_short(data: bytes) -> bool:
    if data.startswith(_PNG):
        return _PNG_END not in data
    return data.startswith(_JPEG) and not _has_jpeg_end(data)


def _has_jpeg_end(data: bytes) -> bool:
    """Look behind the start of the first scan: a thumbnail before it has an end marker of its own."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        if data[at + 1] == _JPEG_SCAN:
            return _JPEG_END in data[at:]
        at += 1 if data[at + 1] == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return False


def _ordered(image: Any, order: str) -> NDArray[np.uint8]:
    """Bring a BGR or gray image to the asked channel order, with a channel axis."""
    if image.ndim == 3 and order == "GRAY":
        image = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    pixels: NDArray[np.uint8] = image[..., None] if image.ndim == 2 else image
    return np.ascontiguousarray(pixels[..., ::-1]) if order == "RGB" else pixels


class Images:
    """Image files, one frame each."""

    def __init__(self, files: list[Path], order: str) -> None:
        self.files, self.order = files, order
        self.length: int | None = len(files)

    def faults(self) -> list[str]:
        return [fault for file in self.files if (fault := _fault(file))]

    def __iter__(self) -> Iterator[Frame]:
        for index, file in enumerate(self.files):
            try:
                image, error = read_image(file, self.order), ""
            except LrpEdgeError as problem:
                image, error = None, str(problem)
            yield Frame(index, str(file), image, time.time(), error)


class Video:
    """A video file's frames."""

    def __init__(self, path: Path, order: str) -> None:
        self.path, self.order = path, order
        capture = self._open()
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.length: int | None = count if count > 0 else None
        capture.release()

    def faults(self) -> list[str]:
        return []

    def _open(self) -> cv2.VideoCapture:
        capture = cv2.VideoCapture(str(self.path))
        if not capture.isOpened():
            raise LrpEdgeError(f"{self.path} is not a video that OpenCV can open")
        return capture

    def __iter__(self) -> Iterator[Frame]:
        capture = self._open()
        index = 0
        try:
            while True:
                read, image = capture.read()
                if not read:
                    break
                yield Frame(index, f"{self.path}#{index}", _ordered(image, self.order), time.time())
                index += 1
        finally:
            capture.release()
        if self.length is not None and index < self.length:
            missing = f"{self.path} ends after {index} of {self.length} frames"
            yield Frame(index, f"{self.path}#{index}", None, time.time(), missing)
