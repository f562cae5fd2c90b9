"""Layers with weights: convolutions, linear layers, normalisations."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, fx

from lrp_edge.relevance import receptive_field as reach
from lrp_edge.relevance.affine import Convolution, Linear, Scale, TransposedConvolution
from lrp_edge.relevance.layers import Form, Kind, Layer, Standardised, Weighted, first, register
from lrp_edge.relevance.pooling import Windows, pair, windows

aten = torch.ops.aten


def _convolved(layer: Layer) -> Windows:
    return windows(layer.argument("weight").shape[2:], *layer.arguments("stride", "padding", "dilation"))


@register(aten.conv2d.default, kind=Kind.CONVOLUTION, reach=reach.sliding(_convolved), takes=first)
def convolution(layer: Layer) -> Form:
    affine = Convolution(*_convolved(layer)[:4], layer.argument("groups"))
    return Weighted(affine, *layer.arguments("weight", "bias"))


@register(aten.conv_transpose2d.input, kind=Kind.CONVOLUTION, takes=first)
def transposed_convolution(layer: Layer) -> Form:
    weight, bias, groups = layer.arguments("weight", "bias", "groups")
    names = ("stride", "padding", "output_padding", "dilation")
    stride, padding, rest, dilation = (pair(value) for value in layer.arguments(*names))
    return Weighted(
        TransposedConvolution(pair(weight.shape[2:]), stride, padding, rest, dilation, groups), weight, bias
    )


def _of_positions(inputs: Sequence[fx.Node]) -> Kind:
    return Kind.CONVOLUTION if len(reach.shape_of(inputs[0])) > 2 else Kind.LINEAR


@register(aten.linear.default, kind=_of_positions, takes=first)
def linear(layer: Layer) -> Form:
    return Weighted(Linear(), *layer.arguments("weight", "bias"))


@register(aten.batch_norm.default, kind=Kind.BATCH_NORM, reach=reach.unmoved, takes=first)
def batch_norm(layer: Layer) -> Form:
    """At inference: ``scale * x + shift``, each of shape [C]."""
    weight, bias, mean, variance, epsilon = layer.arguments("weight", "bias", "running_mean", "running_var", "eps")
    scale = torch.rsqrt(variance + epsilon)
    if weight is not None:
        scale = scale * weight
    shift = -scale * mean
    return Weighted(Scale(), scale, shift if bias is None else shift + bias)


# What is divided by a deviation of its own values.


@register(aten.layer_norm.default, aten.rms_norm.default, kind=Kind.NORM, reach=reach.unmoved, takes=first)
def norm_of_last_axes(layer: Layer) -> Form:
    shape, weight, epsilon = layer.arguments("normalized_shape", "weight", "eps")
    centred = layer.node.target == aten.layer_norm.default
    if epsilon is None:
        epsilon = torch.finfo(layer.node.meta["val"].dtype).eps
    return Standardised(lambda x: x.flatten(-len(shape)), weight, epsilon, centred)


@register(aten.group_norm.default, kind=Kind.NORM, reach=reach.unmoved, takes=first)
def norm_of_groups(layer: Layer) -> Form:
    groups, weight, epsilon = layer.arguments("num_groups", "weight", "eps")
    return Standardised(lambda x: x.reshape(x.shape[0], groups, -1), _by_channel(weight, layer), epsilon, True)


@register(aten.instance_norm.default, kind=Kind.NORM, reach=reach.unmoved, takes=first)
def norm_of_channels(layer: Layer) -> Form:
    weight, epsilon = layer.arguments("weight", "eps")
    return Standardised(lambda x: x.flatten(2), _by_channel(weight, layer), epsilon, True)


def _by_channel(weight: Tensor | None, layer: Layer) -> Tensor | None:
    return None if weight is None else weight.reshape(-1, *[1] * (len(reach.shape_of(layer.node)) - 2))
