"""Compute relevance and mask only where they are wanted: the graph behind the decision moves into an ONNX `If`.

`torch.cond` would do the same before the export, but then each pass over the graph (precision, quantisation) would have
to see through it. So the graph stays flat until it is complete, and is divided last.
"""

from __future__ import annotations

from lrp_edge.card import ModelCard
from lrp_edge.errors import needs_extra
from lrp_edge.export.graph import ancestors, producers

with needs_extra("export"):
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

_DECISION = ("scores", "label")
_WANTED = "gate_wanted"


def gate(proto: onnx.ModelProto, card: ModelCard) -> onnx.ModelProto:
    """Return the graph with relevance and mask inside an `If`, which is taken when any frame is classified as a defect.

    In a call without such a frame, mask and relevance are zero; otherwise all outputs are those of the flat graph.

    Parameters
    ----------
    proto : onnx.ModelProto
        A flat graph of the contract.
    card : ModelCard
        Says which classes are defects.
    """
    result = onnx.ModelProto()
    result.CopyFrom(proto)
    graph = result.graph
    nodes = list(graph.node)
    # TensorRT has uint8 at the graph's border only: what reads the frames stays outside, and the mask's cast too.
    always = ancestors(graph, *_DECISION) | {i for i, node in enumerate(nodes) if "image" in node.input}
    border = nodes[producers(graph)["mask"]]
    later = [node for i, node in enumerate(nodes) if i not in always and node is not border]
    computed = {"mask_computed": border.input[0], "relevance_computed": "relevance_inside"}
    _rename(later, "relevance", "relevance_inside")
    # Both branches have their shape from one tensor: TensorRT-RTX 1.7 fails on two shapes that are equal by arithmetic.
    shaped = [
        helper.make_node("Reshape", [source, "gate_shape"], [name], name=name) for name, source in computed.items()
    ]
    then = helper.make_graph(
        [*later, *shaped],
        "computed",
        [],
        [_outcome(name) for name in computed],
        _own_initializers(graph, always, later),
    )
    empty = helper.make_graph(
        [_zeros(name) for name in ("mask_empty", "relevance_empty")],
        "empty",
        [],
        [_outcome(name) for name in ("mask_empty", "relevance_empty")],
    )
    border.input[0] = "mask_gated"
    del graph.node[:]
    graph.node.extend(node for i, node in enumerate(nodes) if i in always)
    graph.node.extend(_decision(graph, card))
    graph.node.append(
        helper.make_node("If", [_WANTED], ["mask_gated", "relevance"], name="gate", then_branch=then, else_branch=empty)
    )
    graph.node.append(border)
    return result


def ungate(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return the flat graph of a gated one; a flat one comes back unchanged."""
    result = onnx.ModelProto()
    result.CopyFrom(proto)
    graph = result.graph
    place = _place_of_gate(graph)
    if place is None:
        return proto
    then = _then_branch(graph.node[place])
    *later, mask, _ = then.node
    _rename(later, "relevance_inside", "relevance")
    kept = [node for node in graph.node if not node.output[0].startswith("gate_") and "mask_gated" not in node.output]
    border = kept.pop()
    border.input[0] = mask.input[0]
    del graph.node[:]
    graph.node.extend([*kept, *later, border])
    constants = [tensor for tensor in graph.initializer if not tensor.name.startswith("gate_")]
    del graph.initializer[:]
    graph.initializer.extend([*constants, *then.initializer])
    return result


def casts_before_branch(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return a gated graph that casts the classifier's activations before its branch and not inside it.

    TensorRT-RTX 1.7 fails on some large graphs otherwise ("bb.cpp: CHECK(op->parent() == this"). Calls without a defect
    make the casts too then, so this is for what does not build as it is. A flat graph comes back unchanged.
    """
    result = onnx.ModelProto()
    result.CopyFrom(proto)
    graph = result.graph
    place = _place_of_gate(graph)
    if place is None:
        return proto
    then = _then_branch(graph.node[place])
    before = {name for node in graph.node[:place] for name in node.output}
    casts = [node for node in then.node if node.op_type == "Cast" and node.input[0] in before]
    for cast in casts:
        graph.node.insert(place, cast)
        then.node.remove(cast)
    return result


def _place_of_gate(graph: onnx.GraphProto) -> int | None:
    """Return the index of the node that closes the gate; None in a flat graph."""
    return next((i for i, node in enumerate(graph.node) if node.op_type == "If" and node.input[0] == _WANTED), None)


def _then_branch(closed: onnx.NodeProto) -> onnx.GraphProto:
    branch: onnx.GraphProto = next(each.g for each in closed.attribute if each.name == "then_branch")
    return branch


def _rename(nodes: list[onnx.NodeProto], old: str, new: str) -> None:
    for node in nodes:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                if name == old:
                    names[i] = new


def _outcome(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", "H", "W"])


def _zeros(name: str) -> onnx.NodeProto:
    zero = helper.make_tensor("", TensorProto.FLOAT, [1], [0])
    return helper.make_node("ConstantOfShape", ["gate_shape"], [name], name=name, value=zero)


def _own_initializers(graph: onnx.GraphProto, always: set[int], later: list[onnx.NodeProto]) -> list[onnx.TensorProto]:
    """Take the constants that the branch alone reads out of the graph, and return them.

    Backends prepare weights (layout, packing) that they find next to the node; those of an outer graph they may not.
    """
    outside = {name for i in always for name in graph.node[i].input}
    inside = {name for node in later for name in node.input}
    own = [tensor for tensor in graph.initializer if tensor.name in inside - outside]
    kept = [tensor for tensor in graph.initializer if tensor.name not in inside - outside]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return own


def _decision(graph: onnx.GraphProto, card: ModelCard) -> list[onnx.NodeProto]:
    """Return the nodes that say whether any frame's label is a defect, bool [], and the shape of what is else zero."""
    defects = np.array([float(i in card.defect_indices) for i in range(len(card.classes))], np.float32)
    graph.initializer.append(numpy_helper.from_array(defects, "gate_defects"))
    graph.initializer.append(numpy_helper.from_array(np.array(0.5, np.float32), "gate_half"))
    return [
        helper.make_node("Gather", ["gate_defects", "label"], ["gate_each"], name="gate_each", axis=0),
        helper.make_node("ReduceMax", ["gate_each"], ["gate_any"], name="gate_any", keepdims=0),
        helper.make_node("Greater", ["gate_any", "gate_half"], [_WANTED], name=_WANTED),
        helper.make_node("Shape", ["image"], ["gate_shape"], name="gate_shape", start=0, end=3),
    ]
