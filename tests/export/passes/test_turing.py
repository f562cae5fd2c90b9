"""What TensorRT-RTX needs for Turing: the same answers without products of matrices in float32, built for real."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from lrp_edge.card import METADATA_KEY, InputSpec, ModelCard
from lrp_edge.errors import LrpEdgeError
from lrp_edge.export import to_engine
from lrp_edge.export.passes.gate import gate
from lrp_edge.export.passes.precision import to_half
from lrp_edge.export.passes.turing import EXACT, without_gemm
from lrp_edge.export.read import load_proto
from lrp_edge.export.verify.parity import random_frames
from lrp_edge.export.verify.typed_evaluator import open_reference
from tests.support.engine_graphs import contract_graph, node, noted, save, small_card
from tests.support.exported import export_once

CLASSES = ("ok", "dent", "scratch")
SIZE = (32, 48)
SHAPES = {"smallest": (32, 32), "usual": (48, 64), "largest": (64, 96)}


def graph_of(nodes: list[onnx.NodeProto], feeds: dict[str, Any], constants: dict[str, Any]) -> onnx.ModelProto:
    """Return a model that computes ``y``; all axes of its inputs are free."""
    inputs = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(x.dtype), [f"{name}{i}" for i in range(x.ndim)]
        )
        for name, x in feeds.items()
    ]
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "g", inputs, outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def run(proto: onnx.ModelProto, feeds: dict[str, Any]) -> list[Any]:
    """Run node by node: ONNX Runtime 1.32 breaks Q/DQ pairs in int8 when it moves them behind an Unsqueeze."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, feeds))


