"""Training from image-level labels or clicks, and of the U-Net baseline, which needs masks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lrp_edge.training.options import Options

if TYPE_CHECKING:
    from lrp_edge.training.metrics import Figures, measure
    from lrp_edge.training.run import TrainingResult, train

__all__ = ["Figures", "Options", "TrainingResult", "measure", "train"]

_HOMES = {"Figures": "metrics", "TrainingResult": "run", "measure": "metrics", "train": "run"}


def __getattr__(name: str) -> Any:
    """Import what needs torch only when it is asked for."""
    from importlib import import_module

    if name in _HOMES:
        return getattr(import_module(f"lrp_edge.training.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'lrp_edge.training' has no attribute {name!r}")
