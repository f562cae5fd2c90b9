"""Elementwise operations on one signal: activations, and constants that scale or shift it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from lrp_edge.relevance import receptive_field as reach
from lrp_edge.relevance.affine import Shift
from lrp_edge.relevance.capture import arguments
from lrp_edge.relevance.layers import (
    Form,
    Kind,
    Layer,
    Signs,
    Summands,
    Weighted,
    always,
    elementwise,
    inherited,
    register,
)

aten = torch.ops.aten


def _clamped(bound: str) -> Signs:
    def nonnegative(node: fx.Node, inputs: list[bool]) -> bool:
        low = arguments(node)[bound]
        return all(inputs) or (isinstance(low, int | float) and low >= 0)

    return nonnegative


def _even_power(node: fx.Node, inputs: list[bool]) -> bool:
    exponent = arguments(node)["exponent"]
    return all(inputs) or (isinstance(exponent, int | float) and exponent % 2 == 0)


elementwise(
    aten.relu.default,
    aten.relu6.default,
    aten.sigmoid.default,
    aten.softplus.default,
    aten.hardsigmoid.default,
    aten.abs.default,
    aten.square.default,
    aten.exp.default,
    nonnegative=always,
)
elementwise(
    aten.clone.default,
    aten.alias.default,
    aten.contiguous.default,
    aten.detach.default,
    aten._to_copy.default,
    aten.to.dtype,
    aten.leaky_relu.default,
    aten.elu.default,
    aten.celu.default,
    aten.selu.default,
    aten.silu.default,
    aten.mish.default,
    aten.gelu.default,
    aten.hardswish.default,
    aten.tanh.default,
    aten.softshrink.default,
    aten.hardshrink.default,
    aten.sqrt.default,
    aten.masked_fill.Scalar,
    aten.pow.Tensor_Tensor,
    nonnegative=inherited,
)
elementwise(aten.clamp.default, aten.clamp_min.default, nonnegative=_clamped("min"))
elementwise(aten.clamp_max.default, aten.threshold.default)
elementwise(aten.hardtanh.default, nonnegative=_clamped("min_val"))
elementwise(aten.pow.Tensor_Scalar, nonnegative=_even_power)
elementwise(
    aten.prelu.default,
    aten._prelu_kernel.default,
    aten.neg.default,
    aten.log.default,
    aten.log_sigmoid.default,
    aten.rsqrt.default,
    aten.reciprocal.default,
)


def _of_a_sum(inputs: Sequence[fx.Node]) -> Kind:
    return Kind.SUM if len(inputs) == 2 else Kind.OFFSET


def _offset_keeps_sign(node: fx.Node, inputs: list[bool]) -> bool:
    given = arguments(node)
    keeps = len(inputs) == 2 or (isinstance(given["other"], int | float) and given["other"] >= 0)
    return all(inputs) and keeps and given["alpha"] >= 0


@register(aten.add.Tensor, aten.add.Scalar, kind=_of_a_sum, nonnegative=_offset_keeps_sign, reach=reach.joined)
def add(layer: Layer) -> Form:
    """A residual sum splits in proportion to its summands; of one signal it is an offset."""
    return _weighted_sum(layer, "self", "other")


@register(aten.sub.Tensor, aten.sub.Scalar, kind=_of_a_sum, reach=reach.joined)
def subtract(layer: Layer) -> Form:
    return _weighted_sum(layer, "self", "other", -1.0)


@register(aten.rsub.Scalar, aten.rsub.Tensor, kind=_of_a_sum, reach=reach.joined)
def subtract_from(layer: Layer) -> Form:
    return _weighted_sum(layer, "other", "self", -1.0)


def _weighted_sum(layer: Layer, whole: str, scaled: str, sign: float = 1.0) -> Form:
    """The form of ``whole + sign * alpha * scaled``."""
    given = arguments(layer.node)
    summands = [(given[whole], 1.0), (given[scaled], sign * float(given["alpha"]))]
    if layer.kind is Kind.OFFSET:
        return _offset(layer, summands)
    if layer.inputs[0] is not given[whole]:
        summands.reverse()
    return Summands(tuple(factor for _, factor in summands))


def _offset(layer: Layer, summands: Sequence[tuple[Any, float]]) -> Form:
    """The form of a signal and a constant; what is computed from sizes has no value before there is an image."""
    (signal,) = layer.inputs
    dtype = signal.meta["val"].dtype
    scale = next(factor for summand, factor in summands if summand is signal)
    constant, factor = next((summand, factor) for summand, factor in summands if summand is not signal)
    value = layer.captured.constants.get(constant) if isinstance(constant, fx.Node) else constant
    bias = None if value is None else factor * torch.as_tensor(value, dtype=dtype)
    return Weighted(Shift(), torch.tensor([scale], dtype=dtype), bias)
