"""Layers with weights: convolutions, linear layers, normalisations."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import fx

from lrp_edge.relevance import receptive_field as reach
from lrp_edge.relevance.affine import Convolution, Linear, Scale, TransposedConvolution
from lrp_edge.relevance.layers import Form, Kind, Layer, Weighted, elementwise, first, register
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


# What is divided by a deviation of its own values: relevance is passed on unchanged, the identity rule of AttnLRP
# (Achtibat et al. 2024, proposition 3.4), so that it stays non-negative and is conserved.
elementwise(
    aten.layer_norm.default,
    aten.group_norm.default,
    aten.instance_norm.default,
    aten.rms_norm.default,
    kind=Kind.NORM,
)
