"""The decision in the graph, against the same rule in NumPy, and what hangs on it: mask, gate, explanation, edits."""

import dataclasses

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from lrp_edge.card import METADATA_KEY, THRESHOLD, DecisionSpec, InputSpec, MaskSpec, ModelCard
from lrp_edge.decision import decide, defect_probability
from lrp_edge.export import to_engine
from lrp_edge.export.deployable import Deployable, Preprocess
from lrp_edge.export.onnx_file import with_card
from lrp_edge.export.read import card_of
from lrp_edge.export.verify.parity import random_frames
from lrp_edge.runtime.engines import open_engine
from lrp_edge.runtime.onnx_edit import set_metadata, set_scalar
from tests.support.exported import CARD, RGB, export_once, tiny

FRAMES = np.stack(random_frames((64, 64), 3, 8))
#: Morphology and resizing have constants of one half of their own, which must not be the threshold.
HALVES = MaskSpec("otsu", smoothing="guided:5", close=3)


def spread(classes=5, activation="softmax"):
    """Return a classifier whose P(defect) differs between noisy frames, and the values' middle."""
    model = tiny(3, classes=classes)
    card = narrowed(classes, activation)
    with torch.no_grad():
        logits = model(Preprocess(RGB)(torch.from_numpy(FRAMES)))
        centre = logits.mean(0)
        model[-1].weight.mul_(60)
        model[-1].bias.copy_(model[-1].bias * 60 - centre * 60 + torch.linspace(0.3, -0.3, classes))
        logits = model(Preprocess(RGB)(torch.from_numpy(FRAMES)))
    scores = logits.softmax(1) if activation == "softmax" else logits.sigmoid()
    ordered = np.sort(defect_probability(card, scores.numpy()))
    return model, float(ordered[3:5].mean())


def narrowed(classes=5, activation="softmax", **changes):
    spec = dataclasses.replace(RGB, max_batch=8)
    names = CARD.classes[:classes]
    card = ModelCard(names, names[1:], spec, explained="evidence", activation=activation, mask=HALVES)
    return card.replace(**changes)


def session(model):
    data = model if isinstance(model, bytes) else str(model)
    return onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])


def answers(model, frames=FRAMES):
    return session(model).run(None, {"image": frames})


@pytest.mark.parametrize(
    ("classes", "activation", "precision"),
    [(2, "softmax", "fp32"), (5, "softmax", "fp16"), (2, "sigmoid", "fp32"), (5, "sigmoid", "fp32")],
)
def test_labels_and_masks_follow_the_threshold(classes, activation, precision, tmp_path):
    model, middle = spread(classes, activation)
    card = narrowed(classes, activation, precision=precision, decision=DecisionSpec(float(np.float32(middle))))
    scores, label, mask, _ = answers(export_once(model, tmp_path, card=card))
    is_defect = label > 0
    assert set(is_defect) == {True, False}
    assert np.array_equal(label, decide(card, scores))
    assert mask.any((1, 2)).tolist() == is_defect.tolist()


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_openvino_decides_alike(activation, tmp_path):
    pytest.importorskip("openvino")
    model, middle = spread(activation=activation)
    card = narrowed(activation=activation, decision=DecisionSpec(float(np.float32(middle))))
    file = export_once(model, tmp_path, card=card)
    for threshold in np.linspace(0.1, 0.9, 5):
        file.write_bytes(set_scalar(file.read_bytes(), THRESHOLD, threshold))
        with open_engine(file, "openvino") as engine:
            found = engine.run(FRAMES)
        scores, label, mask, _ = answers(file)
        assert np.array_equal(found.label, label)
        assert np.array_equal(label > 0, defect_probability(card, scores) > np.float32(threshold))
        assert np.array_equal(found.mask.any((1, 2)), mask.any((1, 2)))


