"""Where frames come from: an image, a folder, a glob, a video file.

A frame that cannot be read is an event, never a picture: it comes as a :class:`Frame` without image.
"""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lrp_edge.card import CHANNEL_ORDERS
from lrp_edge.errors import LrpEdgeError
from lrp_edge.runtime.files import SUFFIXES, fault_of, is_image
from lrp_edge.runtime.vision import load_cv2


@dataclass(frozen=True)
class Frame:
    """One frame of a source, or the event that it could not be read.

    Attributes
    ----------
    index : int
        Its place in the source, from 0.
    source : str
        The file that it came from.
    key : str
        A name that no other frame of the source has, a relative path without suffix.
    image : ndarray, uint8 [H, W, C], or None
        Its pixels; None if it could not be read.
    timestamp : float or None
        Seconds from the start of a video; None for an image.
    error : str
        Why there is no image; otherwise empty.
    """

    index: int
    source: str
    key: str
    image: NDArray[np.uint8] | None
    timestamp: float | None = None
    error: str = ""


class Source(Protocol):
    """Frames one after the other, read when they are asked for."""

    @property
    def length(self) -> int | None:
        """How many frames there are, as far as is known beforehand."""

    def faults(self) -> list[Frame]:
        """Return the frames that are known beforehand to be unreadable; nothing is decoded for it."""

    def __iter__(self) -> Iterator[Frame]: ...


def open_source(source: str, order: str = "BGR") -> Source:
    """Open a source of frames.

    Parameters
    ----------
    source : str
        A file (image or video), a folder, or a glob. A folder is searched through all its subfolders for the image
        formats that OpenCV reads; a glob such as ``"Imgs/*.jpg"`` chooses among them, e.g. where pixel truth lies
        beside the images. Hidden files are left out.
    order : {"BGR", "RGB", "GRAY"}
        Channel order of the frames; :attr:`lrp_edge.card.InputSpec.order` of the model.

    Raises
    ------
    LrpEdgeError
        If there is no such file, no image in it, or it is no image and no video.
    """
    if order not in CHANNEL_ORDERS:
        raise LrpEdgeError(f"channel order is {order!r}; expected one of {', '.join(CHANNEL_ORDERS)}")
    path = Path(source)
    if path.is_dir():
        return ImageFiles(_below(path), path, order)
    if path.is_file():
        if path.suffix.lower() in SUFFIXES or is_image(path):
            return ImageFiles([path], path.parent, order)
        return VideoFile(path, order)
    if not glob.has_magic(source):
        raise LrpEdgeError(f"{source}: no such file; expected an image, a folder, a glob or a video file")
    found = sorted(Path(name) for name in glob.glob(source, recursive=True))
    files = [name for name in found if name.is_file()]
    if not files:
        raise LrpEdgeError(f"{source}: no file matches; expected image files")
    return ImageFiles(files, _common_parent(files), order)


