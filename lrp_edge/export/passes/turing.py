"""Graphs for Turing (sm75), for which TensorRT-RTX compiles no product of matrices in float32.

It says so ahead of time ("FP32 GEMM is not supported"), but compiles convolutions in float32, and products in float16.
So layers become 1x1 convolutions, counts are taken in float16 where that is exact, and the small rest is multiplied and
summed element by element. Products in float16 stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lrp_edge.errors import needs_extra
from lrp_edge.export.graph import ranks_and_types

with needs_extra("rtx"):
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

#: Up to here float16 holds each whole number.
EXACT = 2048
_MOVES = frozenset({"Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity"})
#: What is larger is a weight: its shape matters to the inference of shapes, its values do not.
_WEIGHT = 1024


def without_gemm(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph with no Gemm or MatMul in float32, inside the branches of an `If` too.

    Constant weights and data of two axes become a 1x1 convolution. A product of zeros and ones (the histogram of the
    mask head) is counted in float16, :data:`EXACT` places at a time, and summed in float32: exactly. Anything else,
    such as the matrices of adaptive pooling, becomes a Mul and a ReduceSum.

    Parameters
    ----------
    proto : onnx.ModelProto
        A graph of the contract, opset 15 or later. It is not modified.
    """
    result = onnx.ModelProto()
    result.CopyFrom(proto)
    facts = _Facts.of(proto)
    for graph in _graphs(result.graph):
        writer = _Writer(facts)
        for node in graph.node:
            writer.write(node)
        del graph.node[:]
        graph.node.extend(writer.nodes)
        graph.initializer.extend(writer.constants)
    return result


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Yield all graphs, those inside of others before them."""
    for node in graph.node:
        for inner in _branches(node):
            yield from _graphs(inner)
    yield graph


def _branches(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    return [attribute.g for attribute in node.attribute if attribute.type == onnx.AttributeProto.GRAPH]


@dataclass(frozen=True)
class _Facts:
    """What is known of tensors by their names, which are unique over all branches.

    Attributes
    ----------
    ranks, types : dict
        Number of axes, and element type.
    constant : set of str
        What depends on no input of the graph.
    binary : set of str
        What has no values but zero and one.
    """

    ranks: dict[str, int]
    types: dict[str, int]
    constant: set[str]
    binary: set[str]

    @classmethod
    def of(cls, proto: onnx.ModelProto) -> _Facts:
        flat = _flat(proto)
        ranks, types = ranks_and_types(flat)
        given = {value.name for value in proto.graph.input}
        constant = {value.name for value in (*flat.graph.initializer, *flat.graph.input)} - given
        binary: set[str] = set()
        for node in flat.graph.node:
            if all(name in constant for name in node.input):
                constant.update(node.output)
            source = node.input[0] if node.input else ""
            made = node.op_type == "Cast" and types.get(source) == TensorProto.BOOL
            if made or (node.op_type in _MOVES and source in binary):
                binary.update(node.output)
        return cls(ranks, types, constant, binary)


def _flat(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph with branches in the place of each `If`, without weights: ONNX infers no shapes in branches."""
    graph = helper.make_graph([], "flat", list(proto.graph.input), list(proto.graph.output))
    _flatten(proto.graph, graph)
    return helper.make_model(graph, opset_imports=proto.opset_import, ir_version=proto.ir_version)


def _flatten(graph: onnx.GraphProto, flat: onnx.GraphProto) -> None:
    for tensor in graph.initializer:
        if np.prod(tensor.dims) > _WEIGHT:
            flat.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
        else:
            flat.initializer.append(tensor)
    for node in graph.node:
        branches = _branches(node)
        for inner in branches:
            _flatten(inner, flat)
        if not branches:
            flat.node.append(node)
        for result, name in zip(branches[0].output if branches else (), node.output, strict=False):
            flat.node.append(helper.make_node("Identity", [result.name], [name]))


