"""The numeric type of a graph's arithmetic, written into its types: float16, bfloat16, and the range of relevance.

TensorRT builds strongly typed networks, so the types in the file are those that the engine computes in. Convolutions
and matrix products, which are nearly all of the work, are in the half type, and so are activations on the way between
them. What is small or needs range stays in float32 and is fused by the compiler: preprocessing, the last layer, soft
maxima, the divisions of the relevance pass, mask head and scores.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from lrp_edge.errors import needs_extra
from lrp_edge.export.graph import Editor, ancestors, descendants, producers, ranks_and_types

with needs_extra("export"):
    import ml_dtypes
    import numpy as np
    import onnx
    from numpy.typing import NDArray
    from onnx import TensorProto, numpy_helper

#: Operators that do the work, with weights as their second input.
PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
#: What keeps every value as it is.
_MOVES = frozenset(
    {"Slice", "Concat", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Pad", "Split", "Expand"}
)
#: What neither leaves the range of its inputs by much nor adds up many of them.
_TAME = frozenset(
    {"Relu", "LeakyRelu", "PRelu", "Clip", "Elu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh"}
    | {"MaxPool", "AveragePool", "Max", "Min", "Add", "Sub", "Mul", "Neg", "Abs"}
)
_QUANTISING = frozenset({"QuantizeLinear", "DequantizeLinear"})
_TYPES = {
    "fp16": (TensorProto.FLOAT16, np.dtype(np.float16)),
    "bf16": (TensorProto.BFLOAT16, np.dtype(ml_dtypes.bfloat16)),
}
_LIMITS = {"fp16": 65504.0, "bf16": 3.3895e38}
#: Weights from which on a product is work; fewer have the kernels that count a window's elements or smooth.
_WORK = 64
_LARGEST = 2.0**15
_TINY = 1e-30


@dataclass(frozen=True)
class Products:
    """Where the work is: indices of convolutions and matrix products with constant weights.

    Attributes
    ----------
    forward : list of int
        Those of the classifier.
    denominators : list of int
        Those of the relevance pass that compute from activations.
    adjoints : list of int
        Those that carry relevance.
    deciding : list of int
        Those of all kinds that are of the last layer: few, of any scale, and what all else hangs on.
    """

    forward: list[int]
    denominators: list[int]
    adjoints: list[int]
    deciding: list[int]


def logits_of(graph: onnx.GraphProto) -> str:
    """Return the name of the tensor that the scores are computed from."""
    return next(str(node.input[0]) for node in graph.node if "scores" in node.output)


def find_products(graph: onnx.GraphProto) -> Products:
    """Find the convolutions and matrix products of a flat graph, by what they are for."""
    sizes = {tensor.name: math.prod(tensor.dims) for tensor in graph.initializer}
    # Weights in int8 are constants behind one node.
    quantised = [node for node in graph.node if node.op_type == "DequantizeLinear" and node.input[0] in sizes]
    sizes |= {node.output[0]: sizes[node.input[0]] for node in quantised}
    logits = logits_of(graph)
    classifier = ancestors(graph, logits)
    relevance = ancestors(graph, "relevance") - classifier
    carried = descendants(graph, logits)
    products = [
        i
        for i, node in enumerate(graph.node)
        if node.op_type in PRODUCTS and sizes.get(node.input[1], 0) >= _WORK and node.input[0] not in sizes
    ]
    forward = [i for i in products if i in classifier]
    denominators = [i for i in products if i in relevance - carried]
    adjoints = [i for i in products if i in relevance & carried]
    last = [i for i in forward if not descendants(graph, *graph.node[i].output) & set(forward)]
    read = {graph.node[i].input[0] for i in last}
    deciding = [
        *last,
        *(i for i in denominators if graph.node[i].input[0] in read),
        *(i for i in adjoints if not ancestors(graph, graph.node[i].input[0]) & set(adjoints)),
    ]
    return Products(forward, denominators, adjoints, deciding)


def normalise_relevance(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Bring what enters each product that carries relevance to the range of float16, sample by sample.

    Each sample's greatest value becomes a power of two from which no sum can leave the range. Products in int8 are left
    out: what enters them is normalised already.

    Parameters
    ----------
    proto : onnx.ModelProto
        A flat graph.
    """
    editor = Editor(proto)
    ranks, _ = ranks_and_types(proto)
    adjoints = set(find_products(proto.graph).adjoints)
    quantised = {name for node in proto.graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    for index, node in enumerate(proto.graph.node):
        if index not in adjoints or node.input[0] in quantised or node.input[0] not in ranks:
            editor.add(node)
            continue
        bound = _LARGEST / max(1.0, _gain(node, editor.constant(node.input[1])))
        scaled, undo = scale_relevance(editor, node, ranks[node.input[0]], 2.0 ** min(12, math.floor(math.log2(bound))))
        product, result = editor.add(node), node.output[0]
        product.input[0], product.output[0] = scaled, f"{result}_scaled"
        editor.make("Mul", [product.output[0], undo], result)
    return editor.finish()


def scale_relevance(editor: Editor, node: onnx.NodeProto, rank: int, target: float) -> tuple[str, str]:
    """Scale each sample of a product's input so that its greatest absolute value is `target`.

    Relevance is linear in what enters, so that any factor may be pulled through.

    Returns
    -------
    scaled, undo : str
        The tensor that the product is to read, and the factor, one a sample, of its result.
    """
    name, source = node.name, node.input[0]
    axes = editor.new_constant(f"{name}_axes", np.arange(1, rank, dtype=np.int64))
    tiny = editor.new_constant(f"{name}_tiny", np.float32(_TINY))
    goal = editor.new_constant(f"{name}_goal", np.float32(target))
    inverse = editor.new_constant(f"{name}_inverse", np.float32(1 / target))
    editor.make("Abs", [source], f"{name}_sizes")
    editor.make("ReduceMax", [f"{name}_sizes", axes], f"{name}_greatest", keepdims=1)
    size = editor.make("Max", [f"{name}_greatest", tiny], f"{name}_size")
    editor.make("Div", [goal, size], f"{name}_factor")
    undo = editor.make("Mul", [size, inverse], f"{name}_undo")
    return editor.make("Mul", [source, f"{name}_factor"], f"{name}_input"), undo


def _gain(node: onnx.NodeProto, weight: NDArray[np.float32]) -> float:
    """Return by how much a product may exceed its greatest input."""
    if node.op_type == "Conv":
        axes: tuple[int, ...] = tuple(range(1, weight.ndim))
    elif node.op_type == "ConvTranspose":
        axes = (0, *range(2, weight.ndim))
    else:
        transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
        axes = (1,) if transposed else (0,)
    return float(np.abs(weight).sum(axes).max())


def to_half(proto: onnx.ModelProto, precision: str) -> onnx.ModelProto:
    """Return a flat graph with its work in a half type; inputs and outputs keep theirs.

    Parameters
    ----------
    proto : onnx.ModelProto
        A flat graph.
    precision : {"fp16", "bf16"}
        The half type.
    """
    half_type, half = _TYPES[precision]
    if precision == "fp16":
        proto = normalise_relevance(proto)
    halves = _halves(proto, precision)
    _, types = ranks_and_types(proto)
    editor = Editor(proto)
    outputs = {output.name for output in proto.graph.output}
    narrow = {name for i in halves for name in proto.graph.node[i].output if types.get(name) == TensorProto.FLOAT}
    floors = _floors(proto)

    def narrowed(name: str) -> str:
        if name in editor.constants:
            limit = _LIMITS[precision]
            values = np.clip(editor.constant(name), -limit, limit).astype(half)
            return editor.new_constant(f"{name}_{precision}", values)
        if name not in narrow:
            editor.make_once("Cast", [name], f"{name}_{precision}", to=half_type)
        return f"{name}_{precision}"

    def widened(name: str) -> str:
        if name in narrow:
            _widen(editor, name, f"{name}_{precision}", floors.get(name))
        return name

    for index, node in enumerate(proto.graph.node):
        inside = index in halves
        names = [
            (narrowed if inside else widened)(name) if types.get(name) == TensorProto.FLOAT else name
            for name in node.input
        ]
        added = editor.add(node)
        del added.input[:]
        added.input.extend(names)
        for place, name in enumerate(node.output):
            if name in narrow:
                added.output[place] = f"{name}_{precision}"
                if name in outputs:
                    widened(name)
    return editor.finish()


def _widen(editor: Editor, name: str, source: str, floor: float | None) -> None:
    """Cast back to float32; where a denominator has a bound by its rule, rounding may not take it beyond."""
    if floor is None:
        editor.make_once("Cast", [source], name, to=TensorProto.FLOAT)
        return
    bound = editor.new_constant(f"{name}_bound", np.float32(floor))
    editor.make_once("Cast", [source], f"{name}_rounded", to=TensorProto.FLOAT)
    editor.make_once("Max" if floor > 0 else "Min", [f"{name}_rounded", bound], name)


def _floors(proto: onnx.ModelProto) -> dict[str, float]:
    """Return bounds of denominators: z⁺ and its mirror image are never closer to zero than their least bias."""
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    # The sign of weights in int8 is that of their levels.
    levels = {node.output[0]: node.input[0] for node in proto.graph.node if node.op_type == "DequantizeLinear"}
    found = {}
    for index in find_products(proto.graph).denominators:
        node = proto.graph.node[index]
        if len(node.input) < 3 or node.input[2] not in constants:
            continue
        weight = numpy_helper.to_array(constants[levels.get(node.input[1], node.input[1])])
        bias = numpy_helper.to_array(constants[node.input[2]])
        if (weight >= 0).all() and (bias > 0).all():
            found[node.output[0]] = float(bias.min())
        elif (weight <= 0).all() and (bias < 0).all():
            found[node.output[0]] = float(bias.max())
    return found


def _halves(proto: onnx.ModelProto, precision: str) -> set[int]:
    """Return the indices of the nodes that compute in the half type."""
    graph = proto.graph
    _, types = ranks_and_types(proto)
    products = find_products(graph)
    classifier = ancestors(graph, logits_of(graph))
    carried = descendants(graph, logits_of(graph))
    needed = ancestors(graph, "relevance")
    constants = {tensor.name for tensor in graph.initializer}
    work = {*products.forward, *products.denominators, *products.adjoints} - {*products.deciding}
    if precision == "bf16":  # TensorRT has no transposed convolution in bfloat16
        work = {i for i in work if graph.node[i].op_type != "ConvTranspose"}
    work |= _pairs(graph, work)
    found: set[int] = set()
    narrow: set[str] = set()
    for index, node in enumerate(graph.node):
        floats = [name for name in node.input if types.get(name) == TensorProto.FLOAT and name not in constants]
        follows = bool(floats) and narrow.issuperset(floats)
        if index in classifier:
            joins = follows and node.op_type in _MOVES | _TAME and index not in products.deciding
        else:
            joins = follows and node.op_type in _MOVES | {"Equal", "Max"} and index in needed - carried
        if index in work or joins:
            found.add(index)
            narrow.update(name for name in node.output if types.get(name) == TensorProto.FLOAT)
    return found


def _pairs(graph: onnx.GraphProto, work: set[int]) -> set[int]:
    """Return the Q/DQ nodes right before some products; these must be of the products' type, with no cast between."""
    made_by, found = producers(graph), set()
    for index in work:
        for name in graph.node[index].input:
            while (before := made_by.get(name)) is not None and graph.node[before].op_type in _QUANTISING:
                found.add(before)
                name = graph.node[before].input[0]
    return found
