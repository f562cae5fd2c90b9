"""Two passes over a flat graph that keep backends from computing something else, or from crashing.

What they avoid was seen in OpenVINO 2026.4.1, on the CPU, and in TensorRT-RTX 1.7.1. Neither changes what the graph
computes, and other backends lose nothing by them.
"""

from __future__ import annotations

from typing import Any

from lrp_edge.errors import needs_extra
from lrp_edge.export.graph import Editor
from lrp_edge.export.verify.typed_evaluator import Conv, ConvTranspose, Gemm, MatMul, MaxPool

with needs_extra("export"):
    import numpy as np
    import onnx
    from numpy.typing import NDArray
    from onnx import helper, shape_inference
    from onnx.reference import ReferenceEvaluator

_SIZES = frozenset({"Shape", "Size"})
#: What is not the same each time, and what is folded on purpose nowhere: int8 weights stay int8.
_KEPT = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli", "Dropout"}
    | {"QuantizeLinear", "DequantizeLinear"}
)


def fold_constants(proto: onnx.ModelProto, most: int = 1 << 22) -> onnx.ModelProto:
    """Compute what depends on no input, such as the elements in each window of a convolution, and store the results.

    OpenVINO does not fold a convolution of constants, but computes it once for all streams of a compiled model. With
    more than one stream (``NUM_STREAMS``, ``PERFORMANCE_HINT: THROUGHPUT``) others read it before it is there, and
    what is divided by it is wrong in some calls. TensorRT-RTX's builder crashes on convolutions of constants, such as
    those of the bounds of ZBox.

    Sizes of tensors count as constants where they are fixed. Values are computed in the types of the graph, by ONNX's
    reference evaluator. Tensors keep their names; nodes that make an output of the graph stay.

    Parameters
    ----------
    proto : onnx.ModelProto
        A flat graph; it is not modified.
    most : int
        Results of more elements are not stored.
    """
    before = -1
    while before != len(proto.graph.node):
        before = len(proto.graph.node)
        proto = _fold_once(proto, most)
    return proto


def _fold_once(proto: onnx.ModelProto, most: int) -> onnx.ModelProto:
    """Fold in one pass; what it stores may let ONNX infer more sizes."""
    editor, shapes = Editor(proto), _fixed_shapes(proto)
    outputs = {value.name for value in proto.graph.output}
    known: dict[str, NDArray[Any]] = {}
    for node in proto.graph.node:
        results = None
        if not outputs.intersection(node.output):
            for name in node.input:
                if name in editor.constants and name not in known and node.op_type not in _SIZES:
                    known[name] = editor.constant(name)
            results = _sizes(node, shapes) or _values(node, known, proto)
        if results is None or any(value.size > most for value in results.values()):
            editor.add(node)
            continue
        known |= results
        for name, value in results.items():
            editor.new_constant(name, value)
    return editor.finish()


def _fixed_shapes(proto: onnx.ModelProto) -> dict[str, list[int | None]]:
    """Return the shapes of all tensors whose sizes somebody asks for, None where an axis is free."""
    asked = {node.input[0] for node in proto.graph.node if node.op_type in _SIZES}
    if not asked:
        return {}
    inferred = shape_inference.infer_shapes(proto, data_prop=True).graph
    shapes: dict[str, list[int | None]] = {
        tensor.name: list(tensor.dims) for tensor in proto.graph.initializer if tensor.name in asked
    }
    for value in (*inferred.value_info, *inferred.input):
        if value.name in asked and value.type.tensor_type.HasField("shape"):
            axes = value.type.tensor_type.shape.dim
            shapes[value.name] = [axis.dim_value if axis.HasField("dim_value") else None for axis in axes]
    return shapes


def _sizes(node: onnx.NodeProto, shapes: dict[str, list[int | None]]) -> dict[str, NDArray[Any]] | None:
    """Return the result of a node that asks for sizes, if they are fixed."""
    if node.op_type not in _SIZES or node.input[0] not in shapes:
        return None
    attributes = {attribute.name: attribute.i for attribute in node.attribute}
    axes = shapes[node.input[0]][attributes.get("start", 0) : attributes.get("end")]
    if None in axes:
        return None
    sizes = np.array(axes, np.int64)
    return {node.output[0]: sizes if node.op_type == "Shape" else sizes.prod()}


def _values(
    node: onnx.NodeProto, known: dict[str, NDArray[Any]], proto: onnx.ModelProto
) -> dict[str, NDArray[Any]] | None:
    """Return the results of a node that reads constants only, None for any other and what the evaluator lacks."""
    inner = any(attribute.type == onnx.AttributeProto.GRAPH for attribute in node.attribute)
    read = [name for name in node.input if name]
    if node.domain or node.op_type in _KEPT | _SIZES or inner or not all(name in known for name in read):
        return None
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(known[name].dtype), known[name].shape)
        for name in dict.fromkeys(read)
    ]
    names = [name for name in node.output if name]
    graph = helper.make_graph([node], "node", inputs, [onnx.ValueInfoProto(name=name) for name in names])
    model = helper.make_model(graph, opset_imports=proto.opset_import, ir_version=proto.ir_version)
    try:
        evaluator = ReferenceEvaluator(model, new_ops=[Conv, ConvTranspose, Gemm, MatMul, MaxPool])
        results = evaluator.run(None, {name: known[name] for name in read})
    except NotImplementedError:
        return None
    return {name: np.asarray(value) for name, value in zip(names, results, strict=True)}


def separate_orientations(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Give square weights that are read both as they are and transposed a second initializer.

    Relevance goes back through the weights of the layer that it comes from: the same initializer is read by Gemm with
    ``transB`` and by MatMul, or by Conv and by ConvTranspose. OpenVINO keeps packed weights by their address and shape
    alone, and those of a square matrix have one shape either way, so that whoever comes second gets weights that were
    packed for the other. What it answers is then wrong without any error.

    Parameters
    ----------
    proto : onnx.ModelProto
        A flat graph; it is not modified.
    """
    editor = Editor(proto)
    first: dict[str, bool] = {}
    for node in proto.graph.node:
        added = editor.add(node)
        # OpenVINO merges a Transpose into the product that reads it.
        place = 0 if node.op_type == "Transpose" else 1
        if not _reads_square_weight(node, place, editor):
            continue
        weight, transposed = node.input[place], _transposes(node)
        if first.setdefault(weight, transposed) != transposed:
            again = onnx.TensorProto()
            again.CopyFrom(editor.constants[weight])
            again.name = added.input[place] = f"{weight}.again"
            editor.constants[again.name] = again
    return editor.finish()


def _reads_square_weight(node: onnx.NodeProto, place: int, editor: Editor) -> bool:
    """Say whether an input is a constant weight that has one shape in both orientations."""
    if node.op_type not in ("Gemm", "MatMul", "Conv", "ConvTranspose", "Transpose"):
        return False
    if node.input[place] not in editor.constants:
        return False
    dims = editor.constants[node.input[place]].dims
    groups = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
    return len(dims) > 1 and dims[0] == groups * dims[1] and dims[1] > 1


def _transposes(node: onnx.NodeProto) -> bool:
    return node.op_type in ("Conv", "Transpose") or any(
        attribute.name == "transB" and attribute.i for attribute in node.attribute
    )
