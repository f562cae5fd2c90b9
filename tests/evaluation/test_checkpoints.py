"""What is measured on a checkpoint: LRP, Grad-CAM, gray and the U-Net, sanity checks, sweep, report, calibration."""

import csv
import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from torch.nn import functional

from lrp_edge import synthetic
from lrp_edge.checkpoint import load_checkpoint, save_checkpoint
from lrp_edge.datasets import open_dataset, read_split
from lrp_edge.errors import LrpEdgeError
from lrp_edge.evaluation import evaluate, open_predictor
from lrp_edge.evaluation.report import write_report
from lrp_edge.evaluation.sanity import check_sanity, randomise
from lrp_edge.evaluation.sweep import as_csv, draw_heat_map, sweep
from lrp_edge.export import to_onnx
from lrp_edge.runtime import Segmenter
from lrp_edge.training import Options, heads, train
from lrp_edge.training.calibration import calibrated

OPTIONS = Options(
    model="vgg", width=0.12, epochs=40, mark_epochs=10, patch=64, batch=16, look_from=12, look_every=4, val_every=20,
    lr=4e-3, ema=0.9, test=0.3, val=0.2,
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def line(tmp_path_factory):
    folder = tmp_path_factory.mktemp("line")
    synthetic.write_dataset(folder, 120, size=(96, 112))
    return folder


@pytest.fixture(scope="module")
def dataset(line):
    return open_dataset(line / "images", masks=line / "masks")


@pytest.fixture(scope="module")
def run(line, dataset, tmp_path_factory):
    return train(dataset, tmp_path_factory.mktemp("run"), OPTIONS, progress=False)


@pytest.fixture(scope="module")
def unet(dataset, tmp_path_factory):
    options = replace(OPTIONS, model="unet", stem=2, epochs=20, val_every=10, guided=0.7, dropout=0.0)
    return train(dataset, tmp_path_factory.mktemp("unet"), options, progress=False)


def test_a_checkpoint_answers_as_its_exported_file(run, dataset, tmp_path):
    network, card = load_checkpoint(run.checkpoint)
    file = to_onnx(network, tmp_path, card=card)
    direct, exported = open_predictor(run.checkpoint), Segmenter(file)
    frames = [cv2.imread(str(sample.path), cv2.IMREAD_GRAYSCALE)[:, :, None] for sample in dataset.samples[::8]]
    answers = [(direct(frame), exported(frame)) for frame in frames]
    strengths = [np.abs(theirs.relevance).max() for _, theirs in answers]
    for (ours, theirs), strength in zip(answers, strengths, strict=True):
        assert (ours.label, ours.name, ours.defect) == (theirs.label, theirs.name, theirs.defect)
        assert np.allclose(ours.scores, theirs.scores, atol=1e-5)
        # A frame with hardly any evidence has relevance that is left over from cancelling float32 logits.
        assert np.abs(ours.relevance - theirs.relevance).max() <= 1e-4 * max(strength, 1e-3 * max(strengths))
        assert (ours.mask != theirs.mask).mean() < 1e-3


def test_gradcam_is_the_weighted_sum_of_features(run, dataset):
    network, card = load_checkpoint(run.checkpoint)
    predictor = open_predictor(run.checkpoint, "gradcam")
    for sample in dataset.samples[::40]:
        frame = cv2.imread(str(sample.path), cv2.IMREAD_GRAYSCALE)[:, :, None]
        found = predictor(frame)
        image = predictor._preprocess(torch.from_numpy(frame[None]))
        features = network.features(image).detach().requires_grad_()
        logits = network.classify(features)
        defects = list(card.defect_indices)
        logits[0, defects].max().backward()
        weighted = (features.grad.mean((2, 3), keepdim=True) * features).sum(1, keepdim=True).clamp(min=0).detach()
        expected = functional.interpolate(weighted, frame.shape[:2], mode="bilinear", align_corners=False)[0, 0].numpy()
        if expected.max() > expected.min():
            expected = (expected - expected.min()) / (expected.max() - expected.min())
            assert np.abs(found.relevance - expected).max() < 1e-4


def test_inverted_gray_is_the_image(run, dataset):
    predictor = open_predictor(run.checkpoint, "inverted-gray")
    frame = cv2.imread(str(dataset.samples[0].path), cv2.IMREAD_GRAYSCALE)[:, :, None]
    assert np.array_equal(predictor(frame).relevance, 255.0 - frame[..., 0])


def test_a_unet_learns_the_masks_and_is_measured_by_the_same_code(unet, dataset):
    assert unet.card.provenance["supervision"] == "pixel"
    history = json.loads((unet.checkpoint.parent / "metrics.json").read_text())["epochs"]
    assert history[-1]["loss"] < 0.9 * history[0]["loss"]
    result = evaluate(unet.checkpoint, dataset, split=unet.checkpoint.parent / "split.json")
    assert result.supervision == "pixel"
    assert result.pixels["all defects"].auroc > 0.8
    case = next(case for case in result.cases if case.found.area)
    assert case.decided in dataset.classes
    with pytest.raises(LrpEdgeError, match="is a U-Net"):
        open_predictor(unet.checkpoint, "gradcam")
    with pytest.raises(LrpEdgeError, match="is a U-Net"):
        check_sanity(unet.checkpoint, dataset)


def test_masks_could_be_deleted_from_disk_without_any_change(line, run, tmp_path):
    bare = open_dataset(line / "images")
    assert all(sample.mask is None for sample in bare.samples)
    again = train(bare, tmp_path / "bare", OPTIONS, progress=False)
    assert again.card.mask == run.card.mask
    first, second = (load_checkpoint(result.checkpoint)[0].state_dict() for result in (run, again))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_calibration_keeps_ok_images_nearly_empty(run, dataset):
    parts = read_split(run.checkpoint.parent / "split.json", dataset)
    chosen = (run.card.mask.method, run.card.mask.smoothing)
    assert chosen in {(method, smoothing) for method, _ in heads.THRESHOLDS for smoothing in heads.SMOOTHINGS}
    assert run.card.mask.parameters["floor"] >= 0
    predictor, share = open_predictor(run.checkpoint), []
    for sample in parts.val.samples:
        if sample.label == "ok":
            mask = predictor(cv2.imread(str(sample.path), cv2.IMREAD_GRAYSCALE)[:, :, None]).mask
            share.append((mask > 0).mean())
    assert np.mean(share) <= 1.5 * OPTIONS.false_alarms + 1e-4


def test_the_floor_is_set_even_if_no_synthetic_defect_is_detected(run, dataset):
    network, card = load_checkpoint(run.checkpoint)
    with torch.no_grad():
        network.head.weight.zero_()
        network.head.bias[list(card.defect_indices)] = -9.0
    spec = calibrated(network, card, dataset, 0.001)
    assert (spec.method, spec.parameters) == (card.mask.method, {**card.mask.parameters, "floor": 0.0})
    assert spec.found.startswith("no synthetic defect is detected")


def test_sanity(run, dataset):
    found = check_sanity(run.checkpoint, dataset)
    assert found["images"] == 24
    assert found["pixel_auroc"] > found["pixel_auroc_random"]
    assert found["rank_correlation_random"] < 0.9
    assert found["rank_correlation_other_class"] < 1
    assert found == check_sanity(run.checkpoint, dataset)


def test_shuffled_weights_are_the_same_values_elsewhere(run):
    network, _ = load_checkpoint(run.checkpoint)
    shuffled = randomise(network, 0)
    for name, weight in network.state_dict().items():
        other = shuffled.state_dict()[name]
        if weight.ndim > 1:
            assert torch.equal(weight.flatten(1).sort(1).values, other.flatten(1).sort(1).values)
            assert not torch.equal(weight, other) or not weight.any()
        else:
            assert torch.equal(weight, other)


def test_a_sweep_measures_what_evaluate_measures(run, dataset, tmp_path):
    part = dataset.subset(range(0, 120, 4))
    rows = sweep(
        run.checkpoint,
        part,
        composites=("Segmentation", "EpsilonPlus"),
        masks=("otsu", "fixed:fraction=0.2"),
        smoothings=("none", "guided:5"),
    )
    assert len(rows) == 8
    assert [row.iou for row in rows] == sorted((row.iou for row in rows), reverse=True)
    network, card = load_checkpoint(run.checkpoint)
    row = next(
        r for r in rows if (r.composite, r.mask, r.smoothing) == ("EpsilonPlus", "fixed:fraction=0.2", "guided:5")
    )
    mask = replace(card.mask, method="fixed", parameters={"fraction": 0.2}, smoothing="guided:5")
    own = save_checkpoint(tmp_path / "own.safetensors", network, card.replace(composite="EpsilonPlus", mask=mask))
    predictor = open_predictor(own)
    predictor.deployable.decision.is_defect[:] = True
    whole = evaluate(predictor, part).pixels["all defects"]
    assert (row.iou, row.precision, row.recall) == pytest.approx((whole.iou, whole.precision, whole.recall))
    table = list(csv.DictReader(as_csv(rows).splitlines()))
    assert float(table[0]["iou"]) == pytest.approx(rows[0].iou, abs=1e-5)
    draw_heat_map(rows, tmp_path / "heat.png")
    assert cv2.imread(str(tmp_path / "heat.png")).shape[0] > 100
    for wrong, message in (
        ({"composites": ("Nothing",)}, "composites are Nothing; expected one or more of"),
        ({"masks": ("nothing",)}, "no mask head"),
        ({"masks": ("fixed:fraction",)}, "expected NAME"),
    ):
        with pytest.raises(LrpEdgeError, match=message):
            sweep(run.checkpoint, part, **wrong)


def test_the_report_shows_figures_and_cases(run, dataset, tmp_path):
    predictor = open_predictor(run.checkpoint)
    result = evaluate(predictor, dataset, split=run.checkpoint.parent / "split.json")
    result.sanity = check_sanity(run.checkpoint, dataset)
    page = write_report(tmp_path / "report", result, predictor, dataset, "a <line>", "model").read_text()
    assert "a &lt;line&gt;" in page
    assert page.count("data:image/png;base64,") >= 2 + 4 * 6
    for value in (result.auroc, result.pixels["all defects"].iou, result.sanity["pixel_auroc_random"]):
        assert f"{value:.3f}" in page
    assert json.loads((tmp_path / "report" / "evaluation.json").read_text())["images"] == result.images


def test_methods_that_do_not_fit(run, tmp_path):
    with pytest.raises(LrpEdgeError, match="method is 'saliency'; expected lrp, gradcam or inverted-gray"):
        open_predictor(run.checkpoint, "saliency")
    with pytest.raises(LrpEdgeError, match="masks of its own graph"):
        open_predictor(tmp_path / "model.onnx", "gradcam")
