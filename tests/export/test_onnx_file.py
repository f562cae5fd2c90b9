"""Exported files: the contract, parity with PyTorch, TensorRT-RTX's builder, and nothing left behind on failure."""

import hashlib
import importlib.util
import itertools
import json
from dataclasses import replace

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from lrp_edge import ModelCard
from lrp_edge.card import InputSpec, MaskSpec
from lrp_edge.classifiers import vgg
from lrp_edge.errors import LrpEdgeError
from lrp_edge.export import to_engine, to_onnx
from lrp_edge.export.deployable import Deployable, Preprocess
from lrp_edge.export.verify import parity
from lrp_edge.relevance import Assignment, composite_from
from lrp_edge.relevance.layers import Kind
from lrp_edge.relevance.masks import HEADS
from lrp_edge.relevance.rules import ZPlus
from lrp_edge.runtime import Segmenter
from lrp_edge.synthetic import KINDS, draw
from tests.support.exported import CARD, CLASSES, RGB, tiny
from tests.support.marks import quick_of
from tests.support.oracles import PRESETS, SMALL_FAMILIES, random_cnn, small_family, torchvision_model

COMPOSITES = (*PRESETS, "Segmentation")


def card(**changes):
    return CARD.replace(**changes)


# All composites for one family, one for another.
QUICK_FAMILIES = [*(("vgg_bn", composite) for composite in COMPOSITES), ("bottleneck_resnet", "Segmentation")]


@pytest.mark.parametrize(("name", "composite"), quick_of(itertools.product(SMALL_FAMILIES, COMPOSITES), QUICK_FAMILIES))
def test_families_agree_with_pytorch(name, composite, tmp_path):
    # AlphaBeta subtracts what is nearly alike, and few channels leave the roundings uneven.
    assert_agreement(small_family(name), composite, tmp_path, 5e-4 if "Beta" in composite else 1e-4)


@pytest.mark.thorough
@pytest.mark.parametrize("composite", COMPOSITES)
@pytest.mark.parametrize("name", ["vgg11", "vgg16_bn", "resnet18", "resnet50"])
def test_torchvision_families_agree_with_pytorch(name, composite, tmp_path):
    assert_agreement(torchvision_model(name), composite, tmp_path)


def assert_agreement(model, composite, folder, tolerance=1e-4):
    """ONNX Runtime in float32 against PyTorch, whose own float32 is the less exact of the two."""
    file = to_onnx(model.float(), folder, card=card(composite=composite))
    figures = Segmenter(file).card.parity
    print(f"{composite}: relevance within {figures['relevance_max']:.1e}")
    assert figures["relevance_max"] <= tolerance
    assert figures["scores_max"] <= 1e-5
    assert figures["label_agreement"] == 1


QUICK_SIZES = [("vgg_bn", None), ("basic_resnet", (64, 64))]


@pytest.mark.parametrize(
    ("name", "size"), quick_of(itertools.product(["vgg_bn", "basic_resnet"], [(64, 64), None]), QUICK_SIZES)
)
def test_families_compile_with_tensorrt_rtx(name, size, tmp_path):
    compile_family(small_family(name), name, size, tmp_path, QUICK)


@pytest.mark.thorough
@pytest.mark.parametrize("size", [(64, 64), None])
@pytest.mark.parametrize("name", ["vgg11_bn", "resnet18"])
def test_torchvision_families_compile_with_tensorrt_rtx(name, size, tmp_path):
    compile_family(torchvision_model(name), name, size, tmp_path, ALL_GPUS)


def compile_family(model, name, size, folder, gpus):
    pytest.importorskip("tensorrt_rtx")
    spec = InputSpec(size=size, resize=(64, 64) if size is None and name.startswith("vgg") else None)
    check_engine(to_onnx(model.float(), folder, card=card(input=spec)), gpus)


QUICK_CNNS = [(0, "EpsilonGammaBox"), (0, "EpsilonAlpha2Beta1Flat")]


@pytest.mark.parametrize(("seed", "composite"), quick_of(itertools.product(range(3), PRESETS), QUICK_CNNS))
def test_random_cnns_compile_with_tensorrt_rtx(seed, composite, tmp_path):
    pytest.importorskip("tensorrt_rtx")
    classes = CLASSES[: random_cnn(seed)[-1].out_features]
    spec = InputSpec(size=(65, 70), max_batch=3)
    file = to_onnx(random_cnn(seed).float(), tmp_path, card=ModelCard(classes, classes[1:], spec, composite=composite))
    check_engine(file)


# The threshold of "calibrated" is a constant.
QUICK_HEADS = [*((method, (48, 64)) for method in HEADS if method not in ("otsu", "calibrated")), ("otsu", None)]


