"""Guards against what OpenVINO computes wrongly, shown on the smallest graphs and on an export."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from lrp_edge.card import InputSpec, ModelCard
from lrp_edge.export import to_onnx
from lrp_edge.export.passes.constants import fold_constants, separate_orientations
from lrp_edge.export.read import load_proto
from lrp_edge.export.verify.parity import random_frames
from tests.support.engine_graphs import node

CLASSES = ("ok", "dent", "scratch")
TWO_STREAMS = {"NUM_STREAMS": 2}


def graph_of(
    nodes: list[onnx.NodeProto], inputs: dict[str, Any], outputs: list[str], constants: dict[str, Any]
) -> onnx.ModelProto:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()]
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", values, results, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def draw(seed: int, *shape: int) -> Any:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def operators(proto: onnx.ModelProto) -> list[str]:
    return [made.op_type for made in proto.graph.node]


def reference(proto: onnx.ModelProto, feeds: dict[str, Any]) -> list[Any]:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, feeds))


def deviation(proto: onnx.ModelProto, feeds: dict[str, Any], config: dict[str, Any], times: int = 1) -> float:
    """Return by how much OpenVINO is off at most, as a share of the greatest value, over some compilations."""
    pytest.importorskip("openvino")
    from lrp_edge.runtime.engines.openvino import CORE

    # Left to itself, OpenVINO computes in bfloat16 where the CPU has it.
    config = {"INFERENCE_PRECISION_HINT": "f32"} | config
    expected, found = reference(proto, feeds), []
    for _ in range(times):
        results = CORE.compile_model(CORE.read_model(proto.SerializeToString()), "CPU", config)(feeds)
        for place, values in enumerate(expected):
            difference = np.abs(results[place].astype(np.float64) - values).max()
            found.append(difference / max(np.abs(values).max(), 1e-9))
    return float(np.max(found))


def layers(operator: str = "Gemm", sides: tuple[int, int] = (16, 16)) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """Read a weight as a layer does, by Gemm or behind a Transpose, and as its relevance does."""
    forward = [node("Gemm", ["x", "w"], "y", transB=1)]
    if operator == "Transpose":
        forward = [node("Transpose", ["w"], "turned", perm=[1, 0]), node("MatMul", ["x", "turned"], "y")]
    outputs, inputs = sides
    proto = graph_of(
        [*forward, node("MatMul", ["s", "w"], "z")],
        {"x": ["N", inputs], "s": ["N", outputs]},
        ["y", "z"],
        {"w": draw(0, *sides)},
    )
    return proto, {"x": draw(1, 1, inputs), "s": draw(2, 1, outputs)}


def convolutions(groups: int = 1, side: int = 2, step: int = 2) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """Read a weight by a convolution and by its adjoint."""
    notes = {"strides": [step, step], "pads": [(side - 1) // 2] * 4, "group": groups}
    small = 12 // step
    proto = graph_of(
        [node("Conv", ["x", "w"], "y", **notes), node("ConvTranspose", ["s", "w"], "z", **notes)],
        {"x": ["N", 16, 12, 12], "s": ["N", 16, small, small]},
        ["y", "z"],
        {"w": draw(0, 16, 16 // groups, side, side)},
    )
    return proto, {"x": draw(1, 1, 16, 12, 12), "s": draw(2, 1, 16, small, small)}


@pytest.mark.parametrize("config", [{}, TWO_STREAMS])
@pytest.mark.parametrize(
    "pattern",
    [layers, lambda: layers("Transpose"), convolutions, lambda: convolutions(4, 3, 1)],
    ids=["Gemm", "Transpose", "Conv", "groups"],
)
def test_square_weights_in_two_orientations(pattern: Callable[[], Any], config: dict[str, Any]) -> None:
    proto, feeds = pattern()
    guarded = separate_orientations(proto)
    assert [tensor.name for tensor in guarded.graph.initializer] == ["w", "w.again"]
    assert guarded.graph.node[-1].input[1] == "w.again"
    assert deviation(guarded, feeds, config, 3) < 1e-5
    if deviation(proto, feeds, config) < 1e-5:
        pytest.skip("this OpenVINO needs no guard")


@pytest.mark.parametrize("pattern", [lambda: layers(sides=(16, 8)), lambda: convolutions(16)], ids=["layer", "groups"])
def test_weights_of_other_shapes_are_left_alone(pattern: Callable[[], Any]) -> None:
    proto, _ = pattern()
    assert separate_orientations(proto) == proto


def test_one_orientation_needs_no_second_weight() -> None:
    nodes = [node("Gemm", ["x", "w"], "y", transB=1), node("Gemm", ["y", "w"], "z", transB=1)]
    proto = graph_of(nodes, {"x": ["N", 4]}, ["z"], {"w": draw(0, 4, 4)})
    assert separate_orientations(proto) == proto


def window_counts() -> onnx.ModelProto:
    """Divide by a convolution of ones, as rules without weights and averages over a border do."""
    return graph_of(
        [
            node("Conv", ["ones", "window"], "counts", strides=[2, 2], pads=[3, 3, 3, 3]),
            node("Mul", ["counts", "three"], "tripled"),
            node("Add", ["tripled", "tiny"], "safe"),
            node("Div", ["x", "safe"], "y"),
        ],
        {"x": ["N", 1, 8, 8]},
        ["y"],
        {
            "ones": np.ones((1, 1, 16, 16), np.float32),
            "window": np.ones((1, 1, 7, 7), np.float32),
            "three": np.float32(3),
            "tiny": np.float32(1e-6),
        },
    )


def test_a_convolution_of_constants() -> None:
    proto, feeds = window_counts(), {"x": draw(0, 1, 1, 8, 8)}
    folded = fold_constants(proto)
    assert operators(folded) == ["Div"]
    assert [tensor.name for tensor in folded.graph.initializer] == ["safe"]
    assert np.array_equal(reference(folded, feeds)[0], reference(proto, feeds)[0])
    for config in ({}, TWO_STREAMS):
        assert deviation(folded, feeds, config, 10) < 1e-5
    if deviation(proto, feeds, TWO_STREAMS, 30) < 1e-5:
        pytest.skip("this OpenVINO needs no guard, or was lucky")


def test_bounds_of_a_box_build(tmp_path: Path) -> None:
    """TensorRT-RTX 1.7.1 crashes, and with it the process, if convolutions of constants are left."""
    pytest.importorskip("tensorrt_rtx")
    from lrp_edge.export import to_engine

    network = nn.Sequential(
        *(nn.Conv2d(3, 16, 7, 2, padding=3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 3))
    )
    card = ModelCard(CLASSES, CLASSES[1:], InputSpec(size=(64, 64)), composite="EpsilonGammaBox")
    path = to_onnx(network.eval(), tmp_path, card=card)
    proto = fold_constants(load_proto(path)[0])
    constants: set[str] = {tensor.name for tensor in proto.graph.initializer}
    assert not any(constants.issuperset(made.input) for made in proto.graph.node)
    onnx.save(proto, path)
    assert to_engine(path, gpus=["sm86"], cache=False).is_file()


def test_what_is_too_large_stays_and_what_reads_it() -> None:
    assert operators(fold_constants(window_counts(), most=63)) == ["Conv", "Mul", "Add", "Div"]
    assert operators(fold_constants(window_counts(), most=64)) == ["Div"]


@pytest.mark.parametrize(("height", "left"), [(6, ["Reshape"]), ("H", ["Shape", "Concat", "Reshape"])])
def test_fixed_sizes_are_constants(height: int | str, left: list[str]) -> None:
    """The second reshape's size is known once the first one is folded."""
    nodes = [
        node("Shape", ["x"], "rows", start=1, end=2),
        node("Concat", ["rest", "rows"], "shape", axis=0),
        node("Reshape", ["x", "shape"], "flat"),
        node("Shape", ["flat"], "flat_shape"),
        node("Size", ["w"], "count"),
        node("Cast", ["flat_shape"], "sizes", to=TensorProto.FLOAT),
        node("Cast", ["count"], "factor", to=TensorProto.FLOAT),
        node("Mul", ["sizes", "factor"], "last"),
        node("ReduceMax", ["flat"], "greatest", keepdims=0),
        node("Add", ["greatest", "last"], "y"),
    ]
    constants = {"rest": np.array([4, -1]) if height == 6 else np.array([-1]), "w": draw(0, 3)}
    proto = graph_of(nodes, {"x": [4, height]}, ["y"], constants)
    feeds = {"x": draw(0, 4, 6)}
    folded = fold_constants(proto)
    assert np.array_equal(reference(folded, feeds)[0], reference(proto, feeds)[0])
    assert operators(folded)[: len(left)] == left
    assert "Size" not in operators(folded)
    assert "Shape" in operators(folded) if height == "H" else "Mul" not in operators(folded)


