"""Operations that move values: relevance goes back to where they came from."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from lrp_edge.errors import LrpEdgeError
from lrp_edge.relevance import receptive_field as reach
from lrp_edge.relevance.affine import summed_to
from lrp_edge.relevance.capture import arguments
from lrp_edge.relevance.layers import Form, Kind, Layer, first, inherited, of_one, others, register

aten = torch.ops.aten


# A view fails where the tensor's memory format is not that of the capture.
@register(
    aten.view.default, kind=Kind.SHAPE, nonnegative=inherited, reach=reach.reshaped, forward=torch.reshape, takes=first
)
@register(
    aten.reshape.default,
    aten.reshape_as.default,
    aten.view_as.default,
    aten._unsafe_view.default,
    aten.flatten.using_ints,
    aten.unflatten.int,
    aten.squeeze.default,
    aten.squeeze.dim,
    aten.squeeze.dims,
    aten.unsqueeze.default,
    kind=Kind.SHAPE,
    nonnegative=inherited,
    reach=reach.reshaped,
    takes=first,
)
def reshape(layer: Layer) -> Form:
    return of_one(lambda s, x: s.reshape(x.shape))


@register(aten.permute.default, kind=Kind.SHAPE, nonnegative=inherited, reach=reach.permuted)
def permute(layer: Layer) -> Form:
    order = layer.argument("dims")
    inverse = [[axis % len(order) for axis in order].index(axis) for axis in range(len(order))]
    return of_one(lambda s, x: s.permute(inverse))


@register(aten.transpose.int, kind=Kind.SHAPE, nonnegative=inherited, reach=reach.transposed)
def transpose(layer: Layer) -> Form:
    one, other = layer.arguments("dim0", "dim1")
    return of_one(lambda s, x: s.transpose(one, other))


@register(
    aten.expand.default,
    aten.expand_as.default,
    kind=Kind.SHAPE,
    nonnegative=inherited,
    reach=reach.reshaped,
    takes=first,
)
def expand(layer: Layer) -> Form:
    return of_one(lambda s, x: summed_to(s, x))


@register(aten.repeat.default, kind=Kind.SHAPE, nonnegative=inherited)
def repeat(layer: Layer) -> Form:
    counts = layer.argument("repeats")

    def back(s: Tensor, x: Tensor) -> Tensor:
        sizes = [1] * (len(counts) - x.ndim) + list(x.shape)
        copies = s.reshape([size for pair in zip(counts, sizes, strict=True) for size in pair])
        return copies.sum(tuple(range(0, 2 * len(counts), 2))).reshape(x.shape)

    return of_one(back)


@register(aten.flip.default, kind=Kind.SHAPE, nonnegative=inherited, reach=reach.unmoved)
def flip(layer: Layer) -> Form:
    axes = layer.argument("dims")
    return of_one(lambda s, x: s.flip(axes))


@register(aten.roll.default, kind=Kind.SHAPE, nonnegative=inherited)
def roll(layer: Layer) -> Form:
    shifts, axes = layer.arguments("shifts", "dims")
    return of_one(lambda s, x: s.roll([-shift for shift in shifts], axes))


@register(aten.pixel_shuffle.default, kind=Kind.SHAPE, nonnegative=inherited)
def pixel_shuffle(layer: Layer) -> Form:
    factor = layer.argument("upscale_factor")
    return of_one(lambda s, x: F.pixel_unshuffle(s, factor))


@register(aten.pixel_unshuffle.default, kind=Kind.SHAPE, nonnegative=inherited)
def pixel_unshuffle(layer: Layer) -> Form:
    factor = layer.argument("downscale_factor")
    return of_one(lambda s, x: F.pixel_shuffle(s, factor))


@register(aten.channel_shuffle.default, kind=Kind.SHAPE, nonnegative=inherited, reach=reach.unmoved)
def channel_shuffle(layer: Layer) -> Form:
    groups = layer.argument("groups")
    return of_one(lambda s, x: F.channel_shuffle(s, x.shape[1] // groups))


# Parts of a tensor: what is not taken gets nothing.


def _within(part: Tensor, axis: int, start: Any, size: Any) -> Tensor:
    """Return `part` at a place along an axis of a given size, with zeros around it; what is beyond is cut off."""
    after = size - start - part.shape[axis]
    if isinstance(start, int) and isinstance(after, int) and start == after == 0:
        return part
    return F.pad(part, [0, 0] * (part.ndim - 1 - axis) + [start, after])


@register(aten.slice.Tensor, kind=Kind.SHAPE, nonnegative=inherited, reach=reach.sliced)
def slice_(layer: Layer) -> Form:
    dim, start, step = layer.arguments("dim", "start", "step")

    def back(s: Tensor, x: Tensor) -> Tensor:
        axis = dim % x.ndim
        begin = start or 0
        begin = begin if not isinstance(begin, int) or begin >= 0 else max(x.shape[axis] + begin, 0)
        if step > 1:
            spread = F.pad(s.unsqueeze(axis + 1), [0, 0] * (x.ndim - 1 - axis) + [0, step - 1])
            s = spread.flatten(axis, axis + 1)
        return _within(s, axis, begin, x.shape[axis])

    return of_one(back)


@register(aten.select.int, kind=Kind.SHAPE, nonnegative=inherited, reach=reach.selected)
def select(layer: Layer) -> Form:
    dim, index = layer.arguments("dim", "index")

    def back(s: Tensor, x: Tensor) -> Tensor:
        axis = dim % x.ndim
        size = x.shape[axis]
        return _within(s.unsqueeze(axis), axis, index if index >= 0 else size + index, size)

    return of_one(back)


@register(aten.gather.default, kind=Kind.SHAPE, nonnegative=inherited, takes=first, reads=others)
def gather(layer: Layer) -> Form:
    axis, places = layer.argument("dim"), arguments(layer.node)["index"]
    # The greatest are at different places, and TensorRT has no scattering that adds.
    are_distinct = places.target is operator.getitem and places.args[0].target == aten.topk.default

    def back(s: Tensor, inputs: list[Tensor], index: Tensor) -> list[Tensor]:
        nothing = torch.zeros_like(inputs[0])
        return [nothing.scatter(axis, index, s) if are_distinct else nothing.scatter_add(axis, index, s)]

    return back


@register(aten.index.Tensor, aten.index_select.default, kind=Kind.SHAPE, nonnegative=inherited, takes=first)
def index(layer: Layer) -> Form:
    """Picks along one axis by constant places: a product with a matrix of zeros and ones, whose adjoint is known."""
    axis, places = _places(layer)
    size = reach.shape_of(layer.inputs[0])[axis]
    picks = F.one_hot(places % size, size)

    def back(s: Tensor, x: Tensor) -> Tensor:
        return (s.movedim(axis, -1) @ picks.to(s)).movedim(-1, axis)

    return of_one(back)


def _places(layer: Layer) -> tuple[int, Tensor]:
    if layer.node.target == aten.index_select.default:
        indices: list[Any] = [None] * (layer.argument("dim") % layer.inputs[0].meta["val"].ndim) + [
            layer.argument("index")
        ]
    else:
        indices = [layer.captured.value(entry) for entry in layer.argument("indices")]
    used = [axis for axis, entry in enumerate(indices) if entry is not None]
    if len(used) != 1 or indices[used[0]].ndim != 1 or indices[used[0]].dtype == torch.bool:
        raise LrpEdgeError(
            f"{layer.node.target} at {layer.place} indexes several axes at once; relevance is defined for one list of "
            "places along one axis"
        )
    return used[0], indices[used[0]]


# Padding.


#: A border as it lies where its values are from.
_MOVED: dict[str, Callable[[Tensor, int], Tensor]] = {
    "reflect": lambda border, axis: border.flip(axis),
    "circular": lambda border, axis: border,
    "replicate": lambda border, axis: border.sum(axis, keepdim=True),
}


def _unpadded(s: Tensor, amounts: Sequence[int], mode: str) -> Tensor:
    """Return the adjoint of padding: each share of a border goes to where its value is from, of a constant nowhere."""
    if mode == "constant":
        return F.pad(s, [-amount for amount in amounts])
    for i in range(len(amounts) // 2):
        s = _folded(s, s.ndim - 1 - i, amounts[2 * i], amounts[2 * i + 1], mode)
    return s


def _folded(s: Tensor, axis: int, before: int, after: int, mode: str) -> Tensor:
    """Return the adjoint along one axis; an end that is cropped instead has a negative amount."""
    size = s.shape[axis] - before - after
    ends = max(before, 0), max(after, 0)
    inside = s.narrow(axis, ends[0], s.shape[axis] - sum(ends))
    share = _within(inside, axis, max(-before, 0), size)
    borders = s.narrow(axis, 0, ends[0]), s.narrow(axis, s.shape[axis] - ends[1], ends[1])
    places = {
        "reflect": (1, size - 1 - ends[1]),
        "circular": (size - ends[0], 0),
        "replicate": (0, size - 1),
    }[mode]
    for border, place, length in zip(borders, places, ends, strict=True):
        if length:
            share = share + _within(_MOVED[mode](border, axis), axis, place, size)
    return share


def _sizes(node: fx.Node, taking: Sequence[fx.Node]) -> Sequence[fx.Node]:
    """Amounts that are computed from the frame's size."""
    return [source for source in node.all_input_nodes if source not in taking]


