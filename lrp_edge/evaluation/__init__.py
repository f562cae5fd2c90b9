"""Measure classes and masks of any origin against labels and pixel truth, with the same code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lrp_edge.evaluation.pixels import PixelFigures
    from lrp_edge.evaluation.predictors import METHODS, Predictor, open_predictor
    from lrp_edge.evaluation.run import Case, Evaluation, evaluate
    from lrp_edge.evaluation.severities import Severity, severity

__all__ = [
    "METHODS",
    "Case",
    "Evaluation",
    "PixelFigures",
    "Predictor",
    "Severity",
    "evaluate",
    "open_predictor",
    "severity",
]

_HOMES = {
    "METHODS": "predictors",
    "Case": "run",
    "Evaluation": "run",
    "PixelFigures": "pixels",
    "Predictor": "predictors",
    "Severity": "severities",
    "evaluate": "run",
    "open_predictor": "predictors",
    "severity": "severities",
}


def __getattr__(name: str) -> Any:
    """Import what measures only when it is asked for."""
    from importlib import import_module

    if name in _HOMES:
        return getattr(import_module(f"lrp_edge.evaluation.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'lrp_edge.evaluation' has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names, also those that are not imported yet."""
    return sorted({*globals(), *__all__})
