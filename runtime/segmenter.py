"""An exported file, loaded and ready for frames."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrp_edge.card import METADATA_KEY, ModelCard
from lrp_edge.errors import LrpEdgeError, needs_extra
from lrp_edge.runtime.segmentation import Segmentation

with needs_extra("cpu"):
    import onnxruntime

#: Short names of ONNX Runtime's providers, best first, with the extra that installs each.
PROVIDERS = {
    "cuda": ("CUDAExecutionProvider", "gpu"),
    "cpu": ("CPUExecutionProvider", "cpu"),
}
_INPUT = {"image": "tensor(uint8)"}
_OUTPUTS = {
    "scores": "tensor(float)",
    "label": "tensor(int32)",
    "mask": "tensor(uint8)",
    "relevance": "tensor(float)",
}

UInt8 = NDArray[np.uint8]


class Segmenter:
    """One session of ONNX Runtime behind the graph contract.

    Parameters
    ----------
    path : path
        A file that ``lrp-edge export`` wrote.
    provider : {"cuda", "cpu"}, optional
        What runs it; by default the best of those installed.
    threads : int, optional
        Threads of one call on the CPU; by default as many as there are cores.

    Raises
    ------
    LrpEdgeError
        If there is no such file, it is not ONNX, has no model card or other tensors than the contract's, or the
        provider is not installed.
    """

    def __init__(self, path: str | Path, *, provider: str | None = None, threads: int | None = None) -> None:
        self.path = Path(path)
        self.provider = _choose(provider)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if threads is not None:
            options.intra_op_num_threads = threads
        self._session = _open(self.path, options, [PROVIDERS[self.provider][0]])
        self.provider = _started(self._session, provider)
        self.card = _read_card(self._session, self.path)
        _check_tensors(self._session, self.path)

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
        """Segment frames of one size, in calls of at most the card's ``max_batch``.

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
        limit = self.card.input.max_batch
        return [
            result for start in range(0, len(stacked), limit) for result in self._run(stacked[start : start + limit])
        ]

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
        try:
            scores, labels, masks, relevance = self._session.run(list(_OUTPUTS), {"image": batch})
        except Exception as error:  # ONNX Runtime's exceptions have no common base of their own
            raise LrpEdgeError(f"{self.path} failed on frames {list(batch.shape)}: {_first_line(error)}") from error
        milliseconds = (time.perf_counter() - start) * 1e3 / len(batch)
        defects = self.card.defect_indices
        return [
            Segmentation(
                int(label),
                self.card.classes[label],
                int(label) in defects,
                scores[i],
                masks[i],
                relevance[i],
                milliseconds,
            )
            for i, label in enumerate(labels)
        ]


def _choose(asked: str | None) -> str:
    installed = onnxruntime.get_available_providers()
    if asked is None:
        return next(name for name, (provider, _) in PROVIDERS.items() if provider in installed)
    if asked not in PROVIDERS:
        raise LrpEdgeError(f"no provider {asked!r}; expected one of {', '.join(PROVIDERS)}")
    provider, extra = PROVIDERS[asked]
    if provider not in installed:
        raise LrpEdgeError(f"this ONNX Runtime has no {provider}; install it with pip install 'lrp-edge[{extra}]'")
    return asked


def _started(session: Any, asked: str | None) -> str:
    """Return the provider that runs: ONNX Runtime lists CUDA without a GPU too, and then falls back to the CPU."""
    running = session.get_providers()
    started = next(name for name, (provider, _) in PROVIDERS.items() if provider in running)
    if asked not in (None, started):
        raise LrpEdgeError(
            f"provider {asked} did not start, only {started} did; check driver and libraries, or ask for {started}"
        )
    return started


def _open(path: Path, options: Any, providers: list[str]) -> Any:
    if not path.is_file():
        raise LrpEdgeError(f"no model at {path}")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:
        raise LrpEdgeError(f"{path} is no ONNX file that can be run: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _read_card(session: Any, path: Path) -> ModelCard:
    text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if text is None:
        raise LrpEdgeError(f"{path} has no model card; expected a file that lrp-edge export wrote")
    return ModelCard.from_json(text, str(path))


def _check_tensors(session: Any, path: Path) -> None:
    for kind, found, wanted in (
        ("input", session.get_inputs(), _INPUT),
        ("output", session.get_outputs(), _OUTPUTS),
    ):
        types = {tensor.name: tensor.type for tensor in found}
        for name, tensor_type in wanted.items():
            if types.get(name) != tensor_type:
                raise LrpEdgeError(
                    f"{path}: {kind} {name!r} is {types.get(name, 'missing')}; expected {tensor_type}: export again"
                )
