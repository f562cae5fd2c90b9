"""lrp-edge: one engine that answers with class and pixel mask."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from lrp_edge.card import ModelCard
from lrp_edge.errors import LrpEdgeError

if TYPE_CHECKING:
    from lrp_edge import export, runtime
    from lrp_edge.relevance import unroll

# ONNX Runtime 1.32 reports its use to its makers, from Linux too, unless it finds this when it is imported. What a line
# inspects is nobody else's business, and a device may have no disk for it to queue reports on.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
__all__ = ["LrpEdgeError", "ModelCard", "export", "runtime", "unroll"]


def __getattr__(name: str) -> Any:
    """Import what needs torch or an engine only when it is asked for."""
    from importlib import import_module

    if name == "unroll":
        return import_module("lrp_edge.relevance").unroll
    if name in ("export", "runtime"):
        return import_module(f"lrp_edge.{name}")
    raise AttributeError(f"module 'lrp_edge' has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names, also those that are not imported yet."""
    return sorted({*globals(), *__all__})
