"""Bring a captured graph into the form that relevance is defined on: BatchNorm folded into the layer before it."""

from __future__ import annotations

from collections.abc import Sequence

from lrp_edge.relevance.capture import Capture, arguments
from lrp_edge.relevance.operators import Kind, Layer


def canonize(captured: Capture, layers: Sequence[Layer]) -> None:
    """Fold each BatchNorm that follows a convolution or linear layer into it, in place.

    A BatchNorm is left alone, to be handled by rule, where another operation also reads the layer's output.
    The fold is that of inference (Ioffe and Szegedy 2015, algorithm 2): with s = γ / √(σ² + ε),
    W' = s W and b' = s (b − μ) + β.
    """
    foldable = {
        layer.node: layer
        for layer in layers
        if layer.kind in (Kind.CONVOLUTION, Kind.LINEAR) and len(layer.inputs) == 1
    }
    for norm in layers:
        layer = foldable.get(arguments(norm.node)["input"]) if norm.kind is Kind.BATCH_NORM else None
        if layer and len(layer.node.users) == 1:
            _fold(captured, layer, norm)
    captured.prune()


def _fold(captured: Capture, layer: Layer, norm: Layer) -> None:
    (_, weight, bias), (_, scale, shift) = layer.form, norm.form
    folded = {
        "weight": weight * scale.reshape(-1, *[1] * (weight.ndim - 1)),
        "bias": shift if bias is None else scale * bias + shift,
    }
    constants = {name: captured.new_constant(f"{layer.node.name}_{name}", value) for name, value in folded.items()}
    layer.node.args, layer.node.kwargs = (), arguments(layer.node) | constants
    norm.node.replace_all_uses_with(layer.node)
    captured.graph.erase_node(norm.node)
