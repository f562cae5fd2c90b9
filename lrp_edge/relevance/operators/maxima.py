"""Maxima, sharp and soft."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lrp_edge.relevance import pooling
from lrp_edge.relevance import receptive_field as reach
from lrp_edge.relevance.affine import summed_to
from lrp_edge.relevance.capture import arguments
from lrp_edge.relevance.layers import Form, Kind, Layer, inherited, others, register
from lrp_edge.relevance.pooling import Axes, Windows, windows

aten = torch.ops.aten


def _greatest(layer: Layer) -> Windows:
    return windows(*layer.arguments("kernel_size", "stride", "padding", "dilation", "ceil_mode"))


def max_pooling(
    x: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> Tensor:
    """Max pooling in operations that every backend has: TensorRT lacks dilated windows."""
    slid = windows(kernel_size, stride, padding, dilation, ceil_mode)
    return F.max_pool2d(x, *slid) if slid.dilation == (1, 1) else pooling.max_pool(x, slid)


@register(
    aten.max_pool2d.default,
    kind=Kind.MAX_POOL,
    nonnegative=inherited,
    reach=reach.pooling(_greatest),
    forward=max_pooling,
)
def max_pool(layer: Layer) -> Form:
    return _greatest(layer)


@register(aten.amax.default, kind=Kind.MAX_POOL, nonnegative=inherited, reach=reach.reduced)
def greatest(layer: Layer) -> Form:
    return Axes.of(layer.argument("dim"), layer.argument("keepdim"), sharp=True)


@register(aten.logsumexp.default, kind=Kind.SOFT_MAXIMUM, reach=reach.reduced)
def soft_maximum(layer: Layer) -> Form:
    return Axes.of(layer.argument("dim"), layer.argument("keepdim"))


@register(
    aten.maximum.default,
    aten.minimum.default,
    kind=Kind.SHAPE,
    nonnegative=inherited,
    reach=reach.joined,
    reads=others,
)
def greater_of_two(layer: Layer) -> Form:
    """Relevance goes to where each value came from, to the first of two that are equal."""
    first, second = (arguments(layer.node)[name] for name in ("self", "other"))

    def back(s: Tensor, inputs: list[Tensor], *given: Tensor) -> list[Tensor]:
        values = layer.values(inputs, given)
        ahead = values[first] - values[second]
        from_first = ahead >= 0 if layer.node.target == aten.maximum.default else ahead <= 0
        shares = {second: torch.where(from_first, 0.0, s), first: torch.where(from_first, s, 0.0)}
        return [summed_to(shares[source], x) for source, x in zip(layer.inputs, inputs, strict=True)]

    return back
