"""Half precision: types as TensorRT wants them, answers in those very types, relevance of any size."""

import dataclasses
import itertools

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper

from lrp_edge.card import InputSpec, MaskSpec
from lrp_edge.classifiers import vgg
from lrp_edge.errors import LrpEdgeError
from lrp_edge.export import to_engine
from lrp_edge.export.graph import ranks_and_types
from lrp_edge.export.passes.precision import find_products, to_half
from lrp_edge.export.read import load_proto
from lrp_edge.export.verify import parity
from lrp_edge.export.verify.typed_evaluator import ReferenceSession
from tests.support.exported import CARD, export_once, tiny
from tests.support.marks import quick_of
from tests.support.oracles import random_cnn

HALVES = {"fp16": (np.float16, 2.0**-10), "bf16": (ml_dtypes.bfloat16, 2.0**-7)}
FRAMES = parity.random_frames((64, 64), 3, 3)


def strided():
    """A CNN with what TensorRT takes worst in half precision: transposed convolutions, and overlapping pools."""
    torch.manual_seed(0)
    nn = torch.nn
    return nn.Sequential(
        nn.Conv2d(3, 16, 7, stride=2, padding=3),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 5),
    ).eval()


def export(model, folder, precision, **changes):
    card = CARD.replace(precision=precision, **changes)
    file = export_once(model, folder / precision, card=card, frames=FRAMES)
    return load_proto(file)


@pytest.mark.parametrize("precision", HALVES)
def test_all_work_but_the_last_layer_is_in_the_half_type(precision, tmp_path):
    proto, card = export(strided(), tmp_path, precision)
    onnx.checker.check_model(proto, full_check=True)
    half = TensorProto.FLOAT16 if precision == "fp16" else TensorProto.BFLOAT16
    _, types = ranks_and_types(proto)
    products = find_products(proto.graph)
    wide = {*products.forward, *products.denominators, *products.adjoints}
    wide -= {i for i in wide if types[proto.graph.node[i].output[0]] == half}
    transposed = {i for i in wide if proto.graph.node[i].op_type == "ConvTranspose"}
    assert wide - transposed == set(products.deciding)
    assert not (transposed and precision == "fp16")
    kinds = {value.name: value.type.tensor_type.elem_type for value in (*proto.graph.input, *proto.graph.output)}
    assert kinds == {
        "image": TensorProto.UINT8,
        "scores": TensorProto.FLOAT,
        "label": TensorProto.INT32,
        "mask": TensorProto.UINT8,
        "relevance": TensorProto.FLOAT,
    }
    assert card.parity["label_agreement"] == 1


@pytest.mark.parametrize(
    ("seed", "precision"), quick_of(itertools.product(range(3), HALVES), [(0, "fp16"), (1, "bf16"), (2, "fp16")])
)
def test_random_cnns_stay_near_float64(seed, precision, tmp_path):
    model = random_cnn(seed).float()
    classes = CARD.classes[: model[-1].out_features]
    spec = InputSpec(size=(65, 70), max_batch=3)
    card = CARD.replace(classes=classes, defects=classes[1:], input=spec, precision=precision)
    figures = load_proto(export_once(model, tmp_path, card=card))[1].parity
    print(seed, precision, figures["relevance_l2"], figures["scores_max"])
    _, step = HALVES[precision]
    assert step / 100 < figures["relevance_l2"] < 200 * step
    assert figures["scores_max"] < 20 * step


@pytest.mark.parametrize("scale", [1e-7, 1e10])
def test_relevance_of_any_size_survives_half_precision(scale, tmp_path):
    """Relevance is in units of the logits; float16 ends at 6e-8 and 65504."""
    model = tiny(favour=2)
    model[-1].bias.data.zero_()
    with torch.no_grad():
        model[-1].weight *= scale
        model[-1].bias[2] = scale  # decides
    plain, _ = export(model, tmp_path, "fp32", mask=MaskSpec("fixed"))
    half, _ = export(model, tmp_path, "fp16", mask=MaskSpec("fixed"))
    expected = parity.run_frames(onnxruntime.InferenceSession(plain.SerializeToString()), FRAMES)
    found = parity.run_frames(ReferenceSession(half), FRAMES)
    assert 0 < np.abs(expected[0][3]).max() < 1e-6 or np.abs(expected[0][3]).max() > 65504
    figures = parity.compare(found, expected)
    assert figures.relevance_l2 < 0.05
    assert figures.mask_iou_mean > 0.97


def test_activations_beyond_float16_are_refused_with_advice(tmp_path):
    model = tiny()
    with torch.no_grad():
        model[4].weight *= 1e6
    with pytest.raises(LrpEdgeError, match=r"not what PyTorch computes.*bf16"):
        export(model, tmp_path, "fp16")
    assert not list(tmp_path.glob("fp16/*"))
    assert export(model, tmp_path, "bf16")[1].parity["label_agreement"] == 1


FORMS = list(itertools.product(HALVES, [(64, 64), None], [True, False]))


