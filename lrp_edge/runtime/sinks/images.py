"""Masks and overlays as files, within a budget of disk space."""

from __future__ import annotations

import contextlib
import os
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

from lrp_edge.errors import LrpEdgeError, needs_extra
from lrp_edge.files import whole
from lrp_edge.pictures.folders import IMAGE, PARTS
from lrp_edge.runtime.overlay import draw_result
from lrp_edge.runtime.result import Frame, Result
from lrp_edge.runtime.sinks.base import ChosenSink, Which
from lrp_edge.runtime.sinks.folder import Lock

with needs_extra("cpu"):
    import cv2

# A file system takes names of 255 bytes, and a character may have four.
_LONGEST_STEM = 60


class Images(ChosenSink):
    """Writes ``masks/`` and ``overlays/``, each file whole or not at all.

    Parameters
    ----------
    folder : path
        Created if it does not exist.
    order : {"BGR", "RGB", "GRAY"}
        Channel order of the frames.
    overlays, masks : bool
        What is written of each frame.
    only : {"all", "defects"}
        Of which frames.
    budget : int, optional
        Most bytes of images in the folder, those of earlier runs among them; the oldest are removed for new ones.
    lock : Lock, optional
        What keeps the folder for this run.

    Raises
    ------
    LrpEdgeError
        If `only` is not known or the budget not positive.
    """

    name, recording = "images", True

    def __init__(
        self,
        folder: str | Path,
        order: str,
        *,
        overlays: bool = True,
        masks: bool = True,
        only: Which = "all",
        budget: int | None = None,
        lock: Lock | None = None,
    ) -> None:
        super().__init__(only)
        if budget is not None and budget <= 0:
            raise LrpEdgeError(f"the budget for images is {budget} bytes; expected more than 0")
        self._folder, self._order = Path(folder), order
        self._parts = [part for part, wanted in (("mask", masks), ("overlay", overlays)) if wanted]
        self._room = _Room(self._folder, budget) if budget is not None else None
        self._made: list[Path] = []
        self._lock = lock

    def open(self) -> None:
        try:
            for folder in (self._folder, *(self._folder / f"{part}s" for part in self._parts)):
                self._claim(folder)
            if self._room:
                self._room.scan()
        except OSError as error:
            self.close()
            raise LrpEdgeError(f"cannot write to {self._folder}: {error.strerror}; choose another folder") from error

    def _claim(self, folder: Path) -> None:
        if not os.path.exists(folder):
            folder.mkdir(parents=True)
            self._made.append(folder)
        _partial(folder).touch()
        _partial(folder).unlink()

    def wants(self, result: Result) -> bool:
        return result.segmentation is not None and super().wants(result)

    def accept(self, result: Result) -> None:
        result.files.update(self._names(result.frame))

    def write(self, result: Result) -> None:
        if self._lock is not None:
            self._lock.renew()
        files = {self._names(result.frame)[part]: self._encoded(part, result) for part in self._parts}
        if self._room:
            self._room.make(sum(len(data) for data in files.values()))
        for name, data in files.items():
            self._write(name, data)

    def counts(self) -> dict[str, int]:
        return {"rotated": self._room.removed} if self._room else {}

    def close(self) -> None:
        for folder in reversed(self._made):
            # Those that are not empty stay.
            with contextlib.suppress(OSError):
                folder.rmdir()

    def _names(self, frame: Frame) -> dict[str, str]:
        name = file_name(frame)
        return {part: f"{part}s/{name}" for part in self._parts}

    def _encoded(self, part: str, result: Result) -> Any:
        assert result.segmentation is not None
        image = result.segmentation.mask if part == "mask" else draw_result(result, self._order)
        encoded, data = cv2.imencode(".png", image)
        if not encoded:
            raise LrpEdgeError(f"frame {result.frame.index}: its {part} of {image.shape} cannot be encoded as PNG")
        return data

    def _write(self, name: str, data: Any) -> None:
        path = self._folder / name
        # Somebody may have removed the folder.
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path, _partial(path.parent), "free space, set --budget-mb, or choose another folder") as partial:
            partial.write_bytes(data)
        if self._room:
            self._room.add(name, len(data))


def file_name(frame: Frame) -> str:
    """Return the name of a frame's images: its id, and what its source is called."""
    place = frame.source.partition("#")[0]
    stem = Path(place).stem
    if "://" in place:
        # What stands last in an address may be a host, whose dots are not a suffix.
        last = Path(place.partition("?")[0]).name.rpartition("@")[2]
        stem = re.sub(r"\.[A-Za-z]\w*$", "", last)
    stem = re.sub(r"[^\w.-]+", "_", stem)[:_LONGEST_STEM]
    return f"{frame.index:06d}_{stem or 'frame'}.png"


def _partial(folder: Path) -> Path:
    # One name for all: a file left by a killed run is overwritten.
    return folder / ".partial"


class _Room:
    """Keeps the images of a folder within a budget of bytes."""

    def __init__(self, folder: Path, budget: int) -> None:
        self._folder, self._budget = folder, budget
        self._sizes: OrderedDict[str, int] = OrderedDict()
        self._total = 0
        self.removed = 0

    def scan(self) -> None:
        """Account for files of earlier runs, the oldest first."""
        found = []
        for part in PARTS:
            for path in (self._folder / part).glob("*.png"):
                if IMAGE.fullmatch(path.name) and path.is_file() and not path.is_symlink():
                    status = path.stat()
                    found.append((status.st_mtime_ns, path.name, f"{part}/{path.name}", status.st_size))
        for _, _, name, size in sorted(found):
            self.add(name, size)
        self.make(0)

    def make(self, size: int) -> None:
        """Remove the oldest until there is room for this many bytes."""
        if size > self._budget:
            raise LrpEdgeError(f"images of one frame take {size} bytes, the budget is {self._budget}; set a larger one")
        while self._total + size > self._budget:
            name = next(iter(self._sizes))
            try:
                (self._folder / name).unlink(missing_ok=True)
            except OSError as error:
                raise LrpEdgeError(f"cannot remove {self._folder / name}: {error.strerror}; free space") from error
            self._total -= self._sizes.pop(name)
            self.removed += 1

    def add(self, name: str, size: int) -> None:
        """Account for a written file, which may have replaced another."""
        self._total += size - self._sizes.pop(name, 0)
        self._sizes[name] = size
