"""An exported file as a function: camera frame → class, scores, mask, relevance."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrp_edge.errors import LrpEdgeError
from lrp_edge.runtime.session import OUTPUTS, check_contract, first_line, open_session, read_card


@dataclass(frozen=True)
class Segmentation:
    """What the engine says of one frame.

    Attributes
    ----------
    label : int
        Index of the decided class.
    name : str
        Its name.
    defect : bool
        Whether that class counts as a defect.
    scores : ndarray, float32 [K]
        Softmax or sigmoid scores in the order of the card's classes.
    mask : ndarray, uint8 [H, W]
        255 on the defect, 0 elsewhere; empty for a frame decided OK.
    relevance : ndarray, float32 [H, W]
        Relevance of each pixel for the explained class.
    milliseconds : float
        Time of the engine's call that the frame was in.
    batch : int
        Frames in that call.
    """

    label: int
    name: str
    defect: bool
    scores: NDArray[np.float32]
    mask: NDArray[np.uint8]
    relevance: NDArray[np.float32]
    milliseconds: float
    batch: int = 1

    @property
    def mask_area(self) -> float:
        """Share of the frame's pixels in the mask, 0 to 1."""
        return float(np.count_nonzero(self.mask)) / self.mask.size


class Segmenter:
    """An exported model, ready to run.

    Parameters
    ----------
    path : path
        An ONNX file of ``lrp-edge export``.
    provider : {"cpu", "cuda"}, optional
        Where it runs; by default the best that is there.
    threads : int, optional
        Threads of one operator; by default ONNX Runtime's choice.

    Attributes
    ----------
    path : Path
        The file.
    card : ModelCard
        The card inside it.
    provider : str
        Where it runs.
    size : (height, width)
        The frames' size in pixels; None where any is taken.

    Raises
    ------
    LrpEdgeError
        If the file is missing, no ONNX model, has no card or does not fit the graph contract, or if the provider is
        unknown or not there.

    Examples
    --------
    >>> segmenter = Segmenter("out/model.onnx")
    >>> segmentation = segmenter(frame)
    >>> segmentation.name, segmentation.mask.shape
    """

    def __init__(
        self, path: str | os.PathLike[str], *, provider: str | None = None, threads: int | None = None
    ) -> None:
        self.path = Path(path)
        self._session, self.provider = open_session(self.path, provider, threads)
        self.card = read_card(self._session, self.path)
        self.size = check_contract(self._session, self.card, self.path)
        fixed = self._session.get_inputs()[0].shape[0]
        self._batch = fixed if isinstance(fixed, int) else None

    def __call__(self, frame: NDArray[np.uint8]) -> Segmentation:
        """Decide and segment one frame.

        Parameters
        ----------
        frame : ndarray, uint8 [H, W, C]
            In the card's channel order; [H, W] too for a gray model.

        Raises
        ------
        LrpEdgeError
            If the frame's type, size or channels are not those of the model, or the engine fails.
        """
        return self._run(self.check(frame)[None])[0]

    def batch(self, frames: NDArray[np.uint8] | Sequence[NDArray[np.uint8]]) -> list[Segmentation]:
        """Decide and segment frames of one size.

        Parameters
        ----------
        frames : ndarray, uint8 [N, H, W, C], or sequence of [H, W, C]
            More than the card's ``max_batch`` are run in several calls.

        Raises
        ------
        LrpEdgeError
            As for one frame, or if the frames differ in size.
        """
        checked = [self.check(frame) for frame in frames]
        sizes = sorted({frame.shape[:2] for frame in checked})
        if len(sizes) > 1:
            raise LrpEdgeError(
                f"a batch has frames of {' and '.join(f'{h}x{w}' for h, w in sizes)} pixels; expected one size: "
                f"batch frames of equal size together"
            )
        most = min(self.card.input.max_batch, self._batch or self.card.input.max_batch)
        groups = [checked[start : start + most] for start in range(0, len(checked), most)]
        return [
            result
            for group in groups
            for result in self._run(group[0][None] if len(group) == 1 else np.stack(group))
        ]

    def check(self, frame: Any) -> NDArray[np.uint8]:
        """Return a frame as [H, W, C], or say why it is none that the model takes.

        Raises
        ------
        LrpEdgeError
            If the frame is no array, or its type, rank, size or channels are not those of the model.
        """
        channels, order = self.card.input.channels, self.card.input.order
        wanted = f"uint8 [H, W, {channels}] in {order} order"
        if not isinstance(frame, np.ndarray):
            raise LrpEdgeError(f"frame is {type(frame).__name__}; expected a NumPy array, {wanted}")
        if frame.dtype != np.uint8:
            raise LrpEdgeError(
                f"frame is {_type(frame)}; expected {wanted}: give the camera's pixels, 0 to 255"
            )
        if frame.ndim == 2 and channels == 1:
            frame = frame[..., None]
        if frame.ndim != 3:
            raise LrpEdgeError(
                f"frame has shape {list(frame.shape)}; expected {wanted}: give several frames to batch()"
            )
        if frame.shape[2] != channels:
            raise LrpEdgeError(
                f"frame has {frame.shape[2]} channels; expected {channels} ({order}): convert it, or export the model "
                f"for another channel order"
            )
        self._check_size(*frame.shape[:2])
        return frame

    def _check_size(self, height: int, width: int) -> None:
        if not height or not width:
            raise LrpEdgeError(f"frame is {height}x{width} pixels; expected at least one pixel")
        if any(want not in (None, have) for want, have in zip(self.size, (height, width), strict=True)):
            wanted = "x".join("any" if side is None else str(side) for side in self.size)
            raise LrpEdgeError(
                f"frame is {height}x{width} pixels; expected {wanted} (height x width): resize it, or export the "
                f"model for its size or for any"
            )

    def _run(self, image: NDArray[np.uint8]) -> list[Segmentation]:
        start = time.perf_counter()
        try:
            outputs = self._session.run(OUTPUTS, {"image": np.ascontiguousarray(image)})
        except Exception as error:  # ONNX Runtime's exceptions have no common base but this.
            count, height, width = image.shape[:3]
            raise LrpEdgeError(
                f"{self.path}: ONNX Runtime failed on {count} frame(s) of {height}x{width} pixels ({first_line(error)}); "
                f"expected frames of a size that the network takes"
            ) from error
        milliseconds = (time.perf_counter() - start) * 1e3
        if not np.isfinite(outputs[0]).all():
            raise LrpEdgeError(
                f"{self.path}: the scores are NaN or infinite; check the model's weights and export it again"
            )
        return [
            self._result(*parts, milliseconds=milliseconds, batch=len(image))
            for parts in zip(*outputs, strict=True)
        ]

    def _result(
        self,
        scores: NDArray[np.float32],
        label: np.int32,
        mask: NDArray[np.uint8],
        relevance: NDArray[np.float32],
        *,
        milliseconds: float,
        batch: int,
    ) -> Segmentation:
        name = self.card.classes[int(label)]
        return Segmentation(
            int(label), name, name in self.card.defects, scores, mask, relevance, milliseconds, batch
        )


def _type(frame: NDArray[Any]) -> str:
    if np.issubdtype(frame.dtype, np.inexact) and not np.isfinite(frame).all():
        return f"{frame.dtype} with NaN" if np.isnan(frame).any() else f"{frame.dtype} with infinities"
    return str(frame.dtype)
