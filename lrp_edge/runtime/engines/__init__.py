"""What runs a file: ONNX Runtime, OpenVINO, TensorRT-RTX or TensorRT, each behind the same few calls."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from lrp_edge.errors import LrpEdgeError
from lrp_edge.runtime.engines.base import Engine, Float32, Outputs, UInt8

__all__ = ["Engine", "Outputs", "open_engine", "open_scores"]


def open_engine(path: str | Path, provider: str | None = None, threads: int | None = None) -> Engine:
    """Open a file with what runs it.

    Parameters
    ----------
    path : path
        An ``.onnx`` file that ``lrp-edge export`` wrote, or an ``.engine`` of ``lrp-edge compile``.
    provider : {"cuda", "cpu", "tensorrt", "nv_tensorrt_rtx", "openvino"}, optional
        What runs an ONNX file: a provider of ONNX Runtime, or OpenVINO; by default CUDA, else the CPU. An engine file
        says itself what runs it.
    threads : int, optional
        Threads of one call on the CPU; by default as many as there are cores.

    Raises
    ------
    LrpEdgeError
        If the file does not exist, is not one of ours, or its backend is not installed or does not start.
    """
    path = Path(path)
    if path.suffix == ".engine":
        from lrp_edge.runtime.engines.native import NativeEngine

        return NativeEngine(path, provider)
    if _with_openvino(provider):
        from lrp_edge.runtime.engines.openvino import OpenVinoEngine

        return OpenVinoEngine(path, threads)
    from lrp_edge.runtime.engines.onnx_runtime import OnnxRuntimeEngine

    return OnnxRuntimeEngine(path, provider, threads)


def open_scores(
    path: str | Path, provider: str | None = None, threads: int | None = None
) -> Callable[[UInt8], Float32]:
    """Open the classifier alone: a function of frames uint8 [N, H, W, C] to scores float32 [N, K].

    ONNX Runtime computes every node of a file, whichever outputs are asked for, so the file must have been cut to
    what ``scores`` needs; OpenVINO cuts the graph itself. Otherwise as :func:`open_engine`.
    """
    path = Path(path)
    if path.suffix == ".engine":
        raise LrpEdgeError(f"{path}: the classifier cannot be cut out of an engine; give the .onnx file")
    if _with_openvino(provider):
        from lrp_edge.runtime.engines import openvino

        return openvino.open_scores(path, threads)
    from lrp_edge.runtime.engines import onnx_runtime

    return onnx_runtime.open_scores(path, provider, threads)


def cuts_by_itself(provider: str | None) -> bool:
    """Say whether what runs an ONNX file computes only what the asked outputs need."""
    return _with_openvino(provider)


def _with_openvino(provider: str | None) -> bool:
    """Say whether an ONNX file goes to OpenVINO itself rather than to ONNX Runtime."""
    if find_spec("onnxruntime") is None:
        return provider == "openvino" or (provider is None and find_spec("openvino") is not None)
    if provider != "openvino" or find_spec("openvino") is None:
        return False
    from lrp_edge.runtime.engines.onnx_runtime import installed

    return not installed("openvino")
