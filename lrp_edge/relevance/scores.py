"""What a network returns: logits, or scores that it has made of them, which are taken off again."""

from __future__ import annotations

import torch
from torch import fx

from lrp_edge.errors import LrpEdgeError
from lrp_edge.relevance.capture import Capture, Writer, arguments, module_path

aten = torch.ops.aten

#: What makes scores of logits, and the activation of the card by which they are made of them.
_ACTIVATIONS = {
    aten.sigmoid.default: "sigmoid",
    aten.log_sigmoid.default: "sigmoid",
    aten.softmax.int: "softmax",
    aten.log_softmax.int: "softmax",
    aten._softmax.default: "softmax",
    aten._log_softmax.default: "softmax",
}
_UNCHANGED = {aten.clone.default, aten.alias.default, aten.contiguous.default, aten._to_copy.default, aten.to.dtype}
#: What leaves scores what they are: between 0 and 1, and no logits.
_KEEPS_SCORES = _UNCHANGED | {
    aten.cat.default,
    aten.stack.default,
    aten.view.default,
    aten.reshape.default,
    aten.squeeze.default,
    aten.squeeze.dim,
    aten.squeeze.dims,
    aten.unsqueeze.default,
    aten.slice.Tensor,
    aten.select.int,
    aten.rsub.Scalar,
    aten.sub.Tensor,
    aten.clamp.default,
    aten.mean.dim,
    aten.amax.default,
    aten.constant_pad_nd.default,
}


def take_off_scores(captured: Capture) -> None:
    """Let a graph return logits where it ends in an activation, and note which.

    A last sigmoid, softmax or logarithm of either is taken off: relevance starts at logits, and scores are made of
    them by the card's activation, so that they are those of the network.

    Raises
    ------
    LrpEdgeError
        If what is returned is made of scores in another way, e.g. ``cat([1 - p, p])``: names the activation's place.
    """
    last = _before(captured.logits)
    if last.target in _ACTIVATIONS and _over_classes(last):
        captured.activation = _ACTIVATIONS[last.target]
        captured.returns(last.args[0])  # type: ignore[arg-type]
    made_of = _scores_within(captured.logits)
    if made_of is not None:
        place = module_path(made_of) or "the model itself"
        raise LrpEdgeError(
            f"the model returns scores made of {made_of.target} at {place}; let it return the logits before that, of "
            "which the exported graph makes scores"
        )


def two_classes(captured: Capture) -> None:
    """Take a single logit, [N] or [N, 1], for that of the second of two classes, whose first has the logit zero.

    Their softmax is one minus the sigmoid of it, and its sigmoid.
    """
    single = captured.logits
    if single.meta["val"].ndim == 2 and single.meta["val"].shape[1] > 1:
        return
    write = Writer(captured, captured.output)
    if single.meta["val"].ndim == 1:
        single = write(aten.unsqueeze.default, single, 1)
    captured.returns(write(aten.constant_pad_nd.default, single, [1, 0], 0.0))
    captured.activation = None


def _before(node: fx.Node) -> fx.Node:
    while node.target in _UNCHANGED:
        node = node.args[0]  # type: ignore[assignment]
    return node


def _over_classes(node: fx.Node) -> bool:
    """Whether a softmax is over the classes of [N, K], of which there are several; a sigmoid is of each by itself."""
    dim = arguments(node).get("dim")
    return dim is None or (dim in (1, -1) and int(node.meta["val"].shape[-1]) > 1)


def _scores_within(node: fx.Node) -> fx.Node | None:
    """Return the activation that the values of a node are scores of, or None where they are logits."""
    if node.op != "call_function":
        return None
    if node.target in _ACTIVATIONS:
        return node
    if node.target not in _KEEPS_SCORES:
        return None
    found = (_scores_within(source) for source in node.all_input_nodes)
    return next((activation for activation in found if activation is not None), None)
