"""Attention, norms and layers with weights, in the words of those that have rules."""

from __future__ import annotations

import string
from collections.abc import Sequence

import torch
from torch import Tensor, fx

from lrp_edge.relevance.capture import Writer, arguments
from lrp_edge.relevance.pooling import pair
from lrp_edge.relevance.receptive_field import shape_of
from lrp_edge.relevance.spellings.base import spelling

aten = torch.ops.aten

# Attention, and what norms there are.


@spelling(aten.scaled_dot_product_attention.default)
def attention(write: Writer, node: fx.Node) -> fx.Node:
    given = arguments(node)
    query, key, value, mask = (given[name] for name in ("query", "key", "value", "attn_mask"))
    scale = given["scale"] or query.meta["val"].shape[-1] ** -0.5
    scores = write(aten.matmul.default, write(aten.mul.Tensor, query, scale), write(aten.transpose.int, key, -2, -1))
    if mask is not None and mask.meta["val"].dtype == torch.bool:
        scores = write(aten.masked_fill.Scalar, scores, write(aten.logical_not.default, mask), -torch.inf)
    elif mask is not None:
        scores = write(aten.add.Tensor, scores, mask)
    return write(aten.matmul.default, write(aten.softmax.int, scores, -1), value)


@spelling(aten.instance_norm.default)
def tracked_instance_norm(write: Writer, node: fx.Node) -> fx.Node | None:
    """With running statistics it is a BatchNorm."""
    given = arguments(node)
    if given["use_input_stats"]:
        return None
    names = ("input", "weight", "bias", "running_mean", "running_var")
    rest = (False, given["momentum"], given["eps"], False)
    return write(aten.batch_norm.default, *(given[name] for name in names), *rest)


@spelling(aten.native_layer_norm.default)
def native_layer_norm(write: Writer, node: fx.Node) -> Sequence[fx.Node] | None:
    if any(user.args[1] != 0 for user in node.users):
        return None
    return [write(aten.layer_norm.default, *arguments(node).values())]


# What changes nothing.


@spelling(aten.add.Scalar, aten.sub.Scalar)
def no_offset(write: Writer, node: fx.Node) -> fx.Node | None:
    return node.args[0] if arguments(node)["other"] == 0 else None  # type: ignore[return-value]


@spelling(aten.mul.Scalar, aten.div.Scalar)
def no_scale(write: Writer, node: fx.Node) -> fx.Node | None:
    return node.args[0] if arguments(node)["other"] == 1 else None  # type: ignore[return-value]


@spelling(aten.rrelu.default)
def rectifier_of_random_slope(write: Writer, node: fx.Node) -> fx.Node:
    """Its slope is random in training alone."""
    given = arguments(node)
    return write(aten.leaky_relu.default, node.args[0], (given["lower"] + given["upper"]) / 2)


# Layers with weights.


