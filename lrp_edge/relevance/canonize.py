"""Bring a captured graph into the form that relevance is defined on: BatchNorm folded into the layer before it."""

from __future__ import annotations

import torch
from torch import Tensor, fx

from lrp_edge.relevance.capture import Capture, argument

aten = torch.ops.aten

_FOLDABLE = (aten.conv2d.default, aten.linear.default)


def canonize(captured: Capture) -> None:
    """Fold each BatchNorm that follows a convolution or linear layer into it, in place.

    A BatchNorm is left alone, to be handled by rule, where another operation also reads the layer's output.
    The fold is that of inference (Ioffe and Szegedy 2015, algorithm 2): with s = γ / √(σ² + ε),
    W' = s W and b' = s (b − μ) + β.
    """
    for node in list(captured.graph.nodes):
        if node.target == aten.batch_norm.default:
            layer = argument(node, "input")
            if layer.target in _FOLDABLE and len(layer.users) == 1 and argument(layer, "weight") in captured.constants:
                _fold(captured, layer, node)
    captured.graph.eliminate_dead_code()
    for node in [node for node in captured.constants if not node.users]:
        captured.graph.erase_node(node)
        del captured.constants[node]


def _fold(captured: Capture, layer: fx.Node, norm: fx.Node) -> None:
    scale, shift = batch_norm_affine(captured, norm)
    weight, bias = (captured.value(argument(layer, name)) for name in ("weight", "bias"))
    folded = weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
    folded_bias = shift if bias is None else scale * bias + shift
    layer.args = (
        layer.args[0],
        captured.new_constant(f"{layer.name}_weight", folded),
        captured.new_constant(f"{layer.name}_bias", folded_bias),
        *layer.args[3:],
    )
    norm.replace_all_uses_with(layer)
    captured.graph.erase_node(norm)
    if captured.logits is norm:
        captured.logits = layer


def batch_norm_affine(captured: Capture, norm: fx.Node) -> tuple[Tensor, Tensor]:
    """Return BatchNorm at inference as ``scale * x + shift``, each of shape [C]."""
    names = ("weight", "bias", "running_mean", "running_var", "eps")
    weight, bias, mean, variance, epsilon = (captured.value(argument(norm, name)) for name in names)
    scale = torch.rsqrt(variance + epsilon)
    if weight is not None:
        scale = scale * weight
    shift = -scale * mean
    return scale, shift if bias is None else shift + bias
