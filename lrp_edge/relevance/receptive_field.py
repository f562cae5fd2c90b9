"""How much of the image a unit of a network's last feature map sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import fx

from lrp_edge.relevance.operators import Kind, Layer, _pair
from lrp_edge.relevance.unroll import Unrolled

aten = torch.ops.aten

_WINDOWED = (aten.conv2d.default, aten.max_pool2d.default, aten.avg_pool2d.default)
_REDUCING = (aten.mean.dim, aten.logsumexp.default)
_PADDING = (aten.constant_pad_nd.default, aten.pad.default)


class Span(NamedTuple):
    """What units see along one axis: unit i sees pixels ``i * stride + low`` to ``i * stride + high``."""

    low: int = 0
    high: int = 0
    stride: int = 1

    @property
    def length(self) -> int:
        """Pixels that a unit sees."""
        return self.high - self.low + 1

    def through(self, kernel: int = 1, stride: int = 1, padding: int = 0, dilation: int = 1) -> Span:
        """Return what units see that look at these through a sliding window."""
        low, high = -padding, dilation * (kernel - 1) - padding
        return Span(self.low + low * self.stride, self.high + high * self.stride, self.stride * stride)


# Of rows and columns; empty where positions have been pooled.
_Spans = tuple[Span, ...]


def receptive_field(unrolled: Unrolled) -> tuple[int, int] | None:
    """Return the size of the window that a unit of the last feature map sees, before positions are pooled.

    Parameters
    ----------
    unrolled : Unrolled
        An unrolled classifier.

    Returns
    -------
    (height, width) or None
        In pixels of the network's input, padding included. None where it cannot be told: positions are pooled, or
        moved to other axes, before the last feature map.
    """
    seen: dict[fx.Node, _Spans] = {unrolled._image: (Span(), Span())}
    last: list[_Spans] = []
    for layer in unrolled._layers:
        inputs = [seen[source] for source in layer.inputs]
        found = _through(layer, inputs)
        if found is None:
            return None
        if not found:
            last += filter(None, inputs)
        seen[layer.node] = found
    if not last:
        return None
    return max(rows.length for rows, _ in last), max(columns.length for _, columns in last)


def _through(layer: Layer, inputs: Sequence[_Spans]) -> _Spans | None:
    """Return what the units of a layer see; None where that cannot be told."""
    target, spans = layer.node.target, inputs[0]
    if len(inputs) > 1:
        return _joined(layer, inputs)
    if layer.kind is Kind.SHAPE:
        return _reshaped(layer, spans)
    if not spans or layer.kind in (Kind.ACTIVATION, Kind.BATCH_NORM):
        return spans
    if target in _WINDOWED:
        return _windowed(layer, spans)
    if target in _REDUCING:
        return _reduced(layer, spans)
    return () if target == aten.adaptive_avg_pool2d.default else None


def _joined(layer: Layer, inputs: Sequence[_Spans]) -> _Spans | None:
    """Return what the units of a sum or a concatenation see."""
    if not any(inputs):
        return ()
    axes = len(_shape(layer.node))
    if not all(inputs) or (layer.kind is Kind.SHAPE and layer.argument(1, 0) % axes >= axes - 2):
        return None
    if len({tuple(span.stride for span in spans) for spans in inputs}) > 1:
        return None
    return tuple(
        Span(min(span.low for span in spans), max(span.high for span in spans), spans[0].stride)
        for spans in zip(*inputs, strict=True)
    )


def _windowed(layer: Layer, spans: _Spans) -> _Spans:
    """Return what the units of a convolution or a pooling see; a pooling that leaves one position is a global one."""
    if layer.kind is Kind.CONVOLUTION:
        kernel = layer.argument(1).shape[2:]
        stride, padding, dilation = (layer.argument(i, default) for i, default in ((3, 1), (4, 0), (5, 1)))
    elif _shape(layer.node)[-2:] == (1, 1):
        return ()
    else:
        kernel, padding = layer.argument(1), layer.argument(3, 0)
        stride = layer.argument(2) or kernel
        dilation = layer.argument(4, 1) if layer.kind is Kind.MAX_POOL else 1
    windows = zip(*(_pair(value) for value in (kernel, stride, padding, dilation)), strict=True)
    return tuple(span.through(*window) for span, window in zip(spans, windows, strict=True))


def _reduced(layer: Layer, spans: _Spans) -> _Spans | None:
    axes = len(_shape(layer.inputs[0]))
    gone = {axis % axes for axis in layer.argument(1)} & {axes - 2, axes - 1}
    if len(gone) == 1:
        return None
    return () if gone else spans


def _reshaped(layer: Layer, spans: _Spans) -> _Spans | None:
    """Return what units see after an operation that moves them; rows and columns have to stay the last two axes."""
    before, after = _shape(layer.inputs[0]), _shape(layer.node)
    axes = len(before)
    if layer.node.target in _PADDING:
        left, top = ([*layer.argument(1), 0, 0][place] for place in (0, 2))
        return tuple(span.through(padding=amount) for span, amount in zip(spans, (top, left), strict=False))
    if layer.node.target == aten.permute.default:
        order = [axis % axes for axis in layer.argument(1)]
        return spans if not spans or order[-2:] == [axes - 2, axes - 1] else None
    if layer.node.target == aten.transpose.int:
        moved = {layer.argument(place) % axes for place in (1, 2)}
        return spans if not spans or max(moved) < axes - 2 else None
    if after[-2:] == before[-2:]:
        return spans
    # Positions that are laid side by side may become a map again, whose units would look at more than is known here.
    return () if len(after) < 4 or after[-2:] == (1, 1) else None


def _shape(node: fx.Node) -> tuple[int, ...]:
    """Return a tensor's shape at the size of the capture."""
    return tuple(size.node.hint if isinstance(size, torch.SymInt) else size for size in node.meta["val"].shape)
