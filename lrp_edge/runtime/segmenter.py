"""An exported file, loaded and ready for frames."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrp_edge.errors import LrpEdgeError
from lrp_edge.runtime.engines import open_engine
from lrp_edge.runtime.engines.base import Outputs, largest_batch
from lrp_edge.runtime.result import Segmentation

UInt8 = NDArray[np.uint8]
_Started = tuple[float, tuple[int, ...], Callable[[], Outputs]]


class Segmenter:
    """An engine behind the graph contract; a context manager.

    Parameters
    ----------
    path : path
        A file that ``lrp-edge export`` or ``lrp-edge compile`` wrote.
    provider : str, optional
        What runs an ONNX file, see :func:`~lrp_edge.runtime.engines.open_engine`; by default CUDA, else the CPU.
    threads : int, optional
        Threads of one call on the CPU; by default as many as there are cores.

    Attributes
    ----------
    card : ModelCard
        What the model is.
    provider : str
        What runs it, e.g. ``"cpu"``, ``"cuda"``, ``"openvino"`` or ``"rtx"``.

    Raises
    ------
    LrpEdgeError
        If the file does not exist, is not one of ours, does not fit its card, or its backend is not installed or does
        not start.
    """

    def __init__(self, path: str | Path, *, provider: str | None = None, threads: int | None = None) -> None:
        self.path = Path(path)
        self._engine = open_engine(self.path, provider, threads)
        self.card, self.provider = self._engine.card, self._engine.provider
        self._defects = frozenset(self.card.defect_indices)

    def __enter__(self) -> Segmenter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the engine."""
        self._engine.close()

    def __call__(self, frame: UInt8) -> Segmentation:
        """Segment one frame.

        Parameters
        ----------
        frame : uint8 [H, W, C], or [H, W] for a gray model
            A camera frame in the card's channel order.

        Raises
        ------
        LrpEdgeError
            If the frame's type, shape or size is not what the model takes.
        """
        return self._run(self._as_batch(frame, 3)[None])[0]

    def batch(self, frames: Sequence[UInt8] | UInt8) -> list[Segmentation]:
        """Segment frames of one size, in calls of at most as many as the model takes.

        Parameters
        ----------
        frames : uint8 [N, H, W, C], or sequence of frames of equal size
            Camera frames.

        Raises
        ------
        LrpEdgeError
            As for one frame; also if the sizes differ.
        """
        if isinstance(frames, np.ndarray):
            stacked = self._as_batch(frames, 4)
        else:
            checked = [self._as_batch(frame, 3) for frame in frames]
            sizes = sorted({frame.shape[:2] for frame in checked})
            if len(sizes) > 1:
                raise LrpEdgeError(f"frames of a batch have sizes {sizes[0]} and {sizes[1]}; expected one size")
            stacked = np.stack(checked) if checked else np.empty((0, 1, 1, self.card.input.channels), np.uint8)
        limit = largest_batch(self.card)
        return [
            result for start in range(0, len(stacked), limit) for result in self._run(stacked[start : start + limit])
        ]

    def stream(self, frames: Iterable[UInt8]) -> Iterator[Segmentation]:
        """Segment frames as they come, several at once where the engine can, and yield in their order.

        Parameters
        ----------
        frames : iterable of uint8 [H, W, C]
            Camera frames; each is copied before the next is asked for.

        Yields
        ------
        Segmentation
            Its ``milliseconds`` are those from the frame's hand-over to its answer.

        Raises
        ------
        LrpEdgeError
            As for one frame, after the answers to those before it.
        """
        under_way: deque[_Started] = deque()
        for frame in frames:
            try:
                batch = self._as_batch(frame, 3)[None]
                under_way.append((time.perf_counter(), batch.shape, self._engine.submit(batch)))
            except LrpEdgeError:
                yield from self._answers(under_way)
                raise
            yield from self._answers(under_way, self._engine.in_flight - 1)
        yield from self._answers(under_way)

    def _answers(self, under_way: deque[_Started], left: int = 0) -> Iterator[Segmentation]:
        while len(under_way) > left:
            start, shape, wait = under_way.popleft()
            outputs = wait()
            yield from self._results(outputs, shape, (time.perf_counter() - start) * 1e3)

    def _as_batch(self, frame: Any, axes: int) -> UInt8:
        """Check a frame (or batch, by its axes) and return it with a channel axis."""
        spec = self.card.input
        if not isinstance(frame, np.ndarray):
            raise LrpEdgeError(f"frame is a {type(frame).__name__}; expected a NumPy array of uint8")
        if frame.dtype != np.uint8:
            broken = frame.dtype.kind == "f" and not np.isfinite(frame).all()
            raise LrpEdgeError(
                f"frame is {frame.dtype}{' and has NaN or infinite values' if broken else ''}; expected uint8 with 0 "
                "to 255, as the camera gives it"
            )
        if frame.ndim == axes - 1 and spec.channels == 1:
            frame = frame[..., None]
        if frame.ndim != axes or frame.shape[-1] != spec.channels or 0 in frame.shape:
            wanted = ("N, " if axes == 4 else "") + f"H, W, {spec.channels}"
            raise LrpEdgeError(f"frame has shape {list(frame.shape)}; expected [{wanted}] ({spec.order})")
        if spec.size is not None and frame.shape[-3:-1] != spec.size:
            height, width = frame.shape[-3:-1]
            raise LrpEdgeError(
                f"frame is {height}x{width}; this model takes {spec.size[0]}x{spec.size[1]}: resize the frame, or "
                "export with --size dynamic"
            )
        checked: UInt8 = frame
        return checked

    def _run(self, batch: UInt8) -> list[Segmentation]:
        start = time.perf_counter()
        outputs = self._engine.run(batch)
        return self._results(outputs, batch.shape, (time.perf_counter() - start) * 1e3 / len(batch))

    def _results(self, outputs: Outputs, shape: tuple[int, ...], milliseconds: float) -> list[Segmentation]:
        classes, defects = self.card.classes, self._defects
        count, height, width, _ = shape
        wanted = ((count, len(classes)), (count,), (count, height, width), (count, height, width))
        shapes = (outputs.scores.shape, outputs.label.shape, outputs.mask.shape, outputs.relevance.shape)
        for name, found, expected in zip(Outputs._fields, shapes, wanted, strict=True):
            if found != expected:
                raise LrpEdgeError(f"{self.path} gave {name} {list(found)}; expected {list(expected)}: export again")
        for label in outputs.label.tolist():
            if not 0 <= label < len(classes):
                raise LrpEdgeError(f"{self.path} gave label {label}; its card has {len(classes)} classes: export again")
        return [
            Segmentation(int(label), classes[label], int(label) in defects, scores, mask, relevance, milliseconds)
            for scores, label, mask, relevance in zip(*outputs, strict=True)
        ]
