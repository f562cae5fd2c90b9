"""Bring a captured graph into the form that relevance is defined on: BatchNorm folded into the layer before it."""

from __future__ import annotations

import torch
from torch import Tensor, fx

from lrp_edge.relevance.capture import Capture

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
            layer = node.args[0]
            if layer.target in _FOLDABLE and len(layer.users) == 1 and layer.args[1] in captured.constants:
                _fold(captured, layer, node)
    captured.graph.eliminate_dead_code()
    for node in [node for node in captured.constants if not node.users]:
        captured.graph.erase_node(node)
        del captured.constants[node]


def _fold(captured: Capture, layer: fx.Node, norm: fx.Node) -> None:
    scale, shift = batch_norm_affine(captured, norm)
    weight = captured.value(layer.args[1])
    bias = captured.value(layer.args[2]) if len(layer.args) > 2 else None
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
    weight, bias, mean, variance = (captured.value(argument) for argument in norm.args[1:5])
    scale = torch.rsqrt(variance + norm.args[7])
    if weight is not None:
        scale = scale * weight
    shift = -scale * mean
    return scale, shift if bias is None else shift + bias
