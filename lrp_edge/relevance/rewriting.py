"""Bring equal arithmetic to one form before rules are looked up.

Spellings, which :mod:`lrp_edge.relevance.spellings` registers, are written in the operations that have rules. An
operation that has neither a rule nor a spelling is replaced by what ATen itself composes it of.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, fx
from torch._decomp import decomposition_table
from torch._ops import OpOverload

from lrp_edge.relevance.branches import NoRuleError, find_layers
from lrp_edge.relevance.capture import Capture, Writer, fold_constants
from lrp_edge.relevance.layers import Layer, is_tensor
from lrp_edge.relevance.spellings import SPELLINGS


def respell(captured: Capture) -> None:
    """Rewrite a graph in the operations that have rules, in place; what is written may itself be a spelling."""
    rewritten = True
    while rewritten:
        rewritten, node = False, captured.image
        while node.op != "output":
            before = node.prev
            written = node.op == "call_function" and _respell(captured, node)
            node, rewritten = before.next if written else node.next, rewritten or written
        fold_constants(captured)
        captured.prune()


def _respell(captured: Capture, node: fx.Node) -> bool:
    """Rewrite one node by its spelling, and say whether it was."""
    written = SPELLINGS[node.target](Writer(captured, node), node) if node.target in SPELLINGS else None
    return written is not None and _replace(captured, node, written)


def known_layers(captured: Capture) -> list[Layer]:
    """List the layers of a graph as :func:`find_layers`; what has no rule is first replaced by what it is composed of.

    Raises
    ------
    NoRuleError
        If an operation that has no rule is not composed of others.
    """
    while True:
        try:
            return find_layers(captured)
        except NoRuleError as error:
            written = _composed(captured, error.node)
            if written is None:
                raise
            _replace(captured, error.node, written)
            respell(captured)


def _replace(captured: Capture, node: fx.Node, written: fx.Node | Sequence[fx.Node]) -> bool:
    if isinstance(written, fx.Node):
        node.replace_all_uses_with(written)
    for user in list(node.users):
        user.replace_all_uses_with(written[user.args[1]])  # type: ignore[index]
        captured.graph.erase_node(user)
    captured.graph.erase_node(node)
    return True


def _composed(captured: Capture, node: fx.Node) -> fx.Node | Sequence[fx.Node] | None:
    """Write an operation in those that ATen composes it of; None where it is not composed."""
    target = node.target
    if not isinstance(target, OpOverload):
        return None
    if target._can_decompose():
        composed = target.decompose
    elif target in decomposition_table:
        composed = decomposition_table[target]
    else:
        return None
    sources = [source for source in node.all_input_nodes if is_tensor(source)]

    def compute(*values: Tensor) -> Any:
        found = dict(zip(sources, values, strict=True))
        args, named = fx.node.map_arg(
            (node.args, node.kwargs), lambda source: found[source] if source in found else source.meta["val"]
        )
        return composed(*args, **named)

    try:
        return Writer(captured, node).inline(compute, *sources)
    except RuntimeError:
        # What ATen composes of sizes that follow the frame's cannot be traced by them.
        return None
