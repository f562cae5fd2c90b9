"""ONNX graphs: walked over and rewritten, and where their nodes stand in the model."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import Any

from lrp_edge.errors import needs_extra

with needs_extra("export"):
    import numpy as np
    import onnx
    from numpy.typing import NDArray
    from onnx import helper, numpy_helper, shape_inference

#: Keys of a node's metadata: the part of the graph that it belongs to, and the module of the user's.
PART, MODULE = "part", "module"
_SCOPES = "pkg.torch.onnx.name_scopes"
_PARTS = {"operations": "classifier", "steps": "relevance"}


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


def cut(proto: onnx.ModelProto, outputs: Mapping[str, int]) -> onnx.ModelProto:
    """Return what computes some tensors, each given with its element type, and no more."""
    needed = ancestors(proto.graph, *outputs)
    result = onnx.ModelProto()
    result.CopyFrom(proto)
    del result.graph.node[:], result.graph.initializer[:], result.graph.output[:]
    result.graph.node.extend(proto.graph.node[i] for i in sorted(needed))
    read = {name for node in result.graph.node for name in node.input}
    result.graph.initializer.extend(tensor for tensor in proto.graph.initializer if tensor.name in read)
    result.graph.output.extend(helper.make_tensor_value_info(name, kind, None) for name, kind in outputs.items())
    return result


def ranks_and_types(proto: onnx.ModelProto) -> tuple[dict[str, int], dict[str, int]]:
    """Return rank and element type of each tensor, as far as ONNX infers them."""
    inferred = shape_inference.infer_shapes(proto).graph
    ranks, types = {}, {}
    for value in (*inferred.value_info, *inferred.input, *inferred.output):
        tensor = value.type.tensor_type
        types[value.name] = tensor.elem_type
        if tensor.HasField("shape"):
            ranks[value.name] = len(tensor.shape.dim)
    for constant in proto.graph.initializer:
        types[constant.name], ranks[constant.name] = constant.data_type, len(constant.dims)
    return ranks, types


class Editor:
    """Rewrites a graph, node by node, in the order of computation.

    Parameters
    ----------
    proto : onnx.ModelProto
        The graph to start from; it is not modified.
    """

    def __init__(self, proto: onnx.ModelProto) -> None:
        self._proto = proto
        self.constants = {tensor.name: tensor for tensor in proto.graph.initializer}
        self._nodes: list[onnx.NodeProto] = []
        self._made: set[str] = set()

    def constant(self, name: str) -> NDArray[Any]:
        """Return the value of a constant."""
        return numpy_helper.to_array(self.constants[name])

    def new_constant(self, name: str, value: NDArray[Any] | np.generic) -> str:
        """Add a constant, or replace the one of that name; returns the name."""
        self.constants[name] = numpy_helper.from_array(np.asarray(value), name)
        return name

    def add(self, node: onnx.NodeProto) -> onnx.NodeProto:
        """Add a copy of a node, and return it to be changed."""
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        self._nodes.append(copy)
        return copy

    def make(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add a new node with one output; returns the output's name."""
        self._nodes.append(
            helper.make_node(operator, list(inputs), [output], name=f"{operator}_{output}", **attributes)
        )
        self._made.add(output)
        return output

    def make_once(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add a new node unless its output has been made."""
        return output if output in self._made else self.make(operator, inputs, output, **attributes)

    def finish(self) -> onnx.ModelProto:
        """Return the new graph, without constants that nothing reads."""
        result = onnx.ModelProto()
        result.CopyFrom(self._proto)
        del result.graph.node[:], result.graph.initializer[:]
        result.graph.node.extend(self._nodes)
        read = {name for node in self._nodes for name in node.input}
        result.graph.initializer.extend(tensor for name, tensor in self.constants.items() if name in read)
        return result


def name_places(graph: onnx.GraphProto, places: Mapping[str, str]) -> None:
    """Give each node its part and, where it has one, its place in the user's model; all other metadata goes.

    Parameters
    ----------
    graph : onnx.GraphProto
        What PyTorch's exporter made of a :class:`~lrp_edge.export.deployable.Deployable`.
    places : mapping
        Place of each node of the captured classifier, as in :class:`~lrp_edge.relevance.unroll.Unrolled`.
    """
    for node in graph.node:
        scopes = next((entry.value for entry in node.metadata_props if entry.key == _SCOPES), "[]")
        part, module = _place(ast.literal_eval(scopes), places)
        node.ClearField("metadata_props")
        helper.set_model_props(node, {PART: part, **({MODULE: module} if module else {})})


def _place(scopes: list[str], places: Mapping[str, str]) -> tuple[str, str]:
    for scope in scopes:
        level = scope.split(".")
        if level[0] == "unrolled" and len(level) > 2 and level[1] in _PARTS:
            return _PARTS[level[1]], places.get(level[2], "")
    parts = {"preprocess": "preprocessing", "head": "mask", "unrolled": "relevance"}
    return next((parts[scope] for scope in scopes if scope in parts), "contract"), ""


def describe(node: onnx.NodeProto) -> str:
    """Return what a node is to the user, e.g. ``"the relevance of module features.3"``; empty where it is not known."""
    known = {entry.key: entry.value for entry in node.metadata_props}
    place = f"module {known[MODULE]}" if MODULE in known else f"the {known[PART]}" if PART in known else ""
    return f"the {known[PART]} of {place}" if MODULE in known and known.get(PART) == "relevance" else place
