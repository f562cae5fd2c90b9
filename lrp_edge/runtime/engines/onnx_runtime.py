"""ONNX files in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lrp_edge.card import METADATA_KEY, ModelCard
from lrp_edge.errors import LrpEdgeError, first_line, needs_extra
from lrp_edge.runtime.engines.base import OUTPUTS, Engine, Float32, Outputs, UInt8, check_shapes, check_tensors
from lrp_edge.runtime.onnx_check import check_file

with needs_extra("cpu"):
    import onnxruntime

#: Short names of ONNX Runtime's providers, each with what installs it.
PROVIDERS = {
    "cuda": ("CUDAExecutionProvider", "'lrp-edge[gpu]'"),
    "cpu": ("CPUExecutionProvider", "'lrp-edge[cpu]'"),
    "tensorrt": ("TensorrtExecutionProvider", "'lrp-edge[gpu]'"),
    "nv_tensorrt_rtx": ("NvTensorRTRTXExecutionProvider", "onnxruntime-trt-rtx, in place of onnxruntime"),
    "openvino": ("OpenVINOExecutionProvider", "'lrp-edge[openvino]'"),
}
# The others build engines for minutes at the first call, so they run only if they are asked for.
_UNASKED = ("cuda", "cpu")
_FALLBACKS = {"tensorrt": ["CUDAExecutionProvider"]}
_TYPES = {"tensor(float)": "float32", "tensor(int32)": "int32", "tensor(uint8)": "uint8"}


class OnnxRuntimeEngine(Engine):
    """One session of ONNX Runtime.

    Parameters
    ----------
    path : path
        A file that ``lrp-edge export`` wrote.
    provider : str, optional
        One of :data:`PROVIDERS`; by default CUDA if this ONNX Runtime has it, else the CPU.
    threads : int, optional
        Threads of one call on the CPU; by default as many as there are cores.

    Raises
    ------
    LrpEdgeError
        If there is no such file, it is not ONNX, has no model card or other tensors than the contract's, or the
        provider is not installed or does not start.
    """

    def __init__(self, path: Path, provider: str | None = None, threads: int | None = None) -> None:
        self.path = path
        self._session = _open(path, _choose(provider), threads)
        self.provider = _started(self._session, provider)
        self.name = f"onnxruntime-{self.provider}"
        try:
            self.card = _read_card(self._session, path)
            tensors = self._io()
            shapes = {tensor.name: tensor.shape for each in tensors for tensor in each}
        except UnicodeDecodeError as error:
            raise LrpEdgeError(f"{path} is damaged: it has text that is not UTF-8; copy or export it again") from error
        check_tensors(
            path, *({tensor.name: _TYPES.get(tensor.type, tensor.type) for tensor in each} for each in tensors)
        )
        check_shapes(path, self.card, shapes["image"], shapes["scores"])

    def _io(self) -> tuple[list[Any], list[Any]]:
        return self._session.get_inputs(), self._session.get_outputs()

    def run(self, frames: UInt8) -> Outputs:
        """See :meth:`Engine.run`."""
        if self._session is None:
            raise LrpEdgeError(f"{self.path} is closed; open it again")
        return Outputs(*_call(self._session, list(OUTPUTS), frames, self.path))

    def close(self) -> None:
        """See :meth:`Engine.close`."""
        self._session = None


def open_scores(path: Path, provider: str | None = None, threads: int | None = None) -> Callable[[UInt8], Float32]:
    """Open a graph of which only ``scores`` is left; see :func:`lrp_edge.runtime.engines.open_engine`."""
    session = _open(path, _choose(provider), threads)
    _started(session, provider)

    def scores(frames: UInt8) -> Float32:
        answer: Float32 = _call(session, ["scores"], frames, path)[0]
        return answer

    return scores


def installed(provider: str) -> bool:
    """Say whether this ONNX Runtime has a provider."""
    return PROVIDERS[provider][0] in onnxruntime.get_available_providers()


def _choose(asked: str | None) -> str:
    if asked is None:
        return next(name for name in _UNASKED if installed(name))
    if asked not in PROVIDERS:
        raise LrpEdgeError(f"no provider {asked!r}; expected one of {', '.join(PROVIDERS)}")
    if not installed(asked):
        provider, package = PROVIDERS[asked]
        raise LrpEdgeError(f"this ONNX Runtime has no {provider}; install it with pip install {package}")
    return asked


def _started(session: Any, asked: str | None) -> str:
    """Return the provider that runs: ONNX Runtime lists CUDA without a GPU too, and then falls back to the CPU."""
    first = session.get_providers()[0]
    started = next(name for name, (provider, _) in PROVIDERS.items() if provider == first)
    if asked not in (None, started):
        raise LrpEdgeError(
            f"provider {asked} did not start, only {started} did; check driver and libraries, or ask for {started}"
        )
    return started


def _open(path: Path, provider: str, threads: int | None) -> Any:
    check_file(path)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # A pool that keeps spinning after its call would slow what comes next: decoding, or another session.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if threads is not None:
        options.intra_op_num_threads = threads
    providers = [PROVIDERS[provider][0], *_FALLBACKS.get(provider, [])]
    try:
        # The CPU has nothing to fall back to, but would print that it tries.
        fallback = int(provider != "cpu")
        return onnxruntime.InferenceSession(str(path), options, providers=providers, enable_fallback=fallback)
    except Exception as error:  # ONNX Runtime's exceptions have no common base of their own
        raise LrpEdgeError(f"{path} is not an ONNX file that can be run: {first_line(error)}") from error


def _call(session: Any, names: list[str], frames: UInt8, path: Path) -> list[Any]:
    try:
        outputs: list[Any] = session.run(names, {"image": frames})
    except Exception as error:
        raise LrpEdgeError(f"{path} failed on frames {list(frames.shape)}: {first_line(error)}") from error
    return outputs


def _read_card(session: Any, path: Path) -> ModelCard:
    text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if text is None:
        raise LrpEdgeError(f"{path} has no model card; expected a file that lrp-edge export wrote")
    return ModelCard.from_json(text, str(path))
