"""The rules of Layer-wise Relevance Propagation, by name."""

from __future__ import annotations

from torch import nn

from lrp_edge.errors import LrpEdgeError
from lrp_edge.relevance.layers import Layer
from lrp_edge.relevance.rules.affine import (
    AffineRule,
    AlphaBeta,
    Epsilon,
    Flat,
    Gamma,
    WSquare,
    ZBox,
    ZPlus,
    ZPlusOfPositive,
)
from lrp_edge.relevance.rules.base import Function, Rule
from lrp_edge.relevance.rules.weightless import (
    Centred,
    DeepTaylor,
    Density,
    Magnitude,
    Norm,
    Pass,
    Proportional,
    WinnerTakesAll,
)

RULES: dict[str, type[Rule]] = {
    rule.__name__: rule
    for rule in (
        Epsilon,
        Gamma,
        AlphaBeta,
        ZPlus,
        ZPlusOfPositive,
        ZBox,
        WSquare,
        Flat,
        Pass,
        Norm,
        Magnitude,
        Centred,
        DeepTaylor,
        WinnerTakesAll,
        Proportional,
        Density,
    )
}


def prepare(rule: Rule, layer: Layer) -> nn.Module:
    """Return a layer's step by a rule.

    Raises
    ------
    LrpEdgeError
        If the rule is not for such a layer: names the layer, the rule, and those that it takes.
    """
    if layer.kind not in rule.kinds:
        names = ", ".join(name for name, known in RULES.items() if layer.kind in known.kinds)
        raise LrpEdgeError(
            f"{type(rule).__name__} is not a rule for {layer.node.target} at {layer.path or 'the model itself'}; "
            f"expected one of {names}"
        )
    return rule.step(layer)


__all__ = [
    "RULES",
    "AffineRule",
    "AlphaBeta",
    "Centred",
    "DeepTaylor",
    "Density",
    "Epsilon",
    "Flat",
    "Function",
    "Gamma",
    "Magnitude",
    "Norm",
    "Pass",
    "Proportional",
    "Rule",
    "WSquare",
    "WinnerTakesAll",
    "ZBox",
    "ZPlus",
    "ZPlusOfPositive",
    "prepare",
]
