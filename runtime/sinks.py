"""Where results go: images and a line of JSON for each frame."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from lrp_edge.errors import LrpEdgeError, needs_extra
from lrp_edge.runtime.overlay import draw_overlay
from lrp_edge.runtime.segmentation import Segmentation
from lrp_edge.runtime.sources import Frame

with needs_extra("cpu"):
    import cv2


class FolderSink:
    """Writes ``overlays/``, ``masks/`` and ``results.jsonl`` into a folder; a context manager.

    Each line of ``results.jsonl`` is flushed as it is written, so that the file is whole after an interruption.

    Parameters
    ----------
    folder : path
        Made if it is not there.
    order : {"BGR", "RGB", "GRAY"}
        Channel order of the frames.
    overlays : bool
        Whether to draw overlays.
    overwrite : bool
        Whether results that are there may be replaced.

    Raises
    ------
    LrpEdgeError
        If the folder cannot be written, or holds results already.
    """

    def __init__(self, folder: str | Path, order: str, *, overlays: bool = True, overwrite: bool = False) -> None:
        self.folder, self.order, self.overlays = Path(folder), order, overlays
        self._results = self.folder / "results.jsonl"
        if self._results.exists() and not overwrite:
            raise LrpEdgeError(f"{self._results} exists; choose another folder, or --overwrite")
        try:
            for part in ("masks", "overlays") if overlays else ("masks",):
                (self.folder / part).mkdir(parents=True, exist_ok=True)
            self._file = self._results.open("w")
        except OSError as error:
            raise LrpEdgeError(f"cannot write to {folder}: {error.strerror}; choose another folder") from error

    def __enter__(self) -> FolderSink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, frame: Frame, result: Segmentation) -> None:
        """Write a frame's images and its line.

        Raises
        ------
        LrpEdgeError
            If an image cannot be written.
        """
        assert frame.image is not None
        name = f"{frame.index:06d}_{Path(frame.source.partition('#')[0]).stem}.png"
        line: dict[str, Any] = {
            "frame": frame.index,
            "source": frame.source,
            "label": result.label,
            "name": result.name,
            "defect": result.defect,
            "scores": [round(float(score), 6) for score in result.scores],
            "mask_fraction": round(float(np.count_nonzero(result.mask) / result.mask.size), 6),
            "latency_ms": round(result.milliseconds, 3),
            "mask": f"masks/{name}",
        }
        self._image(line["mask"], result.mask)
        if self.overlays:
            line["overlay"] = f"overlays/{name}"
            self._image(line["overlay"], draw_overlay(frame.image, result, self.order))
        self._line(line)

    def write_error(self, frame: Frame) -> None:
        """Write the line of a frame that could not be read."""
        self._line({"frame": frame.index, "source": frame.source, "error": frame.error})

    def _image(self, name: str, image: Any) -> None:
        path = self.folder / name
        encoded, data = cv2.imencode(".png", image)
        try:
            assert encoded
            path.write_bytes(data.tobytes())
        except OSError as error:
            raise LrpEdgeError(f"cannot write {path}: {error.strerror}") from error

    def _line(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
