"""Unrolled module → files: ONNX with the model card inside, and TensorRT engines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lrp_edge.export.onnx_file import to_onnx
    from lrp_edge.export.tensorrt.engine import to_engine

__all__ = ["to_engine", "to_onnx"]

_HOMES = {"to_onnx": "onnx_file", "to_engine": "tensorrt"}


def __getattr__(name: str) -> Any:
    """Import torch or TensorRT only when its function is asked for."""
    from importlib import import_module

    if name in _HOMES:
        return getattr(import_module(f"lrp_edge.export.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'lrp_edge.export' has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names, also those that are not imported yet."""
    return sorted({*globals(), *__all__})
