"""int8 by explicit Q/DQ pairs: ranges from real frames, and a measured choice of what stays in a wider type.

What TensorRT wants: int8, symmetric, one scale a tensor for activations and one a channel for weights, each pair
right in front of the product that it is for (Wu et al. 2020, "Integer Quantization for Deep Learning Inference", arXiv
2004.09602). Relevance has no fixed range: it is normalised to one sample by sample, so that its scale is always
1/127.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lrp_edge.errors import LrpEdgeError, needs_extra
from lrp_edge.export.graph import Editor, cut, describe, ranks_and_types
from lrp_edge.export.passes.precision import Products, find_products, scale_relevance
from lrp_edge.export.verify.parity import Frames, Parity, compare, run_frames

with needs_extra("cpu"):
    import numpy as np
    import onnxruntime
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, create_calibrator
with needs_extra("export"):
    import onnx

LEVELS = 127
_LEAST_SCALE = 1e-6
#: What the choice has to keep on the frames that it is made on; beyond what is promised, since other frames come.
IOU_KEPT = 0.96
#: Where no frame has a mask: by how much the relevance of any may differ (L2).
RELEVANCE_KEPT = 0.1


@dataclass(frozen=True)
class Quantised:
    """A graph with int8 products.

    Attributes
    ----------
    proto : onnx.ModelProto
        The graph.
    chosen, left : list of str
        Names of the products in int8, and of those that it would have degraded, worst last.
    """

    proto: onnx.ModelProto
    chosen: list[str]
    left: list[str]

    def summary(self) -> dict[str, Any]:
        """Return the entry for the model card: how many products are in int8, and which ones it would have degraded."""
        nodes = {node.name: node for node in self.proto.graph.node}
        return {"products": len(self.chosen), "left": [describe(nodes[name]) or name for name in self.left]}


def quantise(proto: onnx.ModelProto, frames: Frames) -> Quantised:
    """Put as many products into int8 as the masks of some frames tolerate.

    The products are ranked by what quantisation alone does to each one's result. Then the most of them are taken,
    found by bisection, with which labels stay the same and masks keep a mean IoU of :data:`IOU_KEPT`; without masks,
    relevance :data:`RELEVANCE_KEPT`.

    Parameters
    ----------
    proto : onnx.ModelProto
        A flat graph in float32, opset 21 or later.
    frames : sequence of uint8 arrays [H, W, C]
        Real frames, of which some should have defects.

    Raises
    ------
    LrpEdgeError
        If there are no frames.
    """
    if not len(frames):
        raise LrpEdgeError("int8 is calibrated on real frames, and there are none: give some with --frames DIR")
    products = find_products(proto.graph)
    names = _candidates(proto, products)
    ranges = _calibrate(proto, names, products, frames)
    order = sorted(names, key=_damage(proto, names, ranges, frames).__getitem__)
    reference = run_frames(_session(proto), frames)
    low, high = 0, len(order)
    while low < high:
        middle = (low + high + 1) // 2
        figures = compare(run_frames(_session(insert(proto, order[:middle], ranges)), frames), reference)
        low, high = (middle, high) if _bears(figures) else (low, middle - 1)
    return Quantised(insert(proto, order[:low], ranges), order[:low], order[low:])


def _bears(figures: Parity) -> bool:
    shape = figures.mask_iou_mean >= IOU_KEPT if figures.masks else figures.relevance_l2 <= RELEVANCE_KEPT
    return figures.label_agreement == 1 and shape


def insert(proto: onnx.ModelProto, names: Sequence[str], ranges: dict[str, float]) -> onnx.ModelProto:
    """Return the graph with Q/DQ pairs before the named products, whose relevance is normalised.

    Parameters
    ----------
    proto : onnx.ModelProto
        A flat graph in float32.
    names : sequence of str
        Names of nodes.
    ranges : dict
        Greatest absolute value of each activation that they read.
    """
    editor = Editor(proto)
    ranks = _ranks(proto)
    for node in proto.graph.node:
        if node.name in names:
            _product(editor, node, node.output[0], ranges, ranks)
        else:
            editor.add(node)
    return editor.finish()


def _ranks(proto: onnx.ModelProto) -> dict[str, int]:
    """Return the rank of the input of each product that carries relevance, by the node's name."""
    ranks, _ = ranks_and_types(proto)
    nodes = [proto.graph.node[i] for i in find_products(proto.graph).adjoints]
    return {node.name: ranks[node.input[0]] for node in nodes if node.input[0] in ranks}


def _product(
    editor: Editor, node: onnx.NodeProto, result: str, ranges: dict[str, float], ranks: dict[str, int]
) -> None:
    """Add a product behind Q/DQ pairs, under the name of its result."""
    source, undo = node.input[0], ""
    if node.name in ranks:
        source, undo = scale_relevance(editor, node, ranks[node.name], 1.0)
    data = _pair(editor, source, ranges.get(source, 1.0))
    weight = _weights(editor, node)
    product = editor.add(node)
    if result != node.output[0]:
        product.name = f"{result}_product"
    product.input[0], product.input[1] = data, weight
    product.output[0] = f"{result}_scaled" if undo else result
    if undo:
        editor.make("Mul", [product.output[0], undo], result)


def _pair(editor: Editor, name: str, greatest: float) -> str:
    scale = editor.new_constant(f"{name}_scale", _scale(np.float32(greatest)))
    zero = editor.new_constant("int8_zero", np.int8(0))
    editor.make_once("QuantizeLinear", [name, scale, zero], f"{name}_int8")
    return editor.make_once("DequantizeLinear", [f"{name}_int8", scale, zero], f"{name}_rounded")


