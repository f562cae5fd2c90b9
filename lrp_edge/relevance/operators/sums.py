"""Sums and averages: means, average pooling, resampling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lrp_edge.relevance import receptive_field as reach
from lrp_edge.relevance.layers import Form, Kind, Layer, inherited, of_one, register
from lrp_edge.relevance.pooling import Axes, Windows, adaptive_matrix, average_divisor, windows

aten = torch.ops.aten


def _averaged(layer: Layer) -> Windows:
    return windows(*layer.arguments("kernel_size", "stride", "padding"))


@register(aten.avg_pool2d.default, kind=Kind.AVERAGE_POOL, nonnegative=inherited, reach=reach.pooling(_averaged))
def average_pool(layer: Layer) -> Form:
    slid = _averaged(layer)
    ceil_mode, include_pad, divisor = layer.arguments("ceil_mode", "count_include_pad", "divisor_override")

    def back(s: Tensor, x: Tensor) -> Tensor:
        if divisor is not None:
            share = s / divisor
        elif ceil_mode or (slid.padding != (0, 0) and not include_pad):
            share = s / average_divisor(x, s, slid, include_pad)
        else:
            share = s / (slid.kernel[0] * slid.kernel[1])
        return slid.spread(share, x)

    return of_one(back)


def adaptive_average(x: Tensor, output_size: Sequence[int]) -> Tensor:
    """Adaptive average pooling in operations that every backend has: exporters lack it."""
    rows, columns = output_size
    if (rows, columns) == (1, 1):
        return x.mean((2, 3), keepdim=True)
    if (rows, columns) == tuple(x.shape[-2:]):
        return x
    return adaptive_matrix(x.shape[-2], rows, x) @ x @ adaptive_matrix(x.shape[-1], columns, x).T


@register(
    aten.adaptive_avg_pool2d.default,
    kind=Kind.AVERAGE_POOL,
    nonnegative=inherited,
    reach=lambda layer, inputs: (),
    forward=adaptive_average,
)
def adaptive_average_pool(layer: Layer) -> Form:
    rows, columns = layer.argument("output_size")

    def back(s: Tensor, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        if (rows, columns) == (1, 1):
            return (s / (height * width)).expand_as(x)
        if (rows, columns) == (height, width):
            return s
        return adaptive_matrix(height, rows, x).T @ s @ adaptive_matrix(width, columns, x)

    return of_one(back)


@register(aten.mean.dim, kind=Kind.AVERAGE_POOL, nonnegative=inherited, reach=reach.reduced)
def mean(layer: Layer) -> Form:
    axes = Axes.of(layer.argument("dim"), layer.argument("keepdim"))

    def back(s: Tensor, x: Tensor) -> Tensor:
        count = 1
        for axis in axes.places(x):
            count = count * x.shape[axis]
        return (axes.spread(s, x) / count).expand_as(x)

    return of_one(back)


@register(aten.sum.dim_IntList, kind=Kind.AVERAGE_POOL, nonnegative=inherited, reach=reach.reduced)
def total(layer: Layer) -> Form:
    axes = Axes.of(layer.argument("dim"), layer.argument("keepdim"))
    return of_one(lambda s, x: axes.spread(s, x).expand_as(x))


@register(aten.upsample_nearest2d.vec, aten.upsample_bilinear2d.vec, kind=Kind.RESAMPLED, nonnegative=inherited)
@register(aten.upsample_bicubic2d.vec, kind=Kind.RESAMPLED)  # some of its weights are negative
def resample(layer: Layer) -> Form:
    """Linear along either axis; the matrix of an axis is what the identity is resampled to."""
    target: Any = layer.node.target
    scales = layer.argument("scale_factors") or (None, None)
    aligned = {"align_corners": layer.argument("align_corners")} if target != aten.upsample_nearest2d.vec else {}

    def matrix(x: Tensor, s: Tensor, axis: int) -> Tensor:
        place = torch.arange(x.shape[axis], device=x.device)
        identity = (place.unsqueeze(1) == place).to(x.dtype)[None, :, :, None]
        size, scale = [s.shape[axis], 1], scales[axis]
        asked = {"output_size": size, "scale_factors": None} if scale is None else _by_scale(scale)
        resampled: Tensor = target(identity, **asked, **aligned)
        return resampled[0, :, :, 0]

    return of_one(lambda s, x: matrix(x, s, -2) @ s @ matrix(x, s, -1).T)


def _by_scale(scale: float) -> dict[str, object]:
    return {"output_size": None, "scale_factors": [scale, 1.0]}
