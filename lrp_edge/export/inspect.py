"""What is in an exported file: tensors, card, operators, and the arithmetic of its two parts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

from lrp_edge.card import ModelCard
from lrp_edge.errors import LrpEdgeError, needs_extra
from lrp_edge.export.graph import ancestors
from lrp_edge.export.options import InspectOptions
from lrp_edge.export.passes.gate import ungate
from lrp_edge.export.read import load_proto, whole
from lrp_edge.options import accepted

with needs_extra("export"):
    import onnx
    from onnx import shape_inference

Shapes = dict[str, tuple[int, ...]]


@dataclass
class Part:
    """Operators and arithmetic of one part of a graph, for one frame.

    Attributes
    ----------
    operators : Counter
        How many nodes there are of each operator.
    macs : int
        Multiply-accumulates of convolutions and matrix products; one is two floating-point operations.
    elements : int
        Elements that all other operators write.
    """

    operators: Counter[str] = field(default_factory=Counter)
    macs: int = 0
    elements: int = 0


@dataclass
class Inspection:
    """What :func:`inspect` found.

    Attributes
    ----------
    card : ModelCard
        The card inside.
    tensors : list of (name, type, shape)
        Inputs, then outputs.
    forward, relevance : Part
        What leads to the scores, and all else.
    size : (height, width)
        Frames that the arithmetic was counted for.
    """

    card: ModelCard
    tensors: list[tuple[str, str, str]]
    forward: Part
    relevance: Part
    size: tuple[int, int]


def inspect(model: str | Path, size: tuple[int, int] | None = None) -> Inspection:
    """Count what a file computes for one frame.

    Parameters
    ----------
    model : path
        A file that ``lrp-edge export`` wrote.
    size : (height, width), optional
        Of the frame, for a model of dynamic size; by default 224x224.

    Raises
    ------
    LrpEdgeError
        If the file is not an ONNX file of this toolkit, or the model takes another size.
    """
    size = accepted(InspectOptions, size=size)["size"]
    proto, card = load_proto(Path(model))
    proto = ungate(proto)
    if size is not None and card.input.size not in (None, size):
        raise LrpEdgeError(f"{model} takes {card.input.size[0]}x{card.input.size[1]} only")
    chosen = size or card.input.size or (224, 224)
    with whole(Path(model)):
        tensors = [_describe(value) for value in (*proto.graph.input, *proto.graph.output)]
        forward, relevance = _parts(proto, (1, *chosen, card.input.channels))
    return Inspection(card, tensors, forward, relevance, chosen)


def _parts(proto: onnx.ModelProto, image: tuple[int, ...]) -> tuple[Part, Part]:
    """Count what classifier and relevance compute of an image [1, H, W, C]."""
    shapes, classifier = _shapes(proto, image), ancestors(proto.graph, "scores")
    forward, relevance = Part(), Part()
    for index, node in enumerate(proto.graph.node):
        part = forward if index in classifier else relevance
        part.operators[node.op_type] += 1
        macs = _macs(node, shapes)
        part.macs += macs
        if not macs:
            part.elements += sum(prod(shapes.get(name, ())) for name in node.output)
    return forward, relevance


def _describe(value: onnx.ValueInfoProto) -> tuple[str, str, str]:
    tensor = value.type.tensor_type
    axes = [axis.dim_param or str(axis.dim_value) for axis in tensor.shape.dim]
    return value.name, onnx.TensorProto.DataType.Name(tensor.elem_type).lower(), f"[{', '.join(axes)}]"


def _shapes(proto: onnx.ModelProto, image: tuple[int, ...]) -> Shapes:
    """Infer the shape of every tensor for an input of the given shape."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(proto)
    for axis, length in zip(fixed.graph.input[0].type.tensor_type.shape.dim, image, strict=True):
        axis.dim_value = length
    for output in fixed.graph.output:
        output.type.tensor_type.ClearField("shape")
    inferred = shape_inference.infer_shapes(fixed, data_prop=True)
    shapes = {
        value.name: tuple(axis.dim_value for axis in value.type.tensor_type.shape.dim)
        for value in (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output)
    }
    return shapes | {tensor.name: tuple(tensor.dims) for tensor in proto.graph.initializer}


def _macs(node: onnx.NodeProto, shapes: Shapes) -> int:
    """Return the multiply-accumulates of a convolution or matrix product, 0 for any other node."""
    if node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
        return 0
    first, second, output = (shapes.get(name, ()) for name in (node.input[0], node.input[1], node.output[0]))
    if node.op_type == "Conv":
        return prod(output) * prod(second[1:])
    if node.op_type == "ConvTranspose":
        return prod(first) * prod(second[1:])
    transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return prod(output) * first[0 if transposed else -1]