@spelling(aten.conv2d.padding)
def named_padding(write: Writer, node: fx.Node) -> fx.Node:
    """``valid`` is none; ``same`` leaves the size, with more on the right where it is odd."""
    image, weight, bias, stride, padding, dilation, groups = arguments(node).values()
    amounts = [0, 0, 0, 0]
    if padding == "same":
        totals = [step * (size - 1) for step, size in zip(pair(dilation), shape_of(weight)[2:], strict=True)]
        amounts = [amount for total in reversed(totals) for amount in (total // 2, total - total // 2)]
    if amounts[::2] != amounts[1::2]:
        image, amounts = write(aten.constant_pad_nd.default, image, amounts, 0.0), [0, 0, 0, 0]
    return write(aten.conv2d.default, image, weight, bias, stride, amounts[::-2], dilation, groups)


@spelling(aten.conv1d.default, aten.conv1d.padding)
def one_dimensional(write: Writer, node: fx.Node) -> fx.Node:
    image, weight, bias, stride, padding, dilation, groups = arguments(node).values()
    opened = (write(aten.unsqueeze.default, one, 2) for one in (image, weight))
    if not isinstance(padding, str):
        padding = [0, *padding]
    target = aten.conv2d.padding if isinstance(padding, str) else aten.conv2d.default
    return write(aten.squeeze.dim, write(target, *opened, bias, [1, *stride], padding, [1, *dilation], groups), 2)


@spelling(aten.matmul.default, aten.mm.default, aten.bmm.default, aten.mv.default)
def product_with_weights(write: Writer, node: fx.Node) -> fx.Node | None:
    """A product with one constant matrix on the right is a linear layer; a vector is a matrix of one row or column."""
    image, weight = arguments(node).values()
    if len(shape_of(image)) == 1:
        row = write(aten.unsqueeze.default, image, 0)
        return write(aten.squeeze.dim, write(aten.matmul.default, row, weight), -2)
    if len(shape_of(weight)) == 1:
        column = write(aten.unsqueeze.default, weight, 1)
        return write(aten.squeeze.dim, write(aten.matmul.default, image, column), -1)
    constants = write.captured.constants
    if weight not in constants or image in constants or constants[weight].numel() != _matrix(constants[weight]):
        return None
    matrix = constants[weight].reshape(constants[weight].shape[-2:])
    return write(aten.linear.default, image, write.captured.new_constant(f"{node.name}_weight", matrix.T.contiguous()))


def _matrix(value: Tensor) -> int:
    """Return how many values the last two axes hold."""
    return value.shape[-2] * value.shape[-1] if value.ndim > 1 else 0


@spelling(aten.addmm.default)
def product_and_bias(write: Writer, node: fx.Node) -> fx.Node | None:
    bias, image, weight, beta, alpha = arguments(node).values()
    if (beta, alpha) != (1, 1):
        return None
    return write(aten.add.Tensor, write(aten.mm.default, image, weight), bias)


@spelling(aten.einsum.default)
def named_axes(write: Writer, node: fx.Node) -> fx.Node | None:
    """A sum over one axis with a constant matrix is a linear layer along that axis; axes have lower-case names."""
    given, operands = arguments(node)["equation"], arguments(node)["tensors"]
    constants, equation = write.captured.constants, _in_lower_case(given)
    if equation != given:
        return write(aten.einsum.default, equation, operands)
    if "." in equation or "->" not in equation or [operand in constants for operand in operands] != [False, True]:
        return None
    (image, weight), result = equation.split("->")[0].split(","), equation.split("->")[1]
    summed, made = set(image) & set(weight), set(weight) - set(image)
    if len(weight) != 2 or len(summed) != 1 or len(made) != 1 or sorted(set(image) - summed | made) != sorted(result):
        return None
    (axis,), (new,) = summed, made
    matrix = constants[operands[1]].permute([weight.index(new), weight.index(axis)]).contiguous()
    rest = [name for name in image if name != axis]
    moved = write(aten.permute.default, operands[0], [image.index(name) for name in (*rest, axis)])
    made_of = write(aten.linear.default, moved, write.captured.new_constant(f"{node.name}_weight", matrix))
    return write(aten.permute.default, made_of, [(*rest, new).index(name) for name in result])


def _in_lower_case(equation: str) -> str:
    """Name the axes of an equation a, b, …: TensorRT knows neither capitals nor blanks.

    The order of the names stays: that of the result's axes is theirs where the equation does not say it.
    """
    names = sorted(set(filter(str.isalpha, equation)))
    if len(names) > len(string.ascii_lowercase):
        return equation
    letters = dict(zip(names, string.ascii_lowercase, strict=False))
    return "".join(letters.get(mark, mark) for mark in equation if mark != " ")


@spelling(aten.add.Tensor)
def bias_beside(write: Writer, node: fx.Node) -> fx.Node | None:
    """A constant that is added to what a layer with weights returns is a bias of it."""
    constants = write.captured.constants
    total, bias, alpha = arguments(node).values()
    if not isinstance(bias, fx.Node):
        return total if bias == 0 else None
    if total in constants:
        total, bias = bias, total
    if bias not in constants or alpha != 1 or not isinstance(total, fx.Node):
        return None
    layer, axis = _layer_before(total)
    channels = None if layer is None else _by_channel(constants[bias], axis, total)
    if layer is None or channels is None:
        return None
    given = arguments(layer)
    if given["bias"] is not None:
        channels = channels + constants[given["bias"]]
    given["bias"] = write.captured.new_constant(f"{node.name}_bias", channels)
    layer.args, layer.kwargs = (), given
    return total


def _layer_before(node: fx.Node) -> tuple[fx.Node | None, int]:
    """Return the layer with weights that nothing but a node is computed from, and the node's axis of its channels."""
    if len(node.users) > 1:
        return None, 0
    if node.target in (aten.linear.default, aten.conv2d.default):
        return node, len(shape_of(node)) - (1 if node.target == aten.linear.default else 3)
    if node.target == aten.permute.default:
        layer, axis = _layer_before(node.all_input_nodes[0])
        places = [place % len(shape_of(node)) for place in arguments(node)["dims"]]
        return layer, places.index(axis)
    return None, 0


def _by_channel(value: Tensor, axis: int, node: fx.Node) -> Tensor | None:
    """Return a constant as one value a channel, [C], the axis of a node; None where it is not one."""
    shape = shape_of(node)
    sizes = [1] * (len(shape) - value.ndim) + list(value.shape)
    if len(sizes) != len(shape) or any(size != 1 for place, size in enumerate(sizes) if place != axis):
        return None
    return value.reshape(-1).expand(shape[axis])
