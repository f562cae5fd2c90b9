"""How much of the image a unit of a network's last feature map sees.

Each operator is registered with its reach: what its units see, from what the units of its inputs see.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import fx

from lrp_edge.relevance.pooling import Windows

if TYPE_CHECKING:
    from lrp_edge.relevance.layers import Layer
    from lrp_edge.relevance.unroll import Unrolled


class Span(NamedTuple):
    """What units see along one axis: unit i sees pixels ``i * stride + low`` to ``i * stride + high``."""

    low: int = 0
    high: int = 0
    stride: int = 1

    @property
    def length(self) -> int:
        """Pixels that a unit sees."""
        return self.high - self.low + 1

    @property
    def centre(self) -> float:
        """Where the middle lies of what the first unit sees, in pixels."""
        return (self.low + self.high) / 2

    def through(self, kernel: int = 1, stride: int = 1, padding: int = 0, dilation: int = 1) -> Span:
        """Return what units see that look at these through a sliding window."""
        low, high = -padding, dilation * (kernel - 1) - padding
        return Span(self.low + low * self.stride, self.high + high * self.stride, self.stride * stride)


#: Of rows and columns; empty where positions have been pooled.
Spans = tuple[Span, ...]

#: From what the units of a layer's inputs see, what its own do; None where that is unknown.
Reach = Callable[["Layer", Sequence[Spans]], "Spans | None"]


def receptive_field(unrolled: Unrolled) -> tuple[int, int] | None:
    """Return the size of the window that a unit of the last feature map sees, before positions are pooled.

    Parameters
    ----------
    unrolled : Unrolled
        An unrolled classifier.

    Returns
    -------
    (height, width) or None
        In pixels of the network's input, padding included. None where it is unknown: positions are pooled, or
        moved to other axes, before the last feature map.
    """
    seen = spans_of(unrolled.layers, unrolled.image)
    last: list[Spans] = []
    for layer in unrolled.layers:
        found = seen[layer.node]
        if found is None:
            return None
        if not found:
            last += filter(None, (seen[source] for source in layer.inputs))
    if not last:
        return None
    return max(rows.length for rows, _ in last), max(columns.length for _, columns in last)


def spans_of(layers: Sequence[Layer], image: fx.Node) -> dict[fx.Node, Spans | None]:
    """Return what the units of the image and of each layer see; None from where on it cannot be told."""
    seen: dict[fx.Node, Spans | None] = {image: (Span(), Span())}
    for layer in layers:
        inputs = [seen[source] for source in layer.inputs]
        known = [spans for spans in inputs if spans is not None]
        seen[layer.node] = layer.operator.reach(layer, known) if len(known) == len(inputs) else None
    return seen


def unmoved(layer: Layer, inputs: Sequence[Spans]) -> Spans | None:
    """Each unit looks at one of its own place."""
    return inputs[0]


def unknown(layer: Layer, inputs: Sequence[Spans]) -> Spans | None:
    """What units see is unknown, unless positions have been pooled before."""
    return None if inputs[0] else ()


def sliding(windows: Callable[[Layer], Windows]) -> Reach:
    """Each unit looks through a window, as in a convolution."""

    def reach(layer: Layer, inputs: Sequence[Spans]) -> Spans | None:
        axes = zip(*windows(layer)[:4], strict=True)
        return tuple(span.through(*window) for span, window in zip(inputs[0], axes, strict=False))

    return reach


def pooling(windows: Callable[[Layer], Windows]) -> Reach:
    """As `sliding`; a window that leaves one position pools them all."""
    slide = sliding(windows)
    return lambda layer, inputs: () if shape_of(layer.node)[-2:] == (1, 1) else slide(layer, inputs)


def reduced(layer: Layer, inputs: Sequence[Spans]) -> Spans | None:
    """The axes of the argument `dim` are pooled."""
    axes = len(shape_of(layer.inputs[0]))
    dim = layer.argument("dim")
    gone = {axis % axes for axis in ([dim] if isinstance(dim, int) else dim)} & {axes - 2, axes - 1}
    if len(gone) == 1:
        return unknown(layer, inputs)
    return () if gone else inputs[0]


def joined(layer: Layer, inputs: Sequence[Spans]) -> Spans | None:
    """Each unit looks at one of each input, as in a sum."""
    if not any(inputs):
        return ()
    if not all(inputs) or len({tuple(span.stride for span in spans) for spans in inputs}) > 1:
        return None
    return tuple(
        Span(min(span.low for span in spans), max(span.high for span in spans), spans[0].stride)
        for spans in zip(*inputs, strict=True)
    )


def concatenated(layer: Layer, inputs: Sequence[Spans]) -> Spans | None:
    """Units are put side by side, along an axis other than rows and columns."""
    axes = len(shape_of(layer.node))
    spatial = layer.argument("dim") % axes >= axes - 2
    return None if spatial and any(inputs) else joined(layer, inputs)


def padded(layer: Layer, inputs: Sequence[Spans]) -> Spans | None:
    """The border grows, by how much is unknown where that follows the frame's size."""
    left, _, top, _ = [*layer.argument("pad"), 0, 0][:4]
    if not isinstance(left, int) or not isinstance(top, int):
        return unknown(layer, inputs)
    return tuple(span.through(padding=amount) for span, amount in zip(inputs[0], (top, left), strict=False))


def sliced(layer: Layer, inputs: Sequence[Spans]) -> Spans | None:
    """Rows and columns are kept whole."""
    axes = len(shape_of(layer.node))
    return inputs[0] if layer.argument("dim") % axes < axes - 2 else unknown(layer, inputs)


def selected(layer: Layer, inputs: Sequence[Spans]) -> Spans | None:
    """One index of an axis that is no row or column."""
    axes = len(shape_of(layer.inputs[0]))
    return inputs[0] if layer.argument("dim") % axes < axes - 2 else unknown(layer, inputs)


def permuted(layer: Layer, inputs: Sequence[Spans]) -> Spans | None:
    """Axes change places; rows and columns have to stay the last two."""
    axes = len(shape_of(layer.node))
    order = [axis % axes for axis in layer.argument("dims")]
    return inputs[0] if order[-2:] == [axes - 2, axes - 1] else unknown(layer, inputs)


def transposed(layer: Layer, inputs: Sequence[Spans]) -> Spans | None:
    """Two axes change places."""
    axes = len(shape_of(layer.node))
    moved = {axis % axes for axis in layer.arguments("dim0", "dim1")}
    return inputs[0] if max(moved) < axes - 2 else unknown(layer, inputs)


def reshaped(layer: Layer, inputs: Sequence[Spans]) -> Spans | None:
    """Axes are merged or split; rows and columns have to stay the last two."""
    before, after = shape_of(layer.inputs[0]), shape_of(layer.node)
    if after[-2:] == before[-2:]:
        return inputs[0]
    # Positions that are laid side by side may become a map again, whose units would look at more than is known here.
    return () if len(after) < 4 or after[-2:] == (1, 1) else None


def shape_of(node: fx.Node) -> tuple[int, ...]:
    """Return a tensor's shape at the size of the capture."""
    return tuple(size.node.hint if isinstance(size, torch.SymInt) else size for size in node.meta["val"].shape)