class _Writer:
    """Rewrites one graph.

    Parameters
    ----------
    facts : _Facts
        Of the whole model.
    """

    def __init__(self, facts: _Facts) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._facts = facts
        self._origin = onnx.NodeProto()

    def write(self, node: onnx.NodeProto) -> None:
        """Add a node, or what computes the same without a product of matrices in float32."""
        if node.op_type not in ("Gemm", "MatMul") or self._facts.types.get(node.output[0]) != TensorProto.FLOAT:
            self.nodes.append(node)
            return
        self._origin = node
        if node.op_type == "Gemm":
            self._gemm({attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute})
        else:
            ranks = [self._facts.ranks.get(name, 0) for name in node.input]
            self._product(node.input[0], node.input[1], node.output[0], ranks)

    def _gemm(self, attributes: dict[str, Any]) -> None:
        left, right, *bias = filter(None, self._origin.input)
        result, transposed = self._origin.output[0], bool(attributes.get("transB"))
        if attributes.get("transA"):
            left = self._add("Transpose", [left], "left", perm=[1, 0])
        if attributes.get("alpha", 1.0) != 1:
            left = self._add("Mul", [left, self._constant("alpha", np.float32(attributes["alpha"]))], "left_scaled")
        if not bias:
            self._product(left, right, result, [2, 2], transposed)
            return
        if attributes.get("beta", 1.0) != 1:
            bias = [self._add("Mul", [bias[0], self._constant("beta", np.float32(attributes["beta"]))], "bias")]
        product = self._product(left, right, "product", [2, 2], transposed)
        self._add("Add", [product, bias[0]], result)

    def _product(self, left: str, right: str, result: str, ranks: list[int], transposed: bool = False) -> str:
        """Multiply by a matrix, or by its transpose."""
        if ranks == [2, 2] and right in self._facts.constant:
            return self._layer(left, right, result, transposed)
        if transposed:
            right = self._add("Transpose", [right], "right", perm=[1, 0])
        if ranks == [3, 3] and self._facts.binary.issuperset((left, right)):
            return self._count(left, right, result)
        return self._sum_of_products(left, right, result, ranks)

    def _layer(self, data: str, weight: str, result: str, transposed: bool) -> str:
        axes = self._constant("axes", np.array([2, 3]))
        if not transposed:
            weight = self._add("Transpose", [weight], "weight", perm=[1, 0])
        kernel = self._add("Unsqueeze", [weight, axes], "kernel")
        pixel = self._add("Unsqueeze", [data, axes], "pixel")
        return self._add("Squeeze", [self._add("Conv", [pixel, kernel], "conv"), axes], result)

    def _count(self, left: str, right: str, result: str) -> str:
        """Multiply [N, M, P] and [N, P, K], of zeros and ones, in pieces of P whose sums float16 holds."""
        piece = self._constant("piece", np.array([EXACT]))
        length = self._add("Shape", [left], "length", start=2, end=3)
        raised = self._add("Add", [length, self._constant("most", np.array([EXACT - 1]))], "raised")
        pieces = self._add("Div", [raised, piece], "pieces")
        missing = self._add("Sub", [self._add("Mul", [pieces, piece], "whole"), length], "missing")
        pads = self._add("Concat", [self._constant("none", np.zeros(5, np.int64)), missing], "pads", axis=0)
        zero, shape = self._constant("zero", np.float16(0)), self._constant("shape", np.array([0, 0, -1, EXACT]))
        right = self._add("Transpose", [right], "right", perm=[0, 2, 1])
        sides = []
        for side, name, order in (("rows", left, [0, 2, 1, 3]), ("columns", right, [0, 2, 3, 1])):
            half = self._add("Cast", [name], f"{side}_half", to=TensorProto.FLOAT16)
            padded = self._add("Pad", [half, pads, zero], f"{side}_padded")
            cut = self._add("Reshape", [padded, shape], f"{side}_cut")
            sides.append(self._add("Transpose", [cut], side, perm=order))
        counts = self._add("Cast", [self._add("MatMul", sides, "counts_half")], "counts", to=TensorProto.FLOAT)
        return self._add("ReduceSum", [counts, self._constant("axis", np.array([1]))], result, keepdims=0)

    def _sum_of_products(self, left: str, right: str, result: str, ranks: Sequence[int]) -> str:
        axis = -1 if ranks[1] == 1 else -2
        if ranks[1] != 1:
            left = self._add("Unsqueeze", [left, self._constant("last", np.array([-1]))], "left_wide")
        if 1 not in ranks:
            right = self._add("Unsqueeze", [right, self._constant("third", np.array([-3]))], "right_wide")
        products = self._add("Mul", [left, right], "products")
        return self._add("ReduceSum", [products, self._constant("axis", np.array([axis]))], result, keepdims=0)

    @property
    def _prefix(self) -> str:
        return f"{self._origin.output[0]}/"

    def _constant(self, name: str, value: Any) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value), self._prefix + name))
        return self.constants[-1].name

    def _add(self, operator: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """Add a node that comes from where the one that it replaces came from; the last one has its name."""
        last = name == self._origin.output[0]
        output = name if last else self._prefix + name
        own = self._origin.name if last else f"{self._origin.name}/{name}"
        node = helper.make_node(operator, list(inputs), [output], name=own, **attributes)
        node.metadata_props.extend(self._origin.metadata_props)
        self.nodes.append(node)
        return output
