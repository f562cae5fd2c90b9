"""Composites: which rule applies where, by operator, by position and by module name.

Named after zennit's presets, with the same rules and defaults, plus `Segmentation` of our own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from lrp_edge.errors import LrpEdgeError, check_arguments, look_up
from lrp_edge.relevance.layers import Kind, Layer
from lrp_edge.relevance.rules import (
    RULES,
    AlphaBeta,
    Centred,
    DeepTaylor,
    Density,
    Epsilon,
    Flat,
    Gamma,
    Magnitude,
    Norm,
    Pass,
    Rule,
    WinnerTakesAll,
    ZBox,
    ZPlus,
)

CONVOLUTIONS = frozenset({Kind.CONVOLUTION})
#: What is weighed by attention is weighed as in a convolution, by weights that are never negative.
WEIGHING = CONVOLUTIONS | {Kind.ATTENTION}
AFFINE = frozenset({Kind.CONVOLUTION, Kind.LINEAR})
PASSED = frozenset({Kind.ACTIVATION, Kind.BATCH_NORM, Kind.NORM, Kind.OFFSET, Kind.SOFTMAX})


@dataclass(frozen=True)
class Assignment:
    """A rule and the layers that it is for.

    Attributes
    ----------
    rule : Rule
        The rule.
    kinds : frozenset of Kind or None
        Operators that it is for; None for all that the rule can serve.
    first : int or None
        Only the first so many layers of these kinds, in the order of the forward pass; None for all.
    name : str
        Shell pattern of the module's path, e.g. ``"features.0"`` or ``"layer4.*"``.
    """

    rule: Rule
    kinds: frozenset[Kind] | None = None
    first: int | None = None
    name: str = "*"

    def fits(self, layer: Layer, before: Sequence[Layer] = ()) -> bool:
        """Whether it is for a layer, given those before it; regardless of `first` without them."""
        kinds = self.rule.kinds if self.kinds is None else self.kinds
        late = self.first is not None and sum(other.kind in kinds for other in before) >= self.first
        return layer.kind in kinds and not late and fnmatchcase(layer.path, self.name)


@dataclass(frozen=True)
class Composite:
    """An ordered list of assignments; for each layer the first that fits holds.

    Attributes
    ----------
    name : str
        What it is called.
    assignments : tuple of Assignment
        Rules, and what they are for.
    follows_attention : bool
        Whether relevance also goes to what attention is computed from, half of it, and not to its values alone.
    """

    name: str
    assignments: tuple[Assignment, ...]
    follows_attention: bool = False

    def override(self, *assignments: Assignment) -> Composite:
        """Return a composite in which the given assignments come before its own."""
        return dataclasses.replace(self, assignments=assignments + self.assignments)

    def rules(self, layers: Sequence[Layer]) -> list[Rule]:
        """Choose a rule for each layer.

        Parameters
        ----------
        layers : sequence of Layer
            All layers in the order of the forward pass.

        Raises
        ------
        LrpEdgeError
            If no assignment fits a layer, or an assignment by name fits no layer.
        """
        for assignment in self.assignments:
            if assignment.name != "*" and not any(assignment.fits(layer) for layer in layers):
                raise LrpEdgeError(
                    f"{type(assignment.rule).__name__} is assigned to {assignment.name!r}, but is for no layer of that "
                    "name; expected a module's name as in model.named_modules(), or a pattern of names"
                )
        return [self._rule(layer, layers[:i]) for i, layer in enumerate(layers)]

    def _rule(self, layer: Layer, before: Sequence[Layer]) -> Rule:
        if layer.kind is Kind.SHAPE:
            return Pass()  # relevance goes back to where the values came from, whatever the composite
        for assignment in self.assignments:
            if assignment.fits(layer, before):
                return assignment.rule
        raise LrpEdgeError(
            f"composite {self.name} has no rule for {layer.kind.value} layer {layer.path or layer.node.name!r}; "
            "add an Assignment for it"
        )


def start_keeps_sign(layers: Sequence[Layer], rules: Sequence[Rule]) -> bool:
    """Whether relevance has the sign of what the backward pass starts with: by the rule that makes shares of it.

    Parameters
    ----------
    layers, rules : sequence of Layer, sequence of Rule
        All layers in the order of the forward pass, and the rule of each.
    """
    by_node = {layer.node: (layer, rule) for layer, rule in zip(layers, rules, strict=True)}
    layer, rule = by_node[layers[-1].node]
    while isinstance(rule, Pass | WinnerTakesAll) and layer.inputs[0] in by_node:
        layer, rule = by_node[layer.inputs[0]]
    return rule.keeps_signs


def _preset(name: str, convolutions: Rule, linear: Rule, stabilizer: float, *first: Assignment) -> Composite:
    return Composite(
        name,
        (
            *first,
            Assignment(Pass(), PASSED),
            Assignment(Norm(stabilizer)),
            Assignment(WinnerTakesAll()),
            Assignment(convolutions, WEIGHING),
            Assignment(linear, frozenset({Kind.LINEAR})),
        ),
    )


def epsilon(epsilon: float = 1e-6, stabilizer: float = 1e-6) -> Composite:
    """Epsilon wherever a layer is affine, also where BatchNorm is not folded and where constants are added.

    With an ε near zero it is LRP-0: gradient × input for networks that are piecewise linear (Ancona et al. 2018,
    "Towards better understanding of gradient-based attribution methods", proposition 1).
    """
    rule = Epsilon(epsilon)
    affine = Assignment(rule, frozenset({Kind.BATCH_NORM, Kind.OFFSET}))
    return _preset("Epsilon", rule, rule, stabilizer, affine)


def attn_lrp(epsilon: float = 1e-6, stabilizer: float = 1e-6) -> Composite:
    """Epsilon wherever a layer is affine, and relevance through attention to queries and keys too.

    Half of what attention weighs goes to its weights, by DeepTaylor through their softmax; Centred is the rule of norms
    (Achtibat et al. 2024, "AttnLRP: Attention-Aware Layer-Wise Relevance Propagation for Transformers").
    """
    rule = Epsilon(epsilon)
    attention = (
        Assignment(DeepTaylor(), frozenset({Kind.SOFTMAX})),
        Assignment(Centred(epsilon), frozenset({Kind.NORM})),
        Assignment(rule, frozenset({Kind.BATCH_NORM, Kind.OFFSET})),
    )
    return dataclasses.replace(_preset("AttnLRP", rule, rule, stabilizer, *attention), follows_attention=True)


def epsilon_plus(epsilon: float = 1e-6, stabilizer: float = 1e-6) -> Composite:
    """ZPlus in convolutions, Epsilon in linear layers."""
    return _preset("EpsilonPlus", ZPlus(stabilizer), Epsilon(epsilon), stabilizer)


def epsilon_plus_flat(epsilon: float = 1e-6, stabilizer: float = 1e-6) -> Composite:
    """`EpsilonPlus` with Flat in the first convolution or linear layer."""
    flat = Assignment(Flat(stabilizer), AFFINE, first=1)
    return _preset("EpsilonPlusFlat", ZPlus(stabilizer), Epsilon(epsilon), stabilizer, flat)


def epsilon_alpha2_beta1(epsilon: float = 1e-6, stabilizer: float = 1e-6) -> Composite:
    """AlphaBeta with α = 2, β = 1 in convolutions, Epsilon in linear layers."""
    return _preset("EpsilonAlpha2Beta1", AlphaBeta(2, 1, stabilizer), Epsilon(epsilon), stabilizer)


def epsilon_alpha2_beta1_flat(epsilon: float = 1e-6, stabilizer: float = 1e-6) -> Composite:
    """`EpsilonAlpha2Beta1` with Flat in the first convolution or linear layer."""
    flat = Assignment(Flat(stabilizer), AFFINE, first=1)
    return _preset("EpsilonAlpha2Beta1Flat", AlphaBeta(2, 1, stabilizer), Epsilon(epsilon), stabilizer, flat)


def epsilon_gamma_box(
    low: float | tuple[float, ...],
    high: float | tuple[float, ...],
    epsilon: float = 1e-6,
    gamma: float = 0.25,
    stabilizer: float = 1e-6,
) -> Composite:
    """ZBox in the first convolution, Gamma in the others, Epsilon in linear layers."""
    box = Assignment(ZBox(low, high, stabilizer), CONVOLUTIONS, first=1)
    return _preset("EpsilonGammaBox", Gamma(gamma, stabilizer), Epsilon(epsilon), stabilizer, box)


def segmentation(epsilon: float = 1e-6, stabilizer: float = 1e-6) -> Composite:
    """The preset for masks: ZPlus wherever positions are weighed, Flat in the first layer, Density in a soft maximum.

    ZPlus, also in linear layers on positions, and Magnitude in sums keep the sign of relevance on its way to pixels:
    what speaks against the class never cancels what speaks for it, so no pixel of a defect is lost to cancellation.
    The linear layers after pooling have Epsilon: what speaks against a class tells it from the others there, and masks
    are much worse without it.
    """
    flat = Assignment(Flat(stabilizer), AFFINE, first=1)
    soft = Assignment(Density(stabilizer), frozenset({Kind.SOFT_MAXIMUM}))
    summed = Assignment(Magnitude(stabilizer), frozenset({Kind.SUM}))
    # Weights of interpolation add up to one: a resized image keeps its relevance, whatever the sign of its pixels.
    resized = Assignment(Pass(), frozenset({Kind.RESAMPLED}))
    return _preset("Segmentation", ZPlus(stabilizer), Epsilon(epsilon), stabilizer, flat, soft, summed, resized)


COMPOSITES: dict[str, Callable[..., Composite]] = {
    "Epsilon": epsilon,
    "AttnLRP": attn_lrp,
    "EpsilonPlus": epsilon_plus,
    "EpsilonPlusFlat": epsilon_plus_flat,
    "EpsilonAlpha2Beta1": epsilon_alpha2_beta1,
    "EpsilonAlpha2Beta1Flat": epsilon_alpha2_beta1_flat,
    "EpsilonGammaBox": epsilon_gamma_box,
    "Segmentation": segmentation,
}


def composite_from(name: str | Composite, parameters: Mapping[str, Any]) -> Composite:
    """Return a preset by its name, with its parameters.

    Parameters
    ----------
    name : str or Composite
        A key of :data:`COMPOSITES`, or a composite, which is returned unchanged.
    parameters : mapping
        Parameters of the preset, e.g. ``{"gamma": 0.1}``.

    Raises
    ------
    LrpEdgeError
        If the name is unknown, a parameter is not one of the preset's, or one that it needs is missing.
    """
    if isinstance(name, Composite):
        if parameters:
            raise LrpEdgeError(
                f"composite {name.name} is already built; it does not take the parameter {next(iter(parameters))}"
            )
        return name
    preset = look_up("composite", name, COMPOSITES)
    check_arguments(f"composite {name}", preset, parameters)
    return preset(**parameters)


def rule_from(name: str, **parameters: Any) -> Rule:
    """Return a rule by its name, e.g. ``rule_from("Gamma", gamma=0.1)``.

    Raises
    ------
    LrpEdgeError
        If there is no such rule, or it has no such parameter.
    """
    rule = look_up("rule", name, RULES)
    check_arguments(f"rule {name}", rule, parameters)
    return rule(**parameters)