@register(aten.constant_pad_nd.default, aten.pad.default, kind=Kind.SHAPE, reach=reach.padded, reads=_sizes)
def pad(layer: Layer) -> Form:
    """What falls on the border is lost, as with a padded convolution; a negative amount crops."""
    is_constant = layer.node.target == aten.constant_pad_nd.default
    mode = "constant" if is_constant else layer.argument("mode")

    def back(s: Tensor, inputs: list[Tensor], *given: Any) -> list[Tensor]:
        sizes = dict(zip(layer.given, given, strict=True))
        amounts = [sizes.get(amount, amount) for amount in layer.argument("pad")]
        return [_unpadded(s, amounts, mode)]

    return back


@register(aten.cat.default, kind=Kind.SHAPE, nonnegative=inherited, reach=reach.concatenated, reads=others)
def concatenate(layer: Layer) -> Form:
    """What is put beside the signals, such as a class token, takes nothing."""
    sources, axis = layer.arguments("tensors", "dim")

    def back(s: Tensor, inputs: list[Tensor], *given: Tensor) -> list[Tensor]:
        values = layer.values(inputs, given)
        waiting, shares, start = list(layer.inputs), [], 0
        for source in sources:
            size = values[source].shape[axis]
            if waiting and source is waiting[0]:
                shares.append(s.narrow(axis, start, size))
                waiting.pop(0)
            start = start + size
        return shares

    return back