@pytest.mark.parametrize(("method", "size"), quick_of(itertools.product(HEADS, [(48, 64), None]), QUICK_HEADS))
def test_mask_heads_compile_with_tensorrt_rtx(method, size, tmp_path):
    pytest.importorskip("tensorrt_rtx")
    smoothing = {"otsu": "gaussian:1.5", "gmm": "median:3", "isodata": "box:3"}.get(method, "none")
    parameters = {"threshold": 0.01} if method == "calibrated" else {"contrast": 0.5, "thick": 9}
    mask = MaskSpec(method, parameters, smoothing, close=3, open=3)
    file = to_onnx(tiny(), tmp_path, card=card(input=InputSpec(size=size), mask=mask))
    check_engine(file)


@pytest.mark.parametrize("size", [pytest.param((64, 96), marks=pytest.mark.thorough), None])
def test_what_training_makes_agrees_with_pytorch_and_compiles(size, tmp_path):
    """Soft maximum, standardised frames, evidence of all defects, guided smoothing, spread and floor."""
    torch.manual_seed(0)
    model = vgg("A", channels=1, classes=5, width=0.1, pools=3, pooling="lse").eval()
    torch.nn.init.normal_(model.head.weight)
    spec = InputSpec("GRAY", (0.5,), (0.2,), size, network_order="GRAY", standardise=True)
    mask = MaskSpec("otsu", {"floor": 1e-6, "spread": 100.0}, "guided:9")
    file = to_onnx(model, tmp_path, card=card(input=spec, explained="evidence", mask=mask))
    figures = Segmenter(file).card.parity
    assert figures["relevance_max"] <= 1e-4
    assert figures["mask_iou_mean"] > 0.99
    if importlib.util.find_spec("tensorrt_rtx"):
        check_engine(file)


OUTLINED = MaskSpec(
    "otsu",
    {
        "fraction": 0.75,
        "two_means": 3,
        "contrast": 0.75,
        "window": 15,
        "thick": 9,
        "area_fraction": 0.05,
        "area_close": 21,
    },
    area_classes=("hole", "stain"),
)


@pytest.mark.parametrize(
    ("network", "stride", "precision"),
    [*(("tiny", 2, precision) for precision in ("fp32", "fp16", "bf16", "int8")), ("basic_resnet", 4, "fp32")],
)
@pytest.mark.parametrize("size", [(64, 96), pytest.param(None, marks=pytest.mark.thorough)])
def test_relevance_of_a_stage_with_outlines_and_areas_agrees_and_compiles(network, stride, precision, size, tmp_path):
    model = tiny() if network == "tiny" else small_family(network).float()
    chosen = card(
        input=InputSpec(size=size, max_batch=4),
        mask=replace(OUTLINED, parameters={**OUTLINED.parameters, "area_extent": 1500.0}),
        relevance_stride=stride,
        precision=precision,
        explained="evidence",
    )
    frames = [draw(kind, seed, (64, 96))[0][..., None].repeat(3, 2) for seed, kind in enumerate(KINDS * 2)]
    file = to_onnx(model, tmp_path, card=chosen, frames=frames)
    # ONNX Runtime computes no convolution in bf16 on a CPU.
    figures = ModelCard.from_json(file.with_suffix(".json").read_text()).parity
    print(f"{precision}: {figures}")
    if precision == "fp32":
        assert figures["relevance_max"] <= 1e-4
        assert figures["mask_iou_mean"] > 0.99
    if importlib.util.find_spec("tensorrt_rtx"):
        assert to_engine(file, gpus=QUICK, cache=False).stat().st_size > 10_000


@pytest.mark.parametrize("favour", [1, 3])
def test_the_decided_label_chooses_the_head(favour, tmp_path):
    """Class 3 is one of areas; a resized frame's relevance comes from the stage through both sizes."""
    spec = InputSpec(size=None, resize=(48, 64))
    model = tiny(favour=favour)
    # All classes have positive relevance, and so a mask.
    model[-1].weight.data.abs_()
    mask = replace(OUTLINED, parameters={**OUTLINED.parameters, "area_fraction": 0.8})
    named = card(input=spec, mask=mask, relevance_stride=2)
    frame = draw("blowhole", 3, (90, 120))[0][..., None].repeat(3, 2)
    found = Segmenter(to_onnx(model, tmp_path, card=named))(frame)
    deployable = Deployable(model, named, (48, 64)).eval()
    with torch.no_grad():
        relevance = deployable.explain(torch.from_numpy(frame[None]))[1]
    assert np.allclose(found.relevance, relevance[0], atol=1e-5 * float(relevance.abs().max()))
    above = (relevance[0] > 0.8 * relevance.max()).numpy().astype(np.uint8)
    filled = cv2.morphologyEx(above, cv2.MORPH_CLOSE, np.ones((21, 21), np.uint8)) > 0
    assert 0.01 < filled.mean() < 0.99
    assert (np.mean((found.mask > 0) != filled) < 1e-3) == (favour == 3)