def _below(folder: Path) -> list[Path]:
    files = [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    if not files:
        raise LrpEdgeError(f"{folder}: no image in this folder; expected {', '.join(sorted(SUFFIXES))}")
    return files


def _common_parent(files: list[Path]) -> Path:
    parent = files[0].parent
    while not all(parent in file.parents for file in files):
        parent = parent.parent
    return parent


class ImageFiles:
    """Image files in the order given.

    Parameters
    ----------
    files : list of Path
        The files.
    root : Path
        A folder above all of them; frames are named by their path below it.
    order : {"BGR", "RGB", "GRAY"}
        Channel order of the frames.
    """

    def __init__(self, files: list[Path], root: Path, order: str) -> None:
        self.files = files
        self.root = root
        self.order = order
        self._keys = _keys([file.relative_to(root) for file in files])

    @property
    def length(self) -> int:
        """Number of files."""
        return len(self.files)

    def faults(self) -> list[Frame]:
        """Return a frame without image for each file that is cut short or no image by its first and last bytes."""
        checked = ((index, fault_of(file)) for index, file in enumerate(self.files))
        return [self._fault(index, fault) for index, fault in checked if fault]

    def __iter__(self) -> Iterator[Frame]:
        for index, file in enumerate(self.files):
            fault = fault_of(file)
            image = None if fault else read_image(file, self.order)
            if image is None:
                yield self._fault(index, fault or "cannot be decoded")
            else:
                yield Frame(index, file.as_posix(), self._keys[index], image)

    def _fault(self, index: int, fault: str) -> Frame:
        name = self.files[index].as_posix()
        return Frame(index, name, self._keys[index], None, error=f"{name}: {fault}; mend or remove it")


def _keys(names: list[Path]) -> list[str]:
    """Drop suffixes, but for names that would fall together."""
    full = [name.as_posix() for name in names]
    short = [name.with_suffix("").as_posix() for name in names]
    count = Counter(short)
    keys = [one if count[one] == 1 else other for one, other in zip(short, full, strict=True)]
    return keys if len(set(keys)) == len(keys) else full


def read_image(path: Path, order: str) -> NDArray[np.uint8] | None:
    """Read an image as a camera frame.

    Parameters
    ----------
    path : Path
        The file; 16-bit images are scaled to 8 bits, as OpenCV does.
    order : {"BGR", "RGB", "GRAY"}
        Channel order.

    Returns
    -------
    ndarray, uint8 [H, W, C], or None
        None if OpenCV cannot decode it.
    """
    cv2 = load_cv2()
    try:
        image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE if order == "GRAY" else cv2.IMREAD_COLOR)
    except cv2.error:
        return None
    return None if image is None else _in_order(image, "GRAY" if order == "GRAY" else "BGR", order)


def _in_order(image: NDArray[np.uint8], have: str, want: str) -> NDArray[np.uint8]:
    cv2 = load_cv2()
    if have != want:
        image = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY if want == "GRAY" else cv2.COLOR_BGR2RGB)
    return image[..., None] if image.ndim == 2 else image


class VideoFile:
    """A video file, frame by frame.

    Parameters
    ----------
    path : Path
        The file.
    order : {"BGR", "RGB", "GRAY"}
        Channel order of the frames.

    Raises
    ------
    LrpEdgeError
        If OpenCV cannot open it or decodes no frame of it.
    """

    def __init__(self, path: Path, order: str) -> None:
        self.path = path
        self.order = order
        cv2 = load_cv2()
        capture = self._open(cv2)
        try:
            stated = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
            if not capture.grab():
                raise LrpEdgeError(
                    f"{path}: a video without a readable frame; expected an image or a video file"
                )
        finally:
            capture.release()
        self.length = stated if stated > 0 else None

    def faults(self) -> list[Frame]:
        """Return nothing: what is wrong inside a video shows when it is decoded."""
        return []

    def __iter__(self) -> Iterator[Frame]:
        cv2 = load_cv2()
        capture = self._open(cv2)
        index = 0
        try:
            while True:
                seconds = capture.get(cv2.CAP_PROP_POS_MSEC) / 1e3
                good, image = capture.read()
                if not good:
                    break
                yield Frame(
                    index,
                    self.path.as_posix(),
                    self._key(index),
                    _in_order(image, "BGR", self.order),
                    seconds,
                )
                index += 1
        finally:
            capture.release()
        if self.length is not None and index < self.length - _slack(self.length):
            fault = f"{self.path}: {index} of {self.length} frames could be read; the video is cut short"
            yield Frame(index, self.path.as_posix(), self._key(index), None, error=fault)

    def _open(self, cv2: Any) -> Any:
        capture = cv2.VideoCapture(str(self.path))
        if not capture.isOpened():
            raise LrpEdgeError(f"{self.path}: neither an image nor a video that OpenCV reads")
        return capture

    def _key(self, index: int) -> str:
        return f"{self.path.stem}-{index:06d}"


def _slack(length: int) -> int:
    """Frames by which a container's own count may be off: some state a duration only, and it is rounded."""
    return max(2, length // 100)
