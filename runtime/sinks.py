"""Where results go: a folder of overlays, masks and one line a frame."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lrp_edge.errors import LrpEdgeError
from lrp_edge.runtime.overlay import draw_overlay
from lrp_edge.runtime.segmenter import Segmentation
from lrp_edge.runtime.sources import Frame
from lrp_edge.runtime.vision import load_cv2

RESULTS = "results.jsonl"
FOLDERS = ("overlays", "masks")


class Sink(Protocol):
    """Takes results in the order of the frames, between ``__enter__`` and ``__exit__``."""

    def write(self, frame: Frame, segmentation: Segmentation) -> None:
        """Take a frame and what the engine said of it."""

    def skip(self, frame: Frame) -> None:
        """Take the event of a frame that was left out; its `error` says why."""

    def __enter__(self) -> Sink: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class ResultFolder:
    """A folder with ``results.jsonl``, ``masks/`` and ``overlays/``.

    The lines are collected in ``results.jsonl.part``, which gets its name when the folder is closed, also by an error
    or a signal. If no frame came, nothing is left. Older results are removed when the first frame comes.

    Parameters
    ----------
    folder : path
        Made if it is not there.
    order : {"BGR", "RGB", "GRAY"}
        Channel order of the frames.
    overlays : bool
        Draw overlays.
    overwrite : bool
        Replace results that are there.

    Raises
    ------
    LrpEdgeError
        On entering, if the folder cannot be written, or has results that are not to be replaced.
    """

    def __init__(
        self, folder: str | os.PathLike[str], order: str, *, overlays: bool = True, overwrite: bool = False
    ) -> None:
        self.folder = Path(folder)
        self.order = order
        self.overlays = overlays
        self.overwrite = overwrite
        self._lines = 0

    @property
    def results(self) -> Path:
        """The file with one line a frame."""
        return self.folder / RESULTS

    def __enter__(self) -> ResultFolder:
        old = [name for name in (RESULTS, *FOLDERS) if (self.folder / name).exists()]
        if old and not self.overwrite:
            raise LrpEdgeError(
                f"{self.folder}: {old[0]} is there from an earlier run; choose another folder or give --overwrite"
            )
        self._made = [path for path in (self.folder, *self.folder.parents) if not path.exists()]
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._part = self.folder / f"{RESULTS}.part"
            self._file: IO[str] = self._part.open("w", encoding="utf-8")
        except OSError as error:
            raise LrpEdgeError(
                f"{self.folder}: cannot be written ({error.strerror}); choose another folder with -o"
            ) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if self._lines:
            os.replace(self._part, self.results)
            return
        self._part.unlink()
        for path in self._made:
            path.rmdir()

    def write(self, frame: Frame, segmentation: Segmentation) -> None:
        """Write mask, overlay and line of a frame."""
        if frame.image is None:
            raise ValueError("a frame without image has no segmentation")
        line: dict[str, Any] = {
            "frame": frame.index,
            "source": frame.source,
            "label": segmentation.label,
            "name": segmentation.name,
            "defect": segmentation.defect,
            "scores": [float(f"{score:.7g}") for score in segmentation.scores],
            "mask_area": segmentation.mask_area,
            "latency_ms": round(segmentation.milliseconds, 3),
            "mask": self._save("masks", frame.key, segmentation.mask),
        }
        if self.overlays:
            picture = draw_overlay(frame.image, segmentation, self.order)
            line["overlay"] = self._save("overlays", frame.key, picture)
        if frame.timestamp is not None:
            line["timestamp"] = frame.timestamp
        self._line(line)

    def skip(self, frame: Frame) -> None:
        """Write a line that says why a frame was left out."""
        self._line({"frame": frame.index, "source": frame.source, "error": frame.error})

    def _line(self, line: dict[str, Any]) -> None:
        if not self._lines:
            self._clear()
        self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._file.flush()
        self._lines += 1

    def _save(self, kind: str, key: str, image: NDArray[np.uint8]) -> str:
        if not self._lines:
            self._clear()
        name = f"{kind}/{key}.png"
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        part.write_bytes(load_cv2().imencode(".png", image)[1].tobytes())
        os.replace(part, path)
        return name

    def _clear(self) -> None:
        self.results.unlink(missing_ok=True)
        for name in FOLDERS:
            if (self.folder / name).exists():
                shutil.rmtree(self.folder / name)
