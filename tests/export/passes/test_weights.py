"""Weights stored once: the same answers to the bit, files as large as their network, constants for whoever edits."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from lrp_edge.export.inspect import inspect
from lrp_edge.export.passes.weights import LEAST, restore_weights, share_weights
from lrp_edge.export.read import load_proto
from lrp_edge.export.verify.parity import random_frames
from tests.support.exported import CARD, export_once

SIGNS = {"both": lambda x: x, "positive": lambda x: np.maximum(x, 0), "negative": lambda x: np.minimum(x, 0)}
LAYOUTS = {
    "same": lambda x: x,
    "transposed": lambda x: x.swapaxes(0, 1),
    "flipped": lambda x: np.flip(x, tuple(range(2, x.ndim))),
    "round": lambda x: np.flip(x.swapaxes(0, 1), tuple(range(2, x.ndim))),
}
FORMS = [(sign, layout) for sign in SIGNS for layout in LAYOUTS]


def graph_of(constants):
    """Return a graph that has a sum of each constant times the image."""
    nodes = []
    for name in constants:
        nodes.append(helper.make_node("Mul", ["image", name], [f"{name}/product"]))
        nodes.append(helper.make_node("ReduceSum", [f"{name}/product"], [f"{name}/sum"], keepdims=0))
    nodes.append(helper.make_node("Sum", [f"{name}/sum" for name in constants], ["scores"]))
    inputs = [helper.make_tensor_value_info("image", TensorProto.FLOAT, [])]
    outputs = [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [])]
    initializers = [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def constants_of(proto):
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}


def answer(proto):
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"image": np.array(0.7, np.float32)})[0]


@settings(deadline=None, max_examples=40)
@given(
    shape=st.sampled_from([(8, 16, 3, 3), (16, 16, 1, 1), (32, 1, 5, 5), (20, 30, 3), (24, 24), (40, 12)]),
    forms=st.lists(st.sampled_from(FORMS), min_size=1, max_size=8),
    seed=st.integers(0, 9),
    dtype=st.sampled_from([np.float32, np.float16]),
)
def test_any_parts_of_weights_are_shared_and_restored(shape, forms, seed, dtype):
    weight = np.random.default_rng(seed).normal(size=shape).astype(dtype)
    constants = {"weight": weight.astype(np.float32)} | {
        f"part {index}": LAYOUTS[layout](SIGNS[sign](weight)).astype(np.float32)
        for index, (sign, layout) in enumerate(forms)
    }
    flat = graph_of(constants)
    shared = share_weights(flat)
    onnx.checker.check_model(shared)
    assert answer(shared) == answer(flat)
    # One of each value that is not the weight's own is computed, but for a square matrix of both signs turned round.
    values = {value.tobytes() + bytes(value.shape) for value in constants.values()}
    computed = [node for node in shared.graph.node if node.output[0] in constants]
    turned = shape == (24, 24) and any(form in forms for form in (("both", "transposed"), ("both", "round")))
    assert len(computed) == len(values) - 1 - turned
    restored = restore_weights(shared)
    found = constants_of(restored)
    assert found.keys() == constants.keys()
    assert all(np.array_equal(found[name], value) for name, value in constants.items())
    assert [node.op_type for node in restored.graph.node] == [node.op_type for node in flat.graph.node]


@settings(deadline=None, max_examples=30)
@given(
    rows=st.sampled_from([16, 24]),
    columns=st.sampled_from([16, 24]),
    forms=st.lists(st.tuples(st.sampled_from(list(SIGNS)), st.sampled_from(["same", "transposed"])), max_size=4),
    seed=st.integers(0, 9),
)
def test_openvino_reads_matrices_in_both_orientations(rows, columns, forms, seed):
    openvino = pytest.importorskip("openvino")
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(rows, columns)).astype(np.float32)
    signals = {f"rows {side}": rng.normal(size=(50, side)).astype(np.float32) for side in (rows, columns)}
    constants, nodes, wanted = {}, [], {}
    for index, (sign, layout) in enumerate([("both", "same"), ("both", "transposed"), *forms]):
        value = np.ascontiguousarray(LAYOUTS[layout](SIGNS[sign](weight)))
        name = next((name for name, other in constants.items() if np.array_equal(other, value)), f"part {index}")
        constants[name] = value
        signal = f"rows {len(value)}"
        nodes.append(helper.make_node("MatMul", [signal, name], [f"product {index}"]))
        wanted[f"product {index}"] = signals[signal] @ value
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape) for name, value in signals.items()]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape) for name, value in wanted.items()]
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, initializers)
    flat = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    content = share_weights(flat).SerializeToString()
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(content), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = compiled(signals)
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, atol=1e-4)


def test_equal_weights_stay_apart():
    weight = np.random.default_rng(0).normal(size=(24, 24, 1, 1)).astype(np.float32)
    constants = {
        "weight": weight,
        "weight.again": weight,
        "part": np.maximum(weight, 0),
        "again": np.maximum(weight, 0),
    }
    assert constants_of(share_weights(graph_of(constants))).keys() - {"weights/zero"} == constants.keys() - {"part"}


def test_small_constants_and_other_types_stay():
    small = np.random.default_rng(0).normal(size=(LEAST // 2 - 1, 2)).astype(np.float32)
    flat = graph_of({"weight": small, "part": np.maximum(small, 0)})
    assert share_weights(flat) == flat
    assert restore_weights(flat) is flat


def test_nodes_that_only_look_like_weights_are_left():
    node = helper.make_node("Relu", ["image"], ["scores"], name="weights/scores")
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, []) for name in ("image", "scores")]
    proto = helper.make_model(helper.make_graph([node], "g", value[:1], value[1:]), ir_version=10)
    assert restore_weights(proto) is proto


class Residual(nn.Module):
    """What large files have: convolutions of signed and of positive inputs, of a stride, and of one channel a group."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1), nn.ReLU())
        self.narrow, self.wide = nn.Conv2d(32, 24, 1), nn.Sequential(nn.Conv2d(24, 96, 1), nn.ReLU6())
        self.deep = nn.Sequential(nn.Conv2d(96, 96, 3, 1, 1, groups=96), nn.ReLU6(), nn.Conv2d(96, 24, 1))
        self.last = nn.Sequential(nn.Conv2d(24, 128, 3, 2, 1), nn.ReLU())
        self.head = nn.Linear(128, 5)

    def forward(self, x):
        x = self.narrow(self.stem(x))
        return self.head(self.last(x + self.deep(self.wide(x))).mean((2, 3)))


