from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from lrp_edge.card import METADATA_KEY, InputSpec, ModelCard
from lrp_edge.cli import app
from lrp_edge.errors import LrpEdgeError
from lrp_edge.export.inspect import inspect


@pytest.fixture(params=[None, (10, 12)], ids=["any-size", "10x12"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Convolution 3→4, 3x3, then Gemm 4→2; behind it a transposed convolution 4→1, 2x2, stride 2."""
    size = request.param
    card = ModelCard(("ok", "bad"), ("bad",), input=InputSpec(size=size))
    shapes = {"w": (4, 3, 3, 3), "g": (2, 4), "t": (4, 1, 2, 2)}
    node = helper.make_node
    nodes = [
        node("Cast", ["image"], ["cast"], to=TensorProto.FLOAT),
        node("Transpose", ["cast"], ["planes"], perm=[0, 3, 1, 2]),
        node("Conv", ["planes", "w"], ["features"], pads=[1, 1, 1, 1], strides=[2, 2]),
        node("GlobalAveragePool", ["features"], ["pooled"]),
        node("Flatten", ["pooled"], ["flat"]),
        node("Gemm", ["flat", "g"], ["logits"], transB=1),
        node("Softmax", ["logits"], ["scores"], axis=1),
        node("ConvTranspose", ["features", "t"], ["back"], strides=[2, 2]),
        node("Squeeze", ["back", "axis"], ["relevance"]),
    ]
    value = helper.make_tensor_value_info
    height, width = size or ("H", "W")
    weights = [numpy_helper.from_array(np.zeros(shape, np.float32), name) for name, shape in shapes.items()]
    graph = helper.make_graph(
        nodes,
        "counted",
        [value("image", TensorProto.UINT8, ["N", height, width, 3])],
        [
            value("scores", TensorProto.FLOAT, ["N", 2]),
            value("relevance", TensorProto.FLOAT, ["N", height, width]),
        ],
        [*weights, numpy_helper.from_array(np.array([1], np.int64), "axis")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(proto, {METADATA_KEY: card.to_json()})
    onnx.checker.check_model(proto, full_check=True)
    path = tmp_path / "model.onnx"
    onnx.save(proto, path)
    return path


def test_arithmetic_is_that_counted_by_hand(model: Path) -> None:
    found = inspect(model, (10, 12))
    assert found.forward.macs == (4 * 5 * 6) * (3 * 3 * 3) + 2 * 4
    assert found.relevance.macs == (4 * 5 * 6) * (1 * 2 * 2)
    assert found.forward.elements == 2 * (3 * 10 * 12) + 4 + 4 + 2
    assert found.relevance.elements == 10 * 12
    assert found.forward.operators["Conv"] == found.relevance.operators["ConvTranspose"] == 1
    assert sum(found.forward.operators.values()) == 7
    assert found.tensors[0][:2] == ("image", "uint8")


def test_json_has_the_same_figures(model: Path) -> None:
    done = CliRunner().invoke(app, ["inspect", str(model), "--size", "10x12", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.output)
    assert found["forward"]["macs"] == 3248
    assert found["relevance"]["macs"] == 480
    assert found["card"]["classes"] == ["ok", "bad"]


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no model")
    for name in ("text.onnx", "missing.onnx"):
        with pytest.raises(LrpEdgeError, match=name):
            inspect(tmp_path / name)


@pytest.mark.parametrize(
    ("usable", "said"),
    [
        ({}, "not measured"),
        ({"part": "validation images", "images": 48, "unusable": []}, "yes, on 48 validation images"),
        ({"part": "test images", "images": 9, "unusable": ["mask: chance"]}, "no, on 9 test images: mask: chance"),
    ],
)
def test_it_says_whether_the_model_is_usable(model: Path, usable: dict[str, object], said: str) -> None:
    proto = onnx.load(model)
    card = ModelCard.from_json(proto.metadata_props[0].value).replace(usable=usable)
    onnx.helper.set_model_props(proto, {METADATA_KEY: card.to_json()})
    onnx.save(proto, model)
    done = CliRunner().invoke(app, ["inspect", str(model)], env={"COLUMNS": "200"}, catch_exceptions=False)
    assert said in done.stdout
