"""Measure classes and masks of any origin against labels and pixel truth, with the same code."""

from lrp_edge.evaluation.pixels import PixelFigures
from lrp_edge.evaluation.predictors import METHODS, Predictor, open_predictor
from lrp_edge.evaluation.run import Case, Evaluation, evaluate
from lrp_edge.evaluation.severity import Severity, severity

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