QUICK, ALL_GPUS = ("sm86",), ("sm86", "sm89", "sm120")


def check_engine(file, gpus=QUICK):
    engine = to_engine(file, gpus=gpus, cache=False)
    side = json.loads(engine.with_suffix(".json").read_text())
    assert engine.name.startswith("model.rtx-")
    assert engine.name.endswith(f".{'-'.join(gpus)}.fp32.engine")
    # Much more than the weights is a sign of an expression that the builder writes out again at each of its uses.
    assert 10_000 < engine.stat().st_size < 2**25 + file.stat().st_size
    assert side["engine"]["engine_sha256"] == hashlib.sha256(engine.read_bytes()).hexdigest()


def test_the_contract(tmp_path):
    file = to_onnx(tiny(), tmp_path / "new" / "folder", card=card(input=InputSpec(size=None, max_batch=4)))
    session = onnxruntime.InferenceSession(file)
    tensors = {t.name: (t.type, t.shape) for t in (*session.get_inputs(), *session.get_outputs())}
    assert tensors == {
        "image": ("tensor(uint8)", ["N", "H", "W", 3]),
        "scores": ("tensor(float)", ["N", 5]),
        "label": ("tensor(int32)", ["N"]),
        "mask": ("tensor(uint8)", ["N", "H", "W"]),
        "relevance": ("tensor(float)", ["N", "H", "W"]),
    }
    proto = onnx.load(file)
    onnx.checker.check_model(proto, full_check=True)
    assert [entry.version for entry in proto.opset_import if not entry.domain] == [18]
    assert ModelCard.from_json((file.with_suffix(".json")).read_text()) == Segmenter(file).card
    assert sorted(path.name for path in file.parent.iterdir()) == ["model.json", "model.onnx"]
    text = file.read_bytes()
    assert b"site-packages" not in text
    assert b".py" not in text


def test_dynamic_sizes_and_batches(tmp_path):
    model = tiny()
    file = to_onnx(model, tmp_path, card=card(input=InputSpec(size=None, max_batch=4)))
    session = onnxruntime.InferenceSession(file)
    reference = Deployable(model, Segmenter(file).card, (64, 64)).double()
    for shape in ((1, 40, 56, 3), (4, 61, 33, 3)):
        frames = np.stack(parity.random_frames(shape[1:3], 3, shape[0]))
        got = session.run(None, {"image": frames})
        expected = [output.numpy() for output in reference(torch.from_numpy(frames))]
        assert np.array_equal(got[1], expected[1])
        assert np.allclose(got[3], expected[3], atol=1e-5 * np.abs(expected[3]).max())
        assert (got[2] != expected[2]).mean() < 1e-3


def test_a_frame_decided_ok_has_an_empty_mask(tmp_path):
    frames = parity.random_frames((64, 64), 3, 1)
    for favoured in (0, 2):
        result = Segmenter(to_onnx(tiny(favour=favoured), tmp_path, card=card(mask=MaskSpec("fixed"))))(frames[0])
        assert (result.name, result.defect) == (CLASSES[favoured], favoured > 0)
        assert bool(result.mask.any()) == (favoured > 0)
        assert set(np.unique(result.mask)) <= {0, 255}


@pytest.mark.parametrize(
    ("order", "network_order"),
    [("BGR", "RGB"), ("RGB", "RGB"), ("BGR", "GRAY"), ("RGB", "GRAY"), ("GRAY", "RGB")],
)
def test_preprocessing_is_that_of_opencv(order, network_order):
    import cv2

    channels = 1 if network_order == "GRAY" else 3
    mean, std = (0.5, 0.4, 0.3)[:channels], (0.2, 0.25, 0.3)[:channels]
    spec = InputSpec(order, mean, std, network_order=network_order)
    frame = parity.random_frames((40, 30), spec.channels, 1)[0]
    code = getattr(cv2, f"COLOR_{order}2{network_order}", None) if order != network_order else None
    converted = frame if code is None else cv2.cvtColor(frame, code).reshape(40, 30, -1)
    expected = (converted / 255 - np.array(mean)) / np.array(std)
    got = Preprocess(spec)(torch.from_numpy(frame[None]))[0].permute(1, 2, 0).numpy()
    # OpenCV rounds its luma to whole levels.
    assert np.allclose(got, expected, atol=0.51 / 255 / min(std) if network_order == "GRAY" else 1e-5)