class Tokens(nn.Module):
    """What transformers have: linear layers of positions, wide and square."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 48, 8, 8)
        self.blocks = nn.Sequential(
            *(nn.TransformerEncoderLayer(48, 4, 192, batch_first=True, norm_first=True) for _ in range(2))
        )
        self.head = nn.Linear(48, 5)

    def forward(self, x):
        return self.head(self.blocks(self.patches(x).flatten(2).transpose(1, 2)).mean(1))


@pytest.mark.parametrize("gate", [False, True])
@pytest.mark.parametrize("network", [Residual, Tokens])
def test_files_are_as_large_as_their_network(network, gate, tmp_path):
    torch.manual_seed(0)
    model = network().eval()
    file = export_once(model, tmp_path, card=CARD.replace(gate=gate, composite="Segmentation"))
    weights = 4 * sum(parameter.numel() for parameter in model.parameters())
    graph = file.stat().st_size - sum(value.nbytes for value in constants_of(onnx.load(file)).values())
    assert file.stat().st_size - graph < 1.3 * weights
    proto, _ = load_proto(file)
    stored = 4 * sum(value.size for value in constants_of(proto).values())
    assert not any(node.name.startswith("weights/") for node in proto.graph.node)
    assert gate or stored > 2.5 * weights
    assert inspect(file).relevance.macs > inspect(file).forward.macs
    frames = np.stack(random_frames((64, 64), 3, 2))
    sessions = [
        onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        for content in (file.read_bytes(), proto.SerializeToString())
    ]
    stored_once, constant = (session.run(None, {"image": frames}) for session in sessions)
    assert [np.array_equal(*pair) for pair in zip(stored_once, constant, strict=True)] == [True] * 4