def nodes_of(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for made in graph.node:
        yield made
        for attribute in made.attribute:
            yield from nodes_of(attribute.g)


def operators(proto: onnx.ModelProto) -> list[str]:
    return [made.op_type for made in nodes_of(proto.graph)]


def check(proto: onnx.ModelProto, feeds: dict[str, Any], bound: Any = 1.0) -> onnx.ModelProto:
    """Compare both graphs to 1e-6 of what the sum could be."""
    changed = without_gemm(proto)
    assert not {"Gemm", "MatMul"} & set(operators(changed))
    (expected,), (got,) = run(proto, feeds), run(changed, feeds)
    assert got.shape == expected.shape
    assert np.abs(got - expected).max(initial=0) <= 1e-6 * np.max(bound)
    return changed


def draw(seed: int, *shape: int) -> Any:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


SIDES = st.integers(1, 40)


@settings(max_examples=60, deadline=None)
@given(
    batch=st.sampled_from([((), ()), ((3,), ()), ((), (3,)), ((2, 3), (2, 3)), ((2, 1), (3,)), ((2, 3), (1, 3))]),
    sides=st.tuples(SIDES, SIDES, SIDES),
    constant=st.sampled_from(["", "a", "b"]),
    vector=st.sampled_from(["", "a", "b"]),
)
def test_any_product_is_the_same(batch: Any, sides: Any, constant: str, vector: str) -> None:
    rows, inner, columns = sides
    tensors = {"a": draw(0, *batch[0], rows, inner), "b": draw(1, *batch[1], inner, columns)}
    if vector:
        tensors[vector] = draw(2, inner)
    constants = {name: tensors.pop(name) for name in tensors.copy() if name == constant}
    both = tensors | constants
    bound = np.abs(both["a"]) @ np.abs(both["b"])
    check(graph_of([node("MatMul", ["a", "b"], "y")], tensors, constants), tensors, bound)


@settings(max_examples=60, deadline=None)
@given(
    sides=st.tuples(SIDES, SIDES, SIDES),
    bias=st.sampled_from(["none", "columns", "rows", "one", "data"]),
    flags=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    factors=st.sampled_from([{}, {"alpha": 0.5}, {"beta": 2.0}, {"alpha": -1.5, "beta": 0.25}]),
)
def test_any_layer_is_the_same(sides: Any, bias: str, flags: Any, factors: Any) -> None:
    rows, inner, columns = sides
    left, right, constant = flags
    feeds = {"a": draw(0, *((inner, rows) if left else (rows, inner)))}
    weights = {"w": draw(1, *((columns, inner) if right else (inner, columns)))}
    shape = {"columns": (columns,), "rows": (rows, 1), "one": (1,), "data": (rows, columns)}.get(bias)
    biases = {"c": draw(2, *shape)} if shape else {}
    (feeds if bias == "data" else weights).update(biases)
    layer = node("Gemm", ["a", "w", *biases], "y", transA=int(left), transB=int(right), **factors)
    if not constant:
        feeds["w"] = weights.pop("w")
    bound = 2 * (inner * 16 + 2 * 4)
    changed = check(graph_of([layer], feeds, weights), feeds, bound)
    assert ("Conv" in operators(changed)) == constant


@pytest.mark.parametrize("operator", ["Gemm", "MatMul"])
@pytest.mark.parametrize("axis", [0, 1])
def test_weights_in_int8(operator: str, axis: int) -> None:
    levels = np.random.default_rng(0).integers(-127, 128, (6, 9)).astype(np.int8)
    transposed = operator == "Gemm"
    scale = np.linspace(0.01, 0.02, levels.shape[axis], dtype=np.float32)
    constants = {
        "levels": levels,
        "scale": scale,
        "zero": np.zeros(len(scale), np.int8),
        "step": np.float32(0.05),
        "zero_step": np.int8(0),
    }
    nodes = [
        node("QuantizeLinear", ["a", "step", "zero_step"], "a8"),
        node("DequantizeLinear", ["a8", "step", "zero_step"], "a_rounded"),
        node("DequantizeLinear", ["levels", "scale", "zero"], "w", axis=axis),
        node(operator, ["a_rounded", "w"], "y", **({"transB": 1} if transposed else {})),
    ]
    feeds = {"a": draw(1, 4, 9 if transposed else 6)}
    changed = check(graph_of(nodes, feeds, constants), feeds, 9 * 4 * 2.54)
    assert "Conv" in operators(changed)


def histogram() -> list[onnx.NodeProto]:
    """Count pairs of rows [N, 1, P] and columns [N, 1, P] out of 16 each, as the mask head does."""
    return [
        node("Equal", ["a", "places"], "a_equal"),
        node("Cast", ["a_equal"], "a_ones", to=TensorProto.FLOAT),
        node("Equal", ["b", "places"], "b_equal"),
        node("Cast", ["b_equal"], "b_ones", to=TensorProto.FLOAT),
        node("Transpose", ["b_ones"], "b_turned", perm=[0, 2, 1]),
        node("MatMul", ["a_ones", "b_turned"], "y"),
    ]


@pytest.mark.parametrize("pixels", [1, EXACT - 1, EXACT, EXACT + 1, 3 * EXACT, 100_003])
def test_counts_are_exact(pixels: int) -> None:
    """All in one bin in the first frame, which is more than float16 holds, and evenly spread in the second."""
    rng = np.random.default_rng(pixels)
    feeds = {name: rng.integers(0, 16, (2, 1, pixels)).astype(np.float32) for name in ("a", "b")}
    for x in feeds.values():
        x[0] = 7
    proto = graph_of(histogram(), feeds, {"places": np.arange(16, dtype=np.float32).reshape(1, 16, 1)})
    changed = without_gemm(proto)
    product = next(made for made in changed.graph.node if made.op_type == "MatMul")
    assert product.output[0] == "y/counts_half"
    index = (16 * feeds["a"] + feeds["b"]).astype(int).reshape(2, -1)
    expected = np.stack([np.bincount(row, minlength=256).reshape(16, 16) for row in index])
    assert np.array_equal(run(changed, feeds)[0], expected)
    (in_float16,) = open_reference(changed, "fp16").run(None, feeds)
    assert np.array_equal(in_float16, expected)


def test_half_stays_and_names_stay() -> None:
    nodes = [
        node("Cast", ["a"], "half", to=TensorProto.FLOAT16),
        node("MatMul", ["half", "w_half"], "product"),
        node("Cast", ["product"], "wide", to=TensorProto.FLOAT),
        noted(node("MatMul", ["wide", "w"], "y"), module="classifier.6", part="relevance"),
    ]
    constants = {"w_half": draw(0, 4, 5).astype(np.float16), "w": draw(1, 5, 6)}
    proto = graph_of(nodes, {"a": draw(2, 3, 4)}, constants)
    before = proto.SerializeToString()
    changed = without_gemm(proto)
    assert proto.SerializeToString() == before
    assert operators(changed).count("MatMul") == 1
    new = changed.graph.node[3:]
    assert new[-1].name == "node_y"
    assert {made.name.split("/")[0] for made in new} == {"node_y"}
    assert all(made.metadata_props == nodes[-1].metadata_props for made in new)
    assert {tensor.name for tensor in changed.graph.initializer} == {"w", "w_half", "y/axes"}


def small_cnn() -> nn.Module:
    """Return layers, adaptive pooling to more than a cell, and convolutions."""
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 16, 2, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d((2, 3)), nn.Flatten()),
        *(nn.Linear(96, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, len(CLASSES))),
    ).eval()


