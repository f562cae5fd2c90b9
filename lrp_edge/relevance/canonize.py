"""Bring a captured graph into the form that relevance is defined on: linear layers in a row or side by side are one."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from lrp_edge.relevance.affine import Convolution, Pair
from lrp_edge.relevance.capture import Capture, arguments
from lrp_edge.relevance.layers import Kind, Layer, Weighted
from lrp_edge.relevance.receptive_field import shape_of
from lrp_edge.relevance.rewriting import known_layers

aten = torch.ops.aten


def canonize(captured: Capture) -> list[Layer]:
    """Fold BatchNorms and parallel branches into layers with weights, in place, and list the layers that are left.

    A BatchNorm is left alone, to be handled by rule, where another operation also reads the output of the layer before
    it. Branches that are added up are one convolution if each is one, a BatchNorm, or the signal itself, as in networks
    that are trained with more branches than they are deployed with (Ding et al. 2021, "RepVGG").
    """
    while True:
        layers = known_layers(captured)
        changed = [_fold_norms(captured, layers), _fold_branches(captured, layers)]
        captured.prune()
        if not any(changed):
            return layers


def _fold_norms(captured: Capture, layers: Sequence[Layer]) -> bool:
    """Fold each BatchNorm that follows a convolution or linear layer into it.

    The fold is that of inference (Ioffe and Szegedy 2015, algorithm 2): with s = γ / √(σ² + ε),
    W' = s W and b' = s (b − μ) + β.
    """
    foldable = {
        layer.node: layer for layer in layers if layer.node.target in (aten.conv2d.default, aten.linear.default)
    }
    changed = False
    for norm in layers:
        layer = foldable.get(arguments(norm.node)["input"]) if norm.kind is Kind.BATCH_NORM else None
        if layer and len(layer.node.users) == 1:
            (_, weight, bias), (_, scale, shift) = layer.form, norm.form
            weight = weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
            _put(captured, layer.node, weight, shift if bias is None else scale * bias + shift)
            norm.node.replace_all_uses_with(layer.node)
            captured.graph.erase_node(norm.node)
            changed = True
    return changed


def _put(captured: Capture, node: fx.Node, weight: Tensor, bias: Tensor | None, **changes: object) -> None:
    """Give a layer other weights."""
    values = {"weight": weight, "bias": bias}
    constants = {
        name: None if value is None else captured.new_constant(f"{node.name}_{name}", value)
        for name, value in values.items()
    }
    node.args, node.kwargs = (), arguments(node) | constants | changes


class _Branch(NamedTuple):
    """A convolution of a source; of a BatchNorm, or of the source itself, by one pixel of its own channel."""

    source: fx.Node
    weight: Tensor
    bias: Tensor | None
    convolution: Convolution | None


def _fold_branches(captured: Capture, layers: Sequence[Layer]) -> bool:
    """Add up branches that are convolutions of one signal, and say whether there were any."""
    known = {layer.node: layer for layer in layers}
    for layer in layers:
        summands = _summands(layer.node) if layer.node.target == aten.add.Tensor else {}
        pairs = list(itertools.permutations(summands, 2))
        # The signal itself is a branch beside several; beside a single one it is what a residual block adds to.
        bypasses = [pair for pair in pairs if _is_of(*pair)]
        others = [pair for pair in pairs if pair not in bypasses]
        for convolution, other in (*(bypasses if len(summands) > 2 else ()), *others):
            if _add_to(captured, known, convolution, other):
                total = summands[other]
                total.replace_all_uses_with(next(source for source in total.all_input_nodes if source is not other))
                captured.graph.erase_node(total)
                return True
    return False


def _is_of(convolution: fx.Node, source: fx.Node) -> bool:
    return convolution.target == aten.conv2d.default and arguments(convolution)["input"] is source


def _summands(node: fx.Node) -> dict[fx.Node, fx.Node]:
    """Return what a sum of sums adds up, each with the sum of two that it is in."""
    found: dict[fx.Node, fx.Node] = {}
    if arguments(node)["alpha"] != 1:
        return found
    for source in node.all_input_nodes:
        nested = _summands(source) if source.target == aten.add.Tensor and len(source.users) == 1 else {}
        found |= nested or {source: node}
    return found


def _add_to(captured: Capture, known: dict[fx.Node, Layer], node: fx.Node, other: fx.Node) -> bool:
    """Add a branch to a convolution, and say whether both are of one signal and of a kind that can be added."""
    if node not in known or node.target != aten.conv2d.default or len(node.users) > 1:
        return False
    one = _Branch(known[node].inputs[0], known[node].form.weight, known[node].form.bias, known[node].form.affine)
    two = _branch(known, other, one)
    if two is None or two.source is not one.source or one.convolution is None:
        return False
    shared = one.convolution
    kernels = [_kernel(branch, shared) for branch in (one, two)]
    sizes = [max(kernel.shape[axis] for kernel in kernels) for axis in (2, 3)]
    if any(shared.dilation != (1, 1) and list(kernel.shape[2:]) != sizes for kernel in kernels):
        return False
    padding = _padding(one, two, sizes)
    if padding is None:
        return False
    weight = sum((_centred(kernel, sizes) for kernel in kernels[1:]), start=_centred(kernels[0], sizes))
    biases = [branch.bias for branch in (one, two) if branch.bias is not None]
    _put(captured, node, weight, sum(biases[1:], start=biases[0]) if biases else None, padding=padding)
    return True


def _branch(known: dict[fx.Node, Layer], node: fx.Node, beside: _Branch) -> _Branch | None:
    layer = known.get(node)
    channels = beside.weight.shape[0]
    if node is beside.source:
        unit = beside.weight.new_ones(channels)
        return _Branch(node, unit, None, None) if shape_of(node)[1] == channels else None
    if layer is None or len(node.users) > 1 or not isinstance(layer.form, Weighted):
        return None
    affine, weight, bias = layer.form
    if node.target == aten.batch_norm.default:
        return _Branch(layer.inputs[0], weight, bias, None) if len(weight) == channels else None
    if node.target != aten.conv2d.default or beside.convolution is None:
        return None
    alike = all(getattr(affine, name) == getattr(beside.convolution, name) for name in ("stride", "dilation", "groups"))
    return _Branch(layer.inputs[0], weight, bias, affine) if alike and isinstance(affine, Convolution) else None


def _kernel(branch: _Branch, like: Convolution) -> Tensor:
    """Return the weights [O, I / groups, kh, kw] of a branch; of one factor a channel as a kernel of one pixel."""
    if branch.convolution is not None:
        return branch.weight
    inputs = len(branch.weight) // like.groups
    places = torch.eye(inputs, dtype=branch.weight.dtype, device=branch.weight.device).repeat(like.groups, 1)
    return (branch.weight.unsqueeze(1) * places)[:, :, None, None]


def _padding(one: _Branch, two: _Branch, sizes: Sequence[int]) -> Pair | None:
    """Return the padding of a kernel of these sizes in which both lie in the middle; None where they do not."""
    found = set()
    for branch in (one, two):
        kernel = branch.convolution.kernel if branch.convolution else (1, 1)
        padding = branch.convolution.padding if branch.convolution else (0, 0)
        rest = [size - length for size, length in zip(sizes, kernel, strict=True)]
        if any(amount % 2 for amount in rest):
            return None
        found.add(tuple(amount // 2 + pad for amount, pad in zip(rest, padding, strict=True)))
    strided = one.convolution is not None and one.convolution.stride != (1, 1) and two.convolution is None
    if len(found) > 1 or strided:
        return None
    rows, columns = found.pop()
    return rows, columns


def _centred(kernel: Tensor, sizes: Sequence[int]) -> Tensor:
    rows, columns = ((size - length) // 2 for size, length in zip(sizes, kernel.shape[2:], strict=True))
    return F.pad(kernel, (columns, columns, rows, rows))
