"""Products and quotients of two signals, and attention: which of them takes relevance.

Of a gate and what it lets through, the signal takes all (Arras et al. 2017, "Explaining Recurrent Neural Network
Predictions in Sentiment Analysis"): the gate says how much, the signal says what. Attention's weights are such a gate
(CP-LRP, Ali et al. 2022, "XAI for Transformers"). Of two equals each takes half (AttnLRP, Achtibat et al. 2024,
proposition 3.2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from lrp_edge.relevance import receptive_field as reach
from lrp_edge.relevance.affine import Contraction, summed_to
from lrp_edge.relevance.capture import arguments
from lrp_edge.relevance.layers import (
    Form,
    Kind,
    Layer,
    Live,
    always,
    every,
    first,
    inherited,
    others,
    register,
    unchanged,
)
from lrp_edge.relevance.pooling import Axes

aten = torch.ops.aten

#: What is between 0 and 1: relative weights, and answers to a comparison.
_BOUNDED = {aten.sigmoid.default, aten.hardsigmoid.default, aten.softmax.int, aten.bernoulli.default}
_BOUNDED |= {aten.gt.Scalar, aten.ge.Scalar, aten.lt.Scalar, aten.le.Scalar, aten.eq.Scalar, aten.ne.Scalar}
_BOUNDED |= {aten.gt.Tensor, aten.ge.Tensor, aten.lt.Tensor, aten.le.Tensor, aten.sign.default}
_CLAMPED = {aten.hardtanh.default, aten.clamp.default, aten.relu6.default}
_SCALED = {aten.mul.Tensor, aten.mul.Scalar}
_DIVIDED = {aten.div.Tensor, aten.div.Scalar}
_MIXED = _SCALED | {aten.add.Tensor, aten.add.Scalar, aten.sub.Tensor, aten.rsub.Scalar, aten.rsub.Tensor}
#: What a gate may go through on its way to the product.
_MOVED = {
    aten.view.default,
    aten.reshape.default,
    aten.flatten.using_ints,
    aten.unsqueeze.default,
    aten.squeeze.default,
    aten.squeeze.dim,
    aten.squeeze.dims,
    aten.expand.default,
    aten.expand_as.default,
    aten.repeat.default,
    aten.clone.default,
    aten.alias.default,
    aten.contiguous.default,
    aten.permute.default,
    aten.transpose.int,
    aten.slice.Tensor,
    aten.select.int,
    aten._to_copy.default,
    aten.to.dtype,
    aten._unsafe_view.default,
    aten.upsample_nearest2d.vec,
    aten.upsample_bilinear2d.vec,
}


def _gate_level(node: Any, scaled: bool = False) -> int:
    """Return how sure it is that a factor is a gate: 3 what is bounded by 0 and 1, 1 what is by −1 and 1, else 0.

    What gates are mixed to is one too: ``1 - gate``, sums and products of several, attention over its own sum.
    """
    if node.op != "call_function":
        return 0
    if node.target in _BOUNDED:
        return 3
    if node.target in _CLAMPED and (scaled or _is_shifted(node.args[0])):
        return 2  # relu6(x + 3) / 6, with the divisor here or after the product
    if node.target is aten.tanh.default:
        return 1
    if node.target in _MOVED | _DIVIDED:
        return _gate_level(node.args[0], scaled or (node.target in _DIVIDED and not isinstance(node.args[1], fx.Node)))
    if node.target not in _MIXED:
        return 0
    mixed = [source for source in node.args[:2] if isinstance(source, fx.Node) and source.op == "call_function"]
    level = 3 if mixed else 0
    for source in mixed:
        level = min(level, _gate_level(source, scaled or (node.target in _SCALED and len(mixed) < len(node.args[:2]))))
        if not level:  # of many sums in a row, each is looked at once
            break
    return level


def _is_shifted(node: Any) -> bool:
    return node.target in (aten.add.Tensor, aten.add.Scalar) and not isinstance(node.args[1], fx.Node)


def _signals_of_product(node: fx.Node, signals: Sequence[fx.Node]) -> Sequence[fx.Node]:
    """All that is not a gate: by what a factor is bounded, else the one that does not broadcast."""
    if len(signals) < 2:
        return signals
    gates = [_gate_level(signal) for signal in signals]
    if gates[0] == gates[1]:
        # A factor of fewer values says how much of each channel or place there is.
        gates = [-math.prod(reach.shape_of(signal)) for signal in signals]
    return [signal for signal, gate in zip(signals, gates, strict=True) if gate == min(gates)]


def _pass_or_product(inputs: Sequence[fx.Node]) -> Kind:
    return Kind.PRODUCT if len(inputs) == 2 else Kind.ACTIVATION


def _scale_keeps_sign(node: fx.Node, inputs: list[bool]) -> bool:
    other = node.args[1]
    return all(inputs) and (len(inputs) == 2 or (isinstance(other, int | float) and other >= 0))


@register(
    aten.mul.Tensor,
    aten.mul.Scalar,
    kind=_pass_or_product,
    nonnegative=_scale_keeps_sign,
    reach=reach.joined,
    takes=_signals_of_product,
)
def multiply(layer: Layer) -> Form:
    """A product with a gate or a constant passes relevance on unchanged; two equals take half of it each."""
    if layer.kind is Kind.ACTIVATION:
        return _to_shape_of_input(layer)
    return lambda s, inputs: [summed_to(s * y / 2, x) for x, y in zip(inputs, inputs[::-1], strict=True)]


def _dividend(node: fx.Node, signals: Sequence[fx.Node]) -> Sequence[fx.Node]:
    return [node.args[0]] if node.args[0] in signals else signals  # type: ignore[list-item]


@register(
    aten.div.Tensor,
    aten.div.Scalar,
    kind=Kind.ACTIVATION,
    nonnegative=_scale_keeps_sign,
    reach=reach.joined,
    takes=_dividend,
)
def divide(layer: Layer) -> Form:
    """A divisor says how much, as a norm does, and takes nothing (AttnLRP, proposition 3.4)."""
    return _to_shape_of_input(layer)


def _to_shape_of_input(layer: Layer) -> Form:
    """The form where the other factor may broadcast the signal: its share is summed again."""
    return unchanged if layer.keeps_shape else lambda s, inputs: [summed_to(s, inputs[0])]


# Products of matrices. One with a constant matrix on the right is a linear layer, see spellings.


def _weighed(node: fx.Node, signals: Sequence[fx.Node]) -> Sequence[fx.Node]:
    """What attention weighs; both of two equals."""
    if len(signals) < 2:
        return signals
    gates = [_gate_level(signal) for signal in signals]
    return [signal for signal, gate in zip(signals, gates, strict=True) if gate == min(gates)]


def _of_matrices(inputs: Sequence[fx.Node]) -> Kind:
    return Kind.PRODUCT if len(inputs) == 2 else Kind.ATTENTION


@register(
    aten.matmul.default,
    aten.bmm.default,
    aten.mm.default,
    kind=_of_matrices,
    nonnegative=inherited,
    takes=_weighed,
    reads=others,
    follows=every,
)
def matrix_product(layer: Layer) -> Form:
    """Linear in the values, with the attention as weights; of two equals each takes half by its contributions."""
    if layer.kind is Kind.ATTENTION:
        return Live(Contraction(weight_is_left=layer.inputs[0] is layer.node.args[1]), layer.nonnegative_given)

    def back(s: Tensor, inputs: list[Tensor]) -> list[Tensor]:
        first, second = inputs
        shares = s @ second.transpose(-2, -1), first.transpose(-2, -1) @ s
        return [summed_to(share / 2, x) for share, x in zip(shares, inputs, strict=True)]

    return back


@register(aten.softmax.int, kind=Kind.SOFTMAX, nonnegative=always, takes=first)
def softmax(layer: Layer) -> Form:
    return Axes.of(layer.argument("dim"), keeps=True)


def _branches(node: fx.Node, signals: Sequence[fx.Node]) -> Sequence[fx.Node]:
    return [source for source in node.args[1:] if source in signals]  # type: ignore[misc]


@register(aten.where.self, kind=Kind.SHAPE, nonnegative=inherited, reach=reach.joined, takes=_branches, reads=others)
def choose(layer: Layer) -> Form:
    """Relevance goes to where each value came from; the condition takes nothing."""
    condition, one, other = arguments(layer.node).values()

    def back(s: Tensor, inputs: list[Tensor], *given: Tensor) -> list[Tensor]:
        chosen = layer.values(inputs, given)[condition]
        shares = {other: torch.where(chosen, 0.0, s), one: torch.where(chosen, s, 0.0)}
        return [summed_to(shares[source], x) for source, x in zip(layer.inputs, inputs, strict=True)]

    return back
