"""Stages of a network: where, between the pixels and the decision, relevance can be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from lrp_edge.errors import LrpEdgeError
from lrp_edge.relevance.layers import Kind, Layer
from lrp_edge.relevance.receptive_field import Span, Spans, shape_of, spans_of


@dataclass(frozen=True)
class Stage:
    """A tensor through which all goes from the image to the logits.

    Attributes
    ----------
    node : fx.Node
        What computes it, [N, C, h, w]; the image itself at the pixels.
    spans : (Span, Span)
        What its units see along rows and columns.
    depth : int
        How many layers come before it, itself included.
    """

    node: fx.Node
    spans: Spans
    depth: int = 0

    @property
    def stride(self) -> int:
        """Pixels from one unit to the next."""
        return self.spans[0].stride

    def enlarge(self, relevance: Tensor, size: Sequence[int]) -> Tensor:
        """Return relevance [N, h, w] of the stage at the image's `size`, [N, H, W], as a density per pixel.

        It is interpolated bilinearly between the centres of what units see, which are not those of equal cells: the
        units of a convolution of 3 × 3 with stride 2 and padding 1 are centred on pixels 0, 2, 4. Beyond the outermost
        centres it is constant. Both axes are products of matrices with the constant on the left, since those with
        constant weights on the right are counted as the network's own work where a graph is brought to half precision.
        """
        if self.depth == 0:
            return relevance
        rows, columns = (
            _interpolation(units, length, span, relevance)
            for units, length, span in zip(relevance.shape[1:], size, self.spans, strict=True)
        )
        return (columns @ (rows @ relevance).transpose(1, 2)).transpose(1, 2)


def _interpolation(units: int, pixels: int, span: Span, like: Tensor) -> Tensor:
    """Return linear interpolation along one axis as a matrix [pixels, units], over the stride."""
    unit = torch.arange(units, dtype=like.dtype, device=like.device)
    pixel = torch.arange(pixels, dtype=like.dtype, device=like.device)
    place = ((pixel - span.centre) / span.stride).clamp(min=0)
    place = torch.minimum(place, unit[-1:])
    return (1 - (place.unsqueeze(1) - unit).abs()).clamp(min=0) / span.stride


def find_stage(layers: Sequence[Layer], image: fx.Node, stride: int) -> Stage:
    """Return the stage of a stride: the last tensor at it, but for the network's last stride the first.

    The last tensor at the last stride is what is pooled, e.g. the logits of positions: relevance read there has not
    gone back through the network.

    Parameters
    ----------
    layers : sequence of Layer
        All layers from the image to the logits, in the order of the forward pass.
    image : fx.Node
        The image, which is the stage of stride 1.
    stride : int
        Pixels from one unit to the next, along rows and columns.

    Raises
    ------
    LrpEdgeError
        If there is no such stage: what has that stride has a bypass, or nothing has it.
    """
    if stride == 1:
        return Stage(image, (Span(), Span()))
    found: dict[int, list[Stage]] = {}
    for stage in _cuts(layers, image):
        found.setdefault(stage.stride, []).append(stage)
    found.pop(1, None)
    if stride not in found:
        known = ", ".join(map(str, (1, *sorted(found))))
        raise LrpEdgeError(f"relevance at stride {stride}: this network has stages of stride {known}; choose one")
    return found[stride][0 if stride == max(found) else -1]


def _cuts(layers: Sequence[Layer], image: fx.Node) -> list[Stage]:
    """Return all tensors that nothing bypasses and whose units have one stride along both axes.

    Layers that only move values make none: what is padded has units beyond the image.
    """
    spans = spans_of(layers, image)
    waiting: dict[fx.Node, int] = {}
    for layer in layers:
        for source in layer.inputs:
            waiting[source] = waiting.get(source, 0) + 1
    alive, cuts = {image}, []
    for depth, layer in enumerate(layers, 1):
        for source in layer.inputs:
            waiting[source] -= 1
        alive = {node for node in (*alive, layer.node) if waiting.get(node)}
        known = spans[layer.node]
        seen = _by_shape(layer.node, image) if known is None else known
        passes_all = alive == {layer.node} and layer.kind is not Kind.SHAPE
        if passes_all and seen and seen[0].stride == seen[1].stride:
            cuts.append(Stage(layer.node, seen, depth))
    return cuts


def _by_shape(node: fx.Node, image: fx.Node) -> Spans:
    """Return spans of equal cells where it is not known what units see; none where that is no map of the image."""
    shape, (height, width) = shape_of(node), shape_of(image)[-2:]
    if len(shape) != 4 or shape[-2:] == (1, 1):
        return ()
    strides = round(height / shape[-2]), round(width / shape[-1])
    return tuple(Span(0, stride - 1, stride) for stride in strides)
