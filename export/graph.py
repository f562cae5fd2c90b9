"""Walks over an ONNX graph that several passes share."""

from __future__ import annotations

from lrp_edge.errors import needs_extra

with needs_extra("export"):
    import onnx


def producers(graph: onnx.GraphProto) -> dict[str, int]:
    """Return for each tensor that a node makes the index of that node."""
    return {name: index for index, node in enumerate(graph.node) for name in node.output}


def ancestors(graph: onnx.GraphProto, *tensors: str) -> set[int]:
    """Return the indices of the nodes that some tensors depend on."""
    made_by, found, stack = producers(graph), set(), list(tensors)
    while stack:
        index = made_by.get(stack.pop())
        if index is not None and index not in found:
            found.add(index)
            stack.extend(graph.node[index].input)
    return found


def descendants(graph: onnx.GraphProto, *tensors: str) -> set[int]:
    """Return the indices of the nodes that depend on some tensors; nodes are in the order of computation."""
    reached, found = set(tensors), set()
    for index, node in enumerate(graph.node):
        if reached.intersection(node.input):
            found.add(index)
            reached.update(node.output)
    return found
