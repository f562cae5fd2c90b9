"""Frames of image files and of video files."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from lrp_edge.errors import LrpEdgeError, needs_extra
from lrp_edge.options import PictureOptions
from lrp_edge.pictures import count_pages, read_header, read_picture
from lrp_edge.runtime.pool import Pool
from lrp_edge.runtime.result import Frame
from lrp_edge.runtime.sources.base import Source
from lrp_edge.runtime.sources.containers import is_cut, is_iso, is_trimmed
from lrp_edge.runtime.sources.shape import to_order

with needs_extra("cpu"):
    import cv2

VIDEOS = frozenset({".mp4", ".avi", ".mkv", ".mov", ".m4v", ".mpg", ".mpeg", ".webm"})

_log = logging.getLogger("lrp_edge.source")


class Images(Source):
    """Image files, one frame a page.

    Parameters
    ----------
    files : sequence of Path
        In their order; of some formats a file may have several pages.
    order : {"BGR", "RGB", "GRAY"}
        Channel order of the frames.
    name : str
        What logs call them.
    options : PictureOptions
        What the files do not say themselves.
    """

    def __init__(
        self, files: Sequence[Path], order: str, name: str, options: PictureOptions = PictureOptions()
    ) -> None:
        super().__init__()
        self._pages = [(file, page, count) for file in files for count in [count_pages(file)] for page in range(count)]
        self._order, self.name, self._options = order, name, options
        self.length = len(self._pages)

    def only(self, wanted: Sequence[int]) -> Images:
        """Return some of the frames, by their indices here."""
        chosen = Images((), self._order, self.name, self._options)
        chosen._pages = [self._pages[index] for index in wanted]
        chosen.length = len(wanted)
        return chosen

    def faults(self) -> list[str]:
        return [fault for file in dict.fromkeys(file for file, *_ in self._pages) if (fault := self._fault(file))]

    def _fault(self, file: Path) -> str:
        try:
            read_header(file, self._options)
        except LrpEdgeError as error:
            return str(error)
        return ""

    def __iter__(self) -> Iterator[Frame]:
        for index, (file, page, count) in enumerate(self._pages):
            captured, timestamp = time.perf_counter(), time.time()
            name = f"{file}#{page}" if count > 1 else str(file)
            try:
                image, error = read_picture(file, self._order, self._options, page), ""
            except LrpEdgeError as problem:
                image, error = None, str(problem)
            yield Frame(index, name, image, timestamp, captured, error)


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