@pytest.mark.parametrize(
    ("precision", "size", "gate"), quick_of(FORMS, [("fp16", None, False), ("bf16", (64, 64), True)])
)
def test_half_precision_compiles_with_tensorrt_rtx(precision, size, gate, tmp_path):
    pytest.importorskip("tensorrt_rtx")
    spec = dataclasses.replace(CARD.input, size=size)
    card = CARD.replace(precision=precision, gate=gate, input=spec)
    engine = to_engine(export_once(strided(), tmp_path, card=card), gpus=["sm86"], cache=False)
    assert f".{precision}.engine" in engine.name


def one_node(operator, x, constants, **attributes):
    """Run one node through the reference."""
    kind = helper.np_dtype_to_tensor_dtype(x.dtype)
    graph = helper.make_graph(
        [helper.make_node(operator, ["x", *constants], ["y"], **attributes)],
        "one",
        [helper.make_tensor_value_info("x", kind, x.shape)],
        [helper.make_tensor_value_info("y", kind, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    return ReferenceSession(model).run(None, {"x": x})[0]


@pytest.mark.parametrize("precision", HALVES)
def test_the_reference_rounds_as_pytorch_does_in_that_type(precision):
    """PyTorch computes in the type itself; sums are in float32 on both sides, in another order."""
    kind, step = HALVES[precision]
    torch_kind = {"fp16": torch.float16, "bf16": torch.bfloat16}[precision]
    draw = np.random.default_rng(0)
    x, w = draw.normal(size=(2, 6, 13, 11)).astype(kind), draw.normal(size=(4, 3, 3, 3)).astype(kind)
    b = draw.normal(size=4).astype(kind)
    tensors = [torch.from_numpy(value.astype(np.float32)).to(torch_kind) for value in (x, w, b)]
    cases = {
        "Conv": (
            one_node("Conv", x, {"w": w, "b": b}, strides=[2, 1], pads=[1, 0, 1, 0], group=2),
            F.conv2d(*tensors, stride=(2, 1), padding=(1, 0), groups=2),
        ),
        "MaxPool": (
            one_node("MaxPool", x, {}, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
            F.max_pool2d(tensors[0], 3, 2, 1),
        ),
        "MatMul": (one_node("MatMul", x, {"w": x[0, 0].T.copy()}), tensors[0] @ tensors[0][0, 0].T),
        "Mul": (one_node("Mul", x, {"w": x[:1]}), tensors[0] * tensors[0][:1]),
    }
    for name, (found, expected) in cases.items():
        assert found.dtype == kind, name
        wanted = expected.float().numpy()
        assert np.allclose(found.astype(np.float32), wanted, rtol=step, atol=step), name
    assert np.array_equal(cases["Mul"][0].astype(np.float32), cases["Mul"][1].float().numpy())
    assert np.array_equal(cases["MaxPool"][0].astype(np.float32), cases["MaxPool"][1].float().numpy())


def test_onnx_runtime_would_hide_the_rounding():
    """Why there is a reference: on this CPU ONNX Runtime leaves float16's rounding out between nodes."""
    big = numpy_helper.from_array(np.array([2048], np.float16), "big")
    nodes = [
        helper.make_node("Cast", ["x"], ["half"], to=TensorProto.FLOAT16),
        helper.make_node("Add", ["half", "big"], ["sum"]),
        helper.make_node("Sub", ["sum", "big"], ["rest"]),
        helper.make_node("Cast", ["rest"], ["y"], to=TensorProto.FLOAT),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "sum", [value("x", TensorProto.FLOAT, [1])], [value("y", TensorProto.FLOAT, [1])], [big]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    x = np.array([0.75], np.float32)
    assert ReferenceSession(model).run(None, {"x": x})[0] == 0
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    if session.run(None, {"x": x})[0] == 0:
        pytest.skip("this CPU has float16 arithmetic")
    assert session.run(None, {"x": x})[0] == np.float32(0.75)


@pytest.mark.parametrize("precision", HALVES)
def test_half_graphs_have_no_cast_between_layers_and_run_elsewhere(precision, tmp_path):
    """Behind the first convolution activations stay in the half type; every node has a name of its own."""
    model = vgg("A", channels=3, classes=5, width=0.1, pools=3, pooling="average").eval()
    proto, _ = export(model, tmp_path, "fp32")
    half = to_half(proto, precision)
    forward = [half.graph.node[i] for i in find_products(half.graph).forward][1:-1]
    casts = {node.output[0] for node in half.graph.node if node.op_type == "Cast"}
    assert len(forward) > 5
    assert not casts & {node.input[0] for node in forward}
    names = [node.name for node in half.graph.node]
    assert len(set(names)) == len(names)
    if precision == "fp16":
        session = onnxruntime.InferenceSession(half.SerializeToString(), providers=["CPUExecutionProvider"])
        found, expected = (parity.run_frames(s, FRAMES) for s in (session, ReferenceSession(half)))
        assert parity.compare(found, expected).relevance_l2 < 0.05