@pytest.mark.parametrize(("precision", "gate"), [("fp32", True), ("fp16", False), ("bf16", False), ("int8", True)])
def test_a_patched_file_is_the_one_that_is_exported_so(precision, gate, tmp_path):
    model, middle = spread()
    frames = FRAMES if precision == "int8" else ()
    plain = narrowed(precision=precision, gate=gate)
    files = [
        export_once(model, tmp_path / str(place), card=card, frames=frames)
        for place, card in enumerate((plain, plain.replace(decision=DecisionSpec(float(np.float32(middle))))))
    ]
    proto = onnx.load(files[0])
    graph = proto.graph
    (threshold,) = [each for each in graph.initializer if each.name == THRESHOLD]
    assert (threshold.data_type, list(threshold.dims)) == (onnx.TensorProto.FLOAT, [])
    assert onnx.numpy_helper.to_array(threshold) == 0.5
    assert [each.op_type for each in graph.node if THRESHOLD in each.input] == ["Greater"]
    card = card_of(files[1])
    patched = set_metadata(set_scalar(files[0].read_bytes(), THRESHOLD, middle), METADATA_KEY, card.to_json())
    threshold.CopyFrom(onnx.numpy_helper.from_array(np.array(middle, np.float32), THRESHOLD))
    assert onnx.load_from_string(patched) == with_card(proto, card)
    # What int8 keeps in float16 depends on masks and labels, and so on the threshold.
    if precision != "int8":
        assert onnx.load_from_string(patched) == onnx.load(files[1])
    if precision in ("fp32", "fp16"):  # ONNX Runtime has no convolution in bfloat16
        found, expected = answers(patched), answers(files[1])
        assert [np.array_equal(*pair) for pair in zip(found, expected, strict=True)] == [True] * 4
        assert 0 < (found[1] > 0).sum() < len(FRAMES)


def test_the_gate_is_open_for_what_is_decided_a_defect(tmp_path):
    model, middle = spread()
    card = narrowed(gate=True, decision=DecisionSpec(float(np.float32(middle))))
    gated = session(export_once(model, tmp_path, card=card))
    for frame in FRAMES:
        _, label, mask, relevance = gated.run(None, {"image": frame[None]})
        assert (bool(label[0]), bool(mask.any()), bool(relevance.any())) == (bool(label[0]),) * 3


def test_an_uncalibrated_export_has_one_half_and_says_so(tmp_path):
    """Among five classes OK may be the most likely one and a defect still the likelier side."""
    model = tiny(favour=0)
    model[-1].weight.data.zero_()
    model[-1].bias.data = torch.tensor([0.3, 0.25, 0.2, 0.15, 0.1]).log()
    file = export_once(model, tmp_path, card=narrowed())
    assert card_of(file).decision == DecisionSpec()
    assert card_of(file).parity["threshold"] == 0.5
    assert answers(file)[1].tolist() == [1] * len(FRAMES)


def test_a_card_without_a_decision_is_the_rule_of_before():
    model, _ = spread()
    deployable = Deployable(model, narrowed(), (64, 64)).eval()
    assert "decision.threshold" not in dict(deployable.named_buffers())
    with torch.no_grad():
        scores, label, *_ = deployable(torch.from_numpy(FRAMES))
    assert torch.equal(label.long(), scores.argmax(1))


@pytest.mark.parametrize("threshold", [0.1, 0.9])
def test_the_class_that_is_decided_is_explained(threshold):
    """Not the class with the greatest score, where that is another one."""
    model, _ = spread()
    model[-1].bias.data[0] += 0.5
    card = narrowed(decision=DecisionSpec(threshold), explained="predicted")
    decided = Deployable(model, card, (64, 64)).eval()
    with torch.no_grad():
        scores, labels, _, relevance = decided(torch.from_numpy(FRAMES))
    other = [index for index, label in enumerate(labels) if label != scores[index].argmax()]
    assert other
    for index in other:
        fixed = Deployable(model, card, (64, 64), explained=card.classes[labels[index]]).eval()
        with torch.no_grad():
            assert torch.equal(fixed(torch.from_numpy(FRAMES))[3][index], relevance[index])


@pytest.mark.parametrize(("activation", "precision"), [("softmax", "fp32"), ("sigmoid", "fp16")])
def test_tensorrt_rtx_compiles_it(activation, precision, tmp_path):
    pytest.importorskip("tensorrt_rtx")
    model, middle = spread(activation=activation)
    decision = DecisionSpec(float(np.float32(middle)))
    card = narrowed(5, activation, precision=precision, gate=precision == "fp32", explained="predicted")
    file = export_once(model, tmp_path, card=card.replace(decision=decision))
    engine = to_engine(file, gpus=("sm86",), batch=(1, 1, 2))
    described = ModelCard.from_json(engine.with_suffix(".json").read_text())
    assert described.decision == decision


def test_dynamic_frames_that_are_resized(tmp_path):
    """The exporter merges constants of equal value: resizing has halves too."""
    spec = InputSpec(resize=(48, 48), max_batch=2)
    model, middle = spread()
    file = export_once(model, tmp_path, card=narrowed().replace(input=spec))
    moved = set_scalar(file.read_bytes(), THRESHOLD, middle)
    frames = np.stack(random_frames((40, 70), 3, 2))
    for before, after in zip(answers(file, frames)[::3], answers(moved, frames)[::3], strict=True):
        assert np.array_equal(before, after)
