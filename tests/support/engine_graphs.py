"""Real graphs of the contract that TensorRT builds in a second, and some that it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from lrp_edge.card import METADATA_KEY, InputSpec, ModelCard
from lrp_edge.errors import LrpEdgeError
from lrp_edge.runtime.engines import open_engine

Node = onnx.NodeProto


def small_card(size: tuple[int, int] | None = None, max_batch: int = 4) -> ModelCard:
    """Return the card of the graph."""
    return ModelCard(("ok", "dent"), ("dent",), InputSpec(size=size, max_batch=max_batch))


def node(operator: str, inputs: list[str], output: str, **attributes: object) -> Node:
    """Return a node that has the name of its output."""
    return helper.make_node(operator, inputs, [output], name=f"node_{output}", **attributes)


def noted(made: Node, **notes: str) -> Node:
    """Note where a node comes from, as the export does."""
    helper.set_model_props(made, notes)
    return made


def contract_graph(
    card: ModelCard, *extra: Node, depth: int = 1, mask_type: int = TensorProto.UINT8
) -> onnx.ModelProto:
    """Build convolutions with scores, label, mask and relevance behind them.

    Parameters
    ----------
    card : ModelCard
        Says size and batch.
    extra : nodes
        Put in behind ``planes`` (float [N, 3, H, W]), with outputs that nobody uses.
    depth : int
        Convolutions; a build takes the longer.
    mask_type : int
        Type of the output ``mask``.
    """
    rng = np.random.default_rng(0)
    constants = {
        "channels": np.array([1], np.int64),
        "limit": np.array(0.5, np.float32),
        "full": np.array(255.0, np.float32),
        "head": rng.normal(size=(2, 8)).astype(np.float32),
        **{f"w{i}": rng.normal(size=(8, 8 if i else 3, 3, 3)).astype(np.float32) for i in range(depth)},
    }
    nodes = [
        node("Cast", ["image"], "pixels", to=TensorProto.FLOAT),
        node("Transpose", ["pixels"], "planes", perm=[0, 3, 1, 2]),
        *extra,
    ]
    features = "planes"
    for i in range(depth):
        nodes += [
            node("Conv", [features, f"w{i}"], f"conv{i}", pads=[1, 1, 1, 1]),
            node("Relu", [f"conv{i}"], f"relu{i}"),
        ]
        features = f"relu{i}"
    nodes += [
        node("GlobalAveragePool", [features], "pooled"),
        node("Flatten", ["pooled"], "flat"),
        node("Gemm", ["flat", "head"], "logits", transB=1),
        node("Softmax", ["logits"], "scores", axis=1),
        node("ArgMax", ["logits"], "index", axis=1, keepdims=0),
        node("Cast", ["index"], "label", to=TensorProto.INT32),
        node("ReduceSum", [features, "channels"], "relevance", keepdims=0),
        node("Greater", ["relevance", "limit"], "above"),
        node("Cast", ["above"], "ones", to=TensorProto.FLOAT),
        node("Mul", ["ones", "full"], "levels"),
        node("Cast", ["levels"], "mask", to=mask_type),
    ]
    batch = "N" if card.input.max_batch > 1 else 1
    height, width = card.input.size or ("H", "W")
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "contract",
        [value("image", TensorProto.UINT8, [batch, height, width, 3])],
        [
            value("scores", TensorProto.FLOAT, [batch, 2]),
            value("label", TensorProto.INT32, [batch]),
            value("mask", mask_type, [batch, height, width]),
            value("relevance", TensorProto.FLOAT, [batch, height, width]),
        ],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    domains = [helper.make_opsetid("", 18), helper.make_opsetid("acme", 1)]
    model = helper.make_model(graph, opset_imports=domains, ir_version=10)
    helper.set_model_props(model, {METADATA_KEY: card.to_json()})
    return model


def save(model: onnx.ModelProto, path: Path) -> Path:
    """Write a graph."""
    onnx.save(model, path)
    return path


def why_it_cannot_run(engine: Path) -> str:
    """Return why an engine cannot be opened on a machine without a GPU; skips the test where there is one."""
    try:
        open_engine(engine).close()
    except LrpEdgeError as error:
        return str(error)
    pytest.skip("a GPU runs it")