def test_resize_is_inside_and_outputs_have_the_frame_s_size(tmp_path):
    spec = InputSpec(size=None, resize=(32, 48))
    result = Segmenter(to_onnx(tiny(), tmp_path, card=card(input=spec)))(parity.random_frames((90, 70), 3, 1)[0])
    assert result.mask.shape == result.relevance.shape == (90, 70)


def test_calibration_keeps_defect_free_frames_empty(tmp_path):
    frames = parity.random_frames((64, 64), 3, 20)
    model = tiny(favour=2)
    chosen = card(mask=MaskSpec("calibrated", smoothing="gaussian:1.0"))
    file = to_onnx(model, tmp_path, card=chosen, calibration=frames, false_alarm_rate=0.1)
    segmenter = Segmenter(file)
    assert segmenter.card.mask.parameters["threshold"] > 0
    assert "20 defect-free frames" in segmenter.card.mask.found
    assert sum(segmenter(frame).mask.any() for frame in frames) <= 2


def test_a_threshold_is_found_where_rules_keep_signs(tmp_path):
    frames = parity.random_frames((64, 64), 3, 6)
    chosen = card(mask=MaskSpec("calibrated"), explained="contrast")
    keeping = composite_from("Segmentation", {}).override(Assignment(ZPlus(), frozenset({Kind.LINEAR})))
    # Nothing speaks for a defect's lead in these frames, but for defects by themselves.
    file = to_onnx(tiny(), tmp_path, card=chosen, composite=keeping, calibration=frames, false_alarm_rate=0.0)
    assert Segmenter(file).card.mask.parameters["threshold"] > 0
    silent = tiny()
    silent[-1].weight.data.zero_()
    with pytest.raises(LrpEdgeError, match="6 defect-free frames have no relevance that speaks for a defect"):
        to_onnx(silent, tmp_path, card=chosen, calibration=frames, name="silent")
    assert not list(tmp_path.glob("silent*"))


@pytest.mark.parametrize("name", ["false_alarm_rate", "false_alarms"])
def test_a_share_of_frames_is_taken_by_its_former_name_too(name, tmp_path):
    frames = parity.random_frames((64, 64), 3, 8)
    found = []
    for rate in (0.0, 0.5):
        chosen = card(mask=MaskSpec("calibrated"))
        file = to_onnx(tiny(favour=2), tmp_path, card=chosen, calibration=frames, **{name: rate})
        found.append(Segmenter(file).card.mask)
    assert found[0].parameters["threshold"] > found[1].parameters["threshold"]
    assert "50.0% of them above it" in found[1].found
    with pytest.raises(LrpEdgeError, match="false_alarm_rate is 2; expected 0 to 1"):
        to_onnx(tiny(), tmp_path, card=card(), **{name: 2})


def test_a_box_follows_the_pixels(tmp_path):
    low, high = Preprocess(RGB).pixel_range()
    assert np.allclose(low, [-m / s for m, s in zip(RGB.mean, RGB.std, strict=True)])
    assert np.allclose(high, [(1 - m) / s for m, s in zip(RGB.mean, RGB.std, strict=True)])
    file = to_onnx(tiny(), tmp_path, card=card(composite="EpsilonGammaBox"))
    assert Segmenter(file).card.parity["relevance_l2"] < 1e-4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": ("ok", "crack"), "defects": ("crack",)}, "5 outputs, but 2 classes"),
        ({"mask": MaskSpec("calibrated")}, "needs defect-free frames"),
        ({"composite": "EpsilonMinus"}, "no composite 'EpsilonMinus'"),
    ],
)
def test_what_cannot_be_exported_leaves_nothing(changes, message, tmp_path):
    with pytest.raises(LrpEdgeError, match=message):
        to_onnx(tiny(), tmp_path, card=card(**changes))
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_disagrees_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setitem(parity.SOUND, "fp32", parity.Tolerance(0, -1, 1, 0))
    with pytest.raises(LrpEdgeError, match=r"not what PyTorch computes: scores differ by .* \(at most -1 expected\)"):
        to_onnx(tiny(), tmp_path, card=CARD)
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_fixes_its_size_says_so(tmp_path):
    nn = torch.nn
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 222 * 222, 5))
    with pytest.raises(LrpEdgeError, match="--size HxW"):
        to_onnx(model, tmp_path, card=card(input=InputSpec(size=None, resize=None)))
    fixed = to_onnx(model, tmp_path, card=card(input=InputSpec(size=(224, 224))))
    assert Segmenter(fixed).card.parity["label_agreement"] == 1