def _scale(greatest: Any) -> Any:
    """Return the scale that brings a greatest value to the last level: one that float16 holds exactly, and not zero."""
    return np.maximum(greatest / LEVELS, _LEAST_SCALE).astype(np.float16).astype(np.float32)


def _weights(editor: Editor, node: onnx.NodeProto) -> str:
    """Quantise a product's weights by output channel, and return what dequantises them."""
    name, values = node.input[1], editor.constant(node.input[1])
    axis = _channel_axis(node, values.ndim)
    others = tuple(place for place in range(values.ndim) if place != axis)
    scale = _scale(np.abs(values).max(others))
    shape = [-1 if place == axis else 1 for place in range(values.ndim)]
    levels = np.clip(np.rint(values / scale.reshape(shape)), -LEVELS, LEVELS).astype(np.int8)
    by_axis = f"{name}_by_{axis}"
    constants = [
        editor.new_constant(f"{by_axis}_int8", levels),
        editor.new_constant(f"{by_axis}_scale", scale),
        editor.new_constant(f"{by_axis}_zero", np.zeros(len(scale), np.int8)),
    ]
    return editor.make_once("DequantizeLinear", constants, f"{by_axis}_rounded", axis=axis)


def _channel_axis(node: onnx.NodeProto, ndim: int) -> int:
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose":
        return 1
    return 0 if any(attribute.name == "transB" and attribute.i for attribute in node.attribute) else ndim - 1


def _candidates(proto: onnx.ModelProto, products: Products) -> list[str]:
    """Return the products that int8 may do: the classifier's and non-negative rules', but for the last layer's."""
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}

    def keeps_sign(index: int) -> bool:
        weight = onnx.numpy_helper.to_array(constants[proto.graph.node[index].input[1]])
        return bool((weight >= 0).all() or (weight <= 0).all())

    backward = [i for i in (*products.denominators, *products.adjoints) if keeps_sign(i)]
    nodes = [proto.graph.node[i] for i in (*products.forward, *backward) if i not in products.deciding]
    # TensorRT's transposed convolutions in int8 know few shapes.
    return [node.name for node in nodes if node.op_type != "ConvTranspose"]


def _calibrate(proto: onnx.ModelProto, names: Sequence[str], products: Products, frames: Frames) -> dict[str, float]:
    """Return the range of each activation that a product reads, by ONNX Runtime's calibrator.

    It is min/max. Cutting off rare values is good for classes, but here they are the defects.
    """
    reading = [*products.forward, *products.denominators]
    wanted = sorted({proto.graph.node[i].input[0] for i in reading if proto.graph.node[i].name in names})
    if not wanted:
        return {}
    with tempfile.TemporaryDirectory(prefix="lrp-edge-") as scratch:
        part = Path(scratch, "part.onnx")
        onnx.save(_marked(proto, wanted), part)
        calibrator = create_calibrator(
            part,
            ["Identity"],
            str(Path(scratch, "augmented.onnx")),
            CalibrationMethod.MinMax,
            extra_options={"symmetric": True},
        )
        with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
            for frame in frames:  # one at a time: it keeps all activations of what it is given
                calibrator.collect_data(_Reader([frame]))
            found = calibrator.compute_data().data
    return {name: float(np.abs(np.array(found[name].range_value, np.float64)).max()) for name in wanted}


def _marked(proto: onnx.ModelProto, wanted: Sequence[str]) -> onnx.ModelProto:
    """Cut the graph down to some tensors, each read by an Identity that the calibrator looks for."""
    part = cut(proto, dict.fromkeys(wanted, onnx.TensorProto.FLOAT))
    for output in part.graph.output:
        name = output.name
        output.name = f"{name}_marked"
        part.graph.node.append(onnx.helper.make_node("Identity", [name], [output.name], name=output.name))
    return part


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, frames: Frames) -> None:
        self._feeds: Iterator[dict[str, Any]] = iter([{"image": frame[None]} for frame in frames])

    def get_next(self) -> dict[str, Any] | None:
        return next(self._feeds, None)


def _damage(proto: onnx.ModelProto, names: Sequence[str], ranges: dict[str, float], frames: Frames) -> dict[str, float]:
    """Return the relative error, squared, that int8 alone makes in each product's result, all before it in float32."""
    editor, ranks = Editor(proto), _ranks(proto)
    tiny = editor.new_constant("damage_tiny", np.float32(1e-30))
    for node in proto.graph.node:
        editor.add(node)
        if node.name in names:
            name, result = f"{node.name}_damage", node.output[0]
            _product(editor, node, f"{name}_twin", ranges, ranks)
            editor.make("Sub", [f"{name}_twin", result], f"{name}_off")
            editor.make("ReduceSumSquare", [f"{name}_off"], f"{name}_off_squares", keepdims=0)
            editor.make("ReduceSumSquare", [result], f"{name}_squares", keepdims=0)
            editor.make("Max", [f"{name}_squares", tiny], f"{name}_squares_safe")
            editor.make("Div", [f"{name}_off_squares", f"{name}_squares_safe"], name)
    twins = editor.finish()
    outputs = [f"{name}_damage" for name in names]
    twins.graph.output.extend(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, []) for name in outputs)
    session = _session(twins)
    rows = [session.run(outputs, {"image": frame[None]}) for frame in frames]
    return dict(zip(names, np.mean(np.array(rows, np.float64), 0).tolist(), strict=True))


def _session(proto: onnx.ModelProto) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Without fusions Q/DQ pairs round and all else is float32; fused int8 kernels of some CPUs saturate.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    return onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