def test_what_is_never_folded() -> None:
    nodes = [
        node("RandomUniform", [], "noise", shape=[2]),
        node("DequantizeLinear", ["levels", "scale"], "weight"),
        node("Neg", ["constant"], "z"),
        node("Acme", ["constant"], "other", domain="acme"),
        node("Exp", ["constant"], "power"),
        helper.make_node("Clip", ["power", "", "constant"], ["limited"]),
        node("Sum", ["x", "noise", "weight", "limited"], "y"),
    ]
    constants = {"levels": np.array([1, 2], np.int8), "scale": np.float32(0.5), "constant": np.float32(2)}
    proto = graph_of(nodes, {"x": [2]}, ["y", "z"], constants)
    proto.opset_import.append(helper.make_opsetid("acme", 1))
    folded = fold_constants(proto)
    assert operators(folded) == ["RandomUniform", "DequantizeLinear", "Neg", "Acme", "Sum"]
    assert {tensor.name for tensor in folded.graph.initializer} == {"levels", "scale", "constant", "limited"}


@pytest.mark.parametrize("kind", [np.float16, ml_dtypes.bfloat16])
def test_values_are_of_the_types_of_the_graph(kind: Any) -> None:
    """A third of a count is rounded as the graph would round it, and in float32 not at all."""
    nodes = [
        node("Conv", ["ones", "window"], "counts"),
        node("Div", ["counts", "three"], "share"),
        node("Cast", ["share"], "wide", to=TensorProto.FLOAT),
        node("Mul", ["x", "wide"], "y"),
    ]
    constants = {
        "ones": np.ones((1, 1, 4, 4), kind),
        "window": np.ones((1, 1, 2, 2), kind),
        "three": np.asarray(3, kind),
    }
    proto = graph_of(nodes, {"x": ["N", 1, 3, 3]}, ["y"], constants)
    proto.opset_import[0].version = 22
    folded = fold_constants(proto)
    assert operators(folded) == ["Mul"]
    value = numpy_helper.to_array(folded.graph.initializer[0])
    assert value.dtype == np.float32
    assert np.array_equal(value, np.full((1, 1, 3, 3), np.asarray(4 / 3, kind).astype(np.float32)))


def square_cnn() -> nn.Module:
    """Return a stride-2 convolution and hidden layers, all with square weights."""
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 16, 7, 2, padding=3), nn.ReLU(), nn.Conv2d(16, 16, 2, stride=2), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU()),
        *(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, len(CLASSES))),
    ).eval()


@pytest.mark.parametrize("size", [(96, 128), None])
def test_an_export_answers_the_same_with_openvino(size: tuple[int, int] | None, tmp_path: Path) -> None:
    card = ModelCard(CLASSES, CLASSES[1:], InputSpec(size=size, max_batch=4), composite="EpsilonPlusFlat")
    proto, _ = load_proto(to_onnx(square_cnn(), tmp_path, card=card))
    guarded = separate_orientations(fold_constants(proto))
    onnx.checker.check_model(guarded, full_check=True)
    feeds = {"image": np.stack(random_frames((96, 128), 3, 2))}
    for got, expected in zip(reference(guarded, feeds), reference(proto, feeds), strict=True):
        assert np.abs(got.astype(np.float64) - expected).max() <= 1e-6 * max(np.abs(expected).max(), 1e-9)
    for config in ({}, TWO_STREAMS):
        assert deviation(guarded, feeds, config, 4) < 1e-4
