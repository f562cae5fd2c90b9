"""What of a graph depends on the image, and through which of it relevance goes back."""

from __future__ import annotations

import operator

import torch
from torch import Tensor, fx

from lrp_edge.errors import LrpEdgeError
from lrp_edge.relevance.capture import Capture, module_path
from lrp_edge.relevance.layers import Layer, is_tensor
from lrp_edge.relevance.operators import OPERATORS

aten = torch.ops.aten

#: What reads only the shape of a tensor.
_SHAPE_ONLY = {
    aten.zeros_like.default,
    aten.ones_like.default,
    aten.full_like.default,
    aten.empty_like.default,
    aten.rand_like.default,
    aten.randn_like.default,
    aten.new_zeros.default,
    aten.new_ones.default,
    aten.new_full.default,
    aten.new_empty.default,
}


class NoRuleError(LrpEdgeError):
    """An operation that relevance would have to go through has no rule.

    Attributes
    ----------
    node : fx.Node
        The operation.
    """

    def __init__(self, node: fx.Node) -> None:
        self.node = node
        # What is taken out of several results is named by what computes them.
        named = node.args[0] if node.target is operator.getitem and isinstance(node.args[0], fx.Node) else node
        named = named.meta.get("written_for", named)
        place = module_path(named)
        follows_size = any(not is_tensor(source) for source in named.all_input_nodes)
        super().__init__(
            f"no rule for operator {named.target}{' of sizes that follow the frame' if follows_size else ''} "
            f"(node {named.name!r}, {f'in module {place}' if place else 'in the model itself'}); "
            f"{'give --size, ' if follows_size else ''}compute it from others, or register it as "
            "docs/relevance.md says under 'Adding an operator'"
        )


def find_layers(captured: Capture) -> list[Layer]:
    """List the operations through which relevance goes from the logits to the image, in the order of the forward pass.

    What only gates depend on is none of them: relevance is not defined for it, and does not need to be.

    Raises
    ------
    NoRuleError
        If one of them has no rule: names the node, its operator and its place in the model.
    """
    signals = _signals(captured)
    signs = _nonnegative(captured, signals)
    reached, layers = {captured.logits}, []
    for node in reversed(captured.graph.nodes):
        if node not in reached or node not in signals or node is captured.image:
            continue
        if node.target not in OPERATORS:
            raise NoRuleError(node)
        known = OPERATORS[node.target]
        takes = known.follows if captured.follows_attention else known.takes
        taking = tuple(takes(node, signals[node]))
        given = tuple(known.reads(node, taking))
        layers.append(
            Layer(
                node,
                known.kind(taking),
                captured,
                taking,
                nonnegative=taking[0] in signs,
                given=given,
                nonnegative_given=bool(given) and given[0] in signs,
            )
        )
        reached.update(taking)
    if captured.image not in reached:
        raise LrpEdgeError("the logits do not depend on the image but through gates; relevance needs a path of signals")
    return layers[::-1]


def _signals(captured: Capture) -> dict[fx.Node, list[fx.Node]]:
    """Return the nodes that depend on the values of the image, each with those of its arguments that do."""
    found: dict[fx.Node, list[fx.Node]] = {captured.image: []}
    for node in captured.graph.nodes:
        if node.op != "call_function" or node.target in _SHAPE_ONLY or not _has_tensors(node):
            continue
        sources = [source for source in _arguments(node) if source in found]
        if sources:
            found[node] = sources
    return found


def _nonnegative(captured: Capture, signals: dict[fx.Node, list[fx.Node]]) -> set[fx.Node]:
    """Return the nodes that depend on the image and have no negative value."""
    found: set[fx.Node] = set()
    for node, sources in signals.items():
        if node is captured.image or node.target not in OPERATORS:
            continue
        if OPERATORS[node.target].nonnegative(node, [source in found for source in sources]):
            found.add(node)
    return found


def _arguments(node: fx.Node) -> list[fx.Node]:
    """Return the nodes among the arguments, in order, one that is given twice listed twice."""
    found: list[fx.Node] = []
    fx.node.map_arg((node.args, node.kwargs), lambda source: found.append(source))
    return found


def _has_tensors(node: fx.Node) -> bool:
    """Whether it computes tensors rather than sizes."""
    value = node.meta.get("val")
    return "val" not in node.meta or isinstance(value, Tensor | list | tuple)
