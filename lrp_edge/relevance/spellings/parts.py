"""What takes parts of a signal: operations of several results, maxima and windows."""

from __future__ import annotations

import functools
import itertools
import operator
import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from lrp_edge.relevance.capture import Writer, arguments
from lrp_edge.relevance.receptive_field import shape_of
from lrp_edge.relevance.spellings.base import spelling

aten = torch.ops.aten

# Several results: each is a part of the input.


def _parts(write: Writer, node: fx.Node, sizes: Sequence[int]) -> list[fx.Node]:
    image, axis = node.args[0], arguments(node)["dim"]
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return [write(aten.slice.Tensor, image, axis, at, at + size) for at, size in zip(starts, sizes, strict=True)]


@spelling(aten.split.Tensor)
def split(write: Writer, node: fx.Node) -> Sequence[fx.Node]:
    return _parts(write, node, [arguments(node)["split_size"]] * len(node.meta["val"]))


@spelling(aten.split_with_sizes.default)
def split_with_sizes(write: Writer, node: fx.Node) -> Sequence[fx.Node]:
    return _parts(write, node, arguments(node)["split_sizes"])


@spelling(aten.chunk.default, aten.tensor_split.sections)
def chunk(write: Writer, node: fx.Node) -> Sequence[fx.Node]:
    axis = arguments(node)["dim"]
    return _parts(write, node, [part.shape[axis] for part in node.meta["val"]])


@spelling(aten.unbind.int)
def unbind(write: Writer, node: fx.Node) -> Sequence[fx.Node]:
    image, axis = arguments(node).values()
    return [write(aten.select.int, image, axis, i) for i in range(len(node.meta["val"]))]


@spelling(aten.stack.default)
def stack(write: Writer, node: fx.Node) -> fx.Node:
    tensors, axis = arguments(node).values()
    axis %= node.meta["val"].ndim
    return write(aten.cat.default, [write(aten.unsqueeze.default, one, axis) for one in tensors], axis)


# Maxima: those of several results, and those of whole maps.


@spelling(aten.max.dim)
def max_along(write: Writer, node: fx.Node) -> Sequence[fx.Node] | None:
    image, axis, keeps = arguments(node).values()
    if any(user.args[1] != 0 for user in node.users):
        return None
    return [write(aten.amax.default, image, [axis], keeps)]


@spelling(aten.adaptive_max_pool2d.default)
def adaptive_max_pool(write: Writer, node: fx.Node) -> Sequence[fx.Node] | None:
    image, (rows, columns) = arguments(node).values()
    height, width = image.meta["val"].shape[-2:]
    if any(user.args[1] != 0 for user in node.users):
        return None
    if (rows, columns) == (1, 1):
        return [write(aten.amax.default, image, [-2, -1], True)]
    fixed = isinstance(height, int) and isinstance(width, int)
    if not fixed or height % rows or width % columns:
        return None
    return [write(aten.max_pool2d.default, image, [height // rows, width // columns])]


@spelling(aten.max_pool2d_with_indices.default)
def max_pool_with_places(write: Writer, node: fx.Node) -> Sequence[fx.Node] | None:
    if any(user.args[1] != 0 for user in node.users):
        return None
    return [write(aten.max_pool2d.default, *arguments(node).values())]


@spelling(aten.topk.default)
def greatest(write: Writer, node: fx.Node) -> Sequence[fx.Node] | None:
    """The greatest values are picked by their places, which take no relevance."""
    if all(user.args[1] == 1 for user in node.users):
        return None
    image, count, axis, largest, in_order = arguments(node).values()
    places = write(operator.getitem, write(aten.topk.default, image, count, axis, largest, in_order), 1)
    return [write(aten.gather.default, image, axis, places), places]


# Windows: each of their places is a part of the signal.


@spelling(aten.unfold.default)
def windows(write: Writer, node: fx.Node) -> fx.Node:
    image, axis, size, step = arguments(node).values()
    return _windows(write, image, axis % len(shape_of(image)), size, step, 1)


def _windows(write: Writer, image: Any, axis: int, size: int, step: int, dilation: int) -> fx.Node:
    """Write windows along an axis; what is in each is the last axis."""
    parts = []
    for place in range(size):
        # Counted from the end, which holds for frames of any size.
        end = -(size - 1 - place) * dilation or sys.maxsize
        part = write(aten.slice.Tensor, image, axis, place * dilation, end, step)
        parts.append(write(aten.unsqueeze.default, part, -1))
    return write(aten.cat.default, parts, -1)


@spelling(aten.im2col.default)
def columns(write: Writer, node: fx.Node) -> fx.Node:
    image, sizes, dilations, paddings, steps = arguments(node).values()
    if any(paddings):
        image = write(aten.constant_pad_nd.default, image, [paddings[1]] * 2 + [paddings[0]] * 2, 0.0)
    for axis, (size, step, dilation) in enumerate(zip(sizes, steps, dilations, strict=True), start=2):
        image = _windows(write, image, axis, size, step, dilation)
    image = write(aten.permute.default, image, [0, 1, 4, 5, 2, 3])
    return write(aten.flatten.using_ints, write(aten.flatten.using_ints, image, 1, 3), 2, 3)


@spelling(aten.col2im.default)
def columns_laid_out(write: Writer, node: fx.Node) -> fx.Node | None:
    """Where windows overlap they are summed."""
    image, outputs, sizes, dilations, paddings, steps = arguments(node).values()
    if not all(isinstance(side, int) for side in outputs):
        return None
    axes = list(zip(outputs, sizes, dilations, paddings, steps, strict=True))
    counts = [(side + 2 * pad - dilation * (size - 1) - 1) // step + 1 for side, size, dilation, pad, step in axes]
    image = write(aten.unflatten.int, write(aten.unflatten.int, image, 2, counts), 1, [-1, *sizes])
    parts = []
    for places in itertools.product(*map(range, sizes)):
        part = image
        for place in places:
            part = write(aten.select.int, part, 2, place)
        for axis, (place, (side, _, dilation, pad, step)) in enumerate(zip(places, axes, strict=True), start=2):
            rest = [0, 0] * (3 - axis)
            spread = write(
                aten.constant_pad_nd.default, write(aten.unsqueeze.default, part, axis + 1), [*rest, 0, step - 1]
            )
            start, length = place * dilation - pad, counts[axis - 2] * step
            spread = write(aten.flatten.using_ints, spread, axis, axis + 1)
            part = write(aten.constant_pad_nd.default, spread, [*rest, start, side - start - length])
        parts.append(part)
    return functools.reduce(functools.partial(write, aten.add.Tensor), parts)
