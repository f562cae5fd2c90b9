"""int8: levels and scales, what quantisation may touch, and the measured choice of what it does."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, numpy_helper

from lrp_edge.card import MaskSpec
from lrp_edge.errors import LrpEdgeError
from lrp_edge.export import to_engine, to_onnx
from lrp_edge.export.graph import producers, ranks_and_types
from lrp_edge.export.passes.precision import PRODUCTS, find_products
from lrp_edge.export.passes.quantise import IOU_KEPT, LEVELS, insert, quantise
from lrp_edge.export.read import load_proto
from lrp_edge.export.verify import parity
from tests.support.exported import CARD, export_once, tiny

FRAMES = parity.random_frames((64, 64), 3, 4)
INT8 = CARD.replace(precision="int8", mask=MaskSpec("otsu"))


def flat(model, folder):
    return load_proto(export_once(model, folder / "flat", card=CARD, frames=FRAMES))[0]


def session(proto):
    return onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])


def deep(seed=0):
    """A CNN with enough layers for a choice."""
    torch.manual_seed(seed)
    nn = torch.nn
    layers, channels = [], 3
    for width in (8, 8, 16, 16):
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
        channels = width
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5)).eval()
    model[-1].bias.data[2] = 10  # a defect, so that there are masks
    return model


def test_there_is_no_int8_without_real_frames(tmp_path):
    with pytest.raises(LrpEdgeError, match=r"calibrated on real frames.*--frames"):
        to_onnx(tiny(), tmp_path, card=INT8)
    assert not list(tmp_path.iterdir())


def test_weights_are_rounded_to_levels_of_their_channel(tmp_path):
    proto = flat(tiny(), tmp_path)
    products = find_products(proto.graph)
    node = proto.graph.node[products.forward[1]]
    weight = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}[node.input[1]]
    rounded = insert(proto, [node.name], {node.input[0]: 1.0})
    constants = {t.name: numpy_helper.to_array(t) for t in rounded.graph.initializer}
    pair = next(n for n in rounded.graph.node if n.op_type == "DequantizeLinear" and n.input[0] in constants)
    levels, scale, zero = (constants[name] for name in pair.input)
    assert levels.dtype == np.int8
    assert not zero.any()
    assert np.abs(levels).max() == LEVELS
    assert np.array_equal(scale, scale.astype(np.float16).astype(np.float32))
    assert np.allclose(scale, np.abs(weight).max((1, 2, 3)) / LEVELS, rtol=1e-3)
    error = np.abs(levels * scale.reshape(-1, 1, 1, 1) - weight)
    # A scale that is rounded down cuts the greatest weight by up to a thousandth.
    assert (error <= (0.5 + LEVELS * 2.0**-11) * scale.reshape(-1, 1, 1, 1)).all()


def test_activations_are_rounded_to_their_range(tmp_path):
    proto = flat(tiny(), tmp_path)
    node = proto.graph.node[find_products(proto.graph).forward[1]]
    name = node.input[0]
    rounded = insert(proto, [node.name], {name: 2.0})
    for graph, output in ((proto, name), (rounded, f"{name}_rounded")):
        graph.graph.output.append(onnx.helper.make_tensor_value_info(output, TensorProto.FLOAT, None))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    run = [
        onnxruntime.InferenceSession(graph.SerializeToString(), options).run(None, {"image": FRAMES[0][None]})[-1]
        for graph in (proto, rounded)
    ]
    scale = np.float32(np.float16(2.0 / LEVELS))
    expected = np.clip(np.rint(run[0] / scale), -128, 127) * scale
    assert np.allclose(run[1], expected, atol=1e-6)


def test_the_choice_keeps_masks_and_labels(tmp_path):
    proto = flat(deep(), tmp_path)
    found = quantise(proto, FRAMES)
    assert found.chosen
    figures = parity.compare(parity.run_frames(session(found.proto), FRAMES), parity.run_frames(session(proto), FRAMES))
    print(found.summary(), figures.mask_iou_mean)
    assert figures.masks == len(FRAMES)
    assert figures.label_agreement == 1
    assert figures.mask_iou_mean >= IOU_KEPT - 0.02  # fused kernels round once less


def test_what_int8_would_ruin_stays_in_float(tmp_path):
    """One channel that is a thousand times the others takes all levels of its tensor, and says nothing."""
    model = deep()
    with torch.no_grad():
        model[2].weight[0], model[2].bias[0] = 0, 1000.0
        model[4].weight[:, 0] = 0
    found = quantise(flat(model, tmp_path), FRAMES)
    left = found.summary()["left"]
    assert "module 4" in left
    assert not {"module 0", "module 2"} & set(left)


def test_relevance_by_weights_of_both_signs_is_never_in_int8(tmp_path):
    card = CARD.replace(composite="EpsilonGammaBox")
    proto, _ = load_proto(export_once(deep(), tmp_path, card=card, frames=FRAMES))
    found = quantise(proto, FRAMES)
    products = find_products(proto.graph)
    forward = {proto.graph.node[i].name for i in products.forward if i not in products.deciding}
    weights = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
    adjoints = [proto.graph.node[i] for i in products.adjoints]
    signed = {node.name for node in adjoints if weights[node.input[1]].min() < 0 < weights[node.input[1]].max()}
    assert signed
    assert set(found.chosen) | set(found.left) >= forward
    assert not (set(found.chosen) & signed)


@pytest.mark.parametrize("gate", [False, True])
def test_the_rest_is_in_float16_and_pairs_touch_their_product(gate, tmp_path):
    file = export_once(deep(), tmp_path, card=INT8.replace(gate=gate), frames=FRAMES)
    proto, card = load_proto(file)
    onnx.checker.check_model(proto, full_check=True)
    assert card.provenance["int8"]["products"] > 0
    assert card.parity["label_agreement"] == 1
    assert card.parity["mask_iou_mean"] > 0.9
    if gate:
        return
    made_by, (_, types) = producers(proto.graph), ranks_and_types(proto)
    quantised = 0
    for node in proto.graph.node:
        if node.op_type in PRODUCTS and proto.graph.node[made_by.get(node.input[0], 0)].op_type == "DequantizeLinear":
            quantised += 1
            assert proto.graph.node[made_by[node.input[1]]].op_type == "DequantizeLinear"
            assert {types[name] for name in (*node.input, *node.output)} == {TensorProto.FLOAT16}
    assert quantised == card.provenance["int8"]["products"]


@pytest.mark.parametrize("gate", [False, True])
def test_int8_compiles_with_tensorrt_rtx(gate, tmp_path):
    pytest.importorskip("tensorrt_rtx")
    file = export_once(deep(), tmp_path, card=INT8.replace(gate=gate), frames=FRAMES)
    assert ".int8.engine" in to_engine(file, gpus=["sm86"], cache=False).name
