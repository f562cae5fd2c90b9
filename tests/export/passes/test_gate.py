"""The gate: the same answers where they are wanted, none where not, and no work behind a closed one."""

import dataclasses
import itertools

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from lrp_edge.card import InputSpec, MaskSpec
from lrp_edge.export.deployable import Preprocess
from lrp_edge.export.inspect import inspect
from lrp_edge.export.passes.gate import casts_before_branch, gate, ungate
from lrp_edge.export.read import load_proto
from lrp_edge.export.verify import parity
from tests.support.exported import CARD, CLASSES, RGB, export_once, tiny
from tests.support.marks import quick_of
from tests.support.oracles import small_family

OUTPUTS = ("scores", "label", "mask", "relevance")


def both(model, folder, **changes):
    """Export a model flat and gated; return both as sessions."""
    files = [
        export_once(model, folder / name, card=CARD.replace(gate=name == "gated", **changes))
        for name in ("flat", "gated")
    ]
    return [onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"]) for file in files]


FORMS = itertools.product(["none", "guided:5"], [(64, 64), None])


@pytest.mark.parametrize(("smoothing", "size"), quick_of(FORMS, [("none", (64, 64)), ("guided:5", None)]))
def test_answers_are_those_of_the_flat_graph(size, smoothing, tmp_path):
    spec = dataclasses.replace(RGB, size=size, max_batch=4)
    mask = MaskSpec("otsu", smoothing=smoothing)
    flat, gated = both(tiny(favour=2), tmp_path, input=spec, mask=mask, explained="contrast")
    for count, shape in ((1, (64, 64)), (3, (64, 64) if size else (41, 56))):
        frames = np.stack(parity.random_frames(shape, 3, count))
        expected, found = (session.run(None, {"image": frames}) for session in (flat, gated))
        assert expected[2].any()
        assert [np.array_equal(*pair) for pair in zip(expected, found, strict=True)] == [True] * 4


def test_ok_frames_have_neither_mask_nor_relevance(tmp_path):
    flat, gated = both(tiny(favour=0), tmp_path)
    frames = np.stack(parity.random_frames((64, 64), 3, 2))
    scores, label, mask, relevance = gated.run(None, {"image": frames})
    expected = flat.run(None, {"image": frames})
    assert np.array_equal(scores, expected[0])
    assert not label.any()
    assert expected[3].any()
    assert not mask.any()
    assert not relevance.any()
    assert (mask.dtype, mask.shape) == (np.uint8, (2, 64, 64))
    assert (relevance.dtype, relevance.shape) == (np.float32, (2, 64, 64))


def test_one_defect_opens_the_gate_for_its_batch(tmp_path):
    """Two frames that a model decides differently, its boundary between the two."""
    model, frames = tiny(), np.stack(parity.random_frames((64, 64), 3, 2))
    with torch.no_grad():
        logits = model(Preprocess(RGB)(torch.from_numpy(frames)))
        model[-1].bias[1] += (logits[:, 0] - logits[:, 1]).mean()
        model[-1].bias[2:] -= 100
    file = export_once(model, tmp_path, card=CARD.replace(input=dataclasses.replace(RGB, max_batch=2)))
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    labels = session.run(["label"], {"image": frames})[0]
    assert labels[0] != labels[1]
    card = CARD.replace(classes=CLASSES, defects=(CLASSES[labels[1]],))
    proto, _ = load_proto(file)
    gated = onnxruntime.InferenceSession(gate(proto, card).SerializeToString(), providers=["CPUExecutionProvider"])
    expected = session.run(None, {"image": frames})[3]
    assert np.array_equal(gated.run(None, {"image": frames})[3], expected)
    assert not gated.run(None, {"image": frames[:1]})[3].any()
    alone = gated.run(None, {"image": frames[1:]})[3]
    assert np.allclose(alone, expected[1:], atol=1e-5 * np.abs(expected[1:]).max())


@pytest.mark.parametrize("name", ["vgg", "basic_resnet"])
def test_only_what_decides_is_outside(name, tmp_path):
    """The graph outside the If holds the classifier's convolutions, and its weights alone."""
    model = small_family(name).float()
    file = export_once(model, tmp_path, card=CARD.replace(gate=True))
    graph = onnx.load(file).graph
    convolutions = sum(isinstance(module, torch.nn.Conv2d) for module in model.modules())
    assert sum(node.op_type == "Conv" for node in graph.node) == convolutions
    branch = next(a.g for node in graph.node for a in node.attribute if a.name == "then_branch")
    read = {name for node in graph.node for name in node.input}
    assert {tensor.name for tensor in graph.initializer} <= read | {n for node in branch.node for n in node.input}
    assert sum(node.op_type == "Conv" for node in branch.node) >= convolutions
    onnx.checker.check_model(onnx.load(file), full_check=True)


def test_ungating_gives_the_flat_graph_back(tmp_path):
    flat, _ = load_proto(export_once(tiny(), tmp_path, card=CARD))
    back = ungate(gate(flat, CARD))
    assert {n.name for n in back.graph.node} == {n.name for n in flat.graph.node}
    onnx.checker.check_model(back, full_check=True)
    frames = np.stack(parity.random_frames((64, 64), 3, 1))
    answers = [
        onnxruntime.InferenceSession(proto.SerializeToString()).run(None, {"image": frames}) for proto in (flat, back)
    ]
    assert all(np.array_equal(*pair) for pair in zip(*answers, strict=True))
    assert ungate(flat) is flat


def casts_of_activations(proto):
    """Count the casts inside the branch of what is computed outside."""
    outside = {name for node in proto.graph.node for name in node.output}
    branch = next(a.g for node in proto.graph.node for a in node.attribute if a.name == "then_branch")
    return sum(node.op_type == "Cast" and node.input[0] in outside for node in branch.node)


def test_casts_before_the_branch_change_nothing(tmp_path):
    proto, _ = load_proto(export_once(tiny(favour=2), tmp_path, card=CARD.replace(gate=True, precision="fp16")))
    moved = casts_before_branch(proto)
    onnx.checker.check_model(moved, full_check=True)
    before, after = (casts_of_activations(graph) for graph in (proto, moved))
    assert before > 0
    assert after == 0
    frames = np.stack(parity.random_frames((64, 64), 3, 2))
    expected, found = (
        onnxruntime.InferenceSession(graph.SerializeToString()).run(None, {"image": frames}) for graph in (proto, moved)
    )
    assert expected[2].any()
    assert all(np.array_equal(*pair) for pair in zip(expected, found, strict=True))


def test_a_flat_graph_has_no_branch_to_cast_before(tmp_path):
    proto, _ = load_proto(export_once(tiny(), tmp_path, card=CARD.replace(precision="fp16")))
    assert casts_before_branch(proto) is proto
    assert ungate(proto) is proto


def test_inspect_counts_behind_the_gate(tmp_path):
    flat, gated = (
        inspect(export_once(tiny(), tmp_path / str(closed), card=CARD.replace(gate=closed))) for closed in (False, True)
    )
    assert (gated.forward.macs, gated.relevance.macs) == (flat.forward.macs, flat.relevance.macs)
    assert gated.relevance.macs > gated.forward.macs


def test_dynamic_model_of_any_channel_order(tmp_path):
    spec = InputSpec("GRAY", (0.4,), (0.2,), network_order="GRAY", max_batch=3)
    flat, gated = both(tiny(channels=1, favour=1), tmp_path, input=spec)
    frames = np.stack(parity.random_frames((37, 52), 1, 3))
    assert all(
        np.array_equal(*pair)
        for pair in zip(flat.run(None, {"image": frames}), gated.run(None, {"image": frames}), strict=True)
    )