@lru_cache
def exported(precision: str, dynamic: bool) -> tuple[onnx.ModelProto, ModelCard]:
    if precision == "fp16":
        proto, card = exported("fp32", dynamic)
        return to_half(proto, "fp16"), card.replace(precision="fp16")
    spec = InputSpec(size=None, resize=SIZE, max_batch=4) if dynamic else InputSpec(size=SIZE)
    card = ModelCard(CLASSES, CLASSES[1:], spec, precision=precision)
    return load_proto(export_once(small_cnn(), Path(mkdtemp()), card=card, frames=random_frames(SIZE, 3, 2)))


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_exports_answer_the_same_and_build(precision: str, dynamic: bool, gated: bool, tmp_path: Path) -> None:
    proto, card = exported(precision, dynamic)
    card = card.replace(gate=gated)
    if gated:
        proto = gate(proto, card)
    changed = without_gemm(proto)
    onnx.checker.check_model(changed, full_check=True)
    frames = np.stack(random_frames((40, 56) if dynamic else SIZE, 3, 2 if dynamic else 1))
    before, after = (open_reference(graph, precision).run(None, {"image": frames}) for graph in (proto, changed))
    for expected, got in zip(before, after, strict=True):
        assert np.abs(got.astype(np.float64) - expected).max() <= 1e-6 * max(np.abs(expected).max(), 1e-9)
    pytest.importorskip("tensorrt_rtx")
    helper.set_model_props(proto, {METADATA_KEY: card.to_json()})
    largest = {"largest": (512, 512)} if dynamic else {}
    engine = to_engine(save(proto, tmp_path / "model.onnx"), gpus=["sm75"], cache=False, **largest)
    assert engine.stat().st_size > 10_000


def test_one_engine_for_turing_and_others(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    model = save(contract_graph(small_card()), tmp_path / "model.onnx")
    data = model.read_bytes()
    engine = to_engine(model, gpus=["sm86", "sm75"], cache=False, **SHAPES)
    assert ".sm75-sm86." in engine.name
    assert model.read_bytes() == data


def test_there_is_no_bfloat16(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    model = save(contract_graph(small_card().replace(precision="bf16")), tmp_path / "model.onnx")
    with pytest.raises(LrpEdgeError, match=r"sm75 has no bfloat16: export with --precision fp16$"):
        to_engine(model, gpus=["sm75"], **SHAPES)
    with pytest.raises(LrpEdgeError, match=r"with --precision fp16, or leave out sm75$"):
        to_engine(model, gpus=["sm75", "sm86"], **SHAPES)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
