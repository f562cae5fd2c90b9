"""evaluate, sweep and calibrate from the command line, on one small run."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest
from typer.testing import CliRunner

from lrp_edge import synthetic
from lrp_edge.checkpoint import load_checkpoint, save_checkpoint
from lrp_edge.cli import app
from lrp_edge.errors import LrpEdgeError
from lrp_edge.export.read import card_of


def lrp_edge(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("line")
    synthetic.write_dataset(folder, 48, size=(80, 96))
    options = (
        "--model",
        "vgg",
        "--width",
        0.08,
        "--epochs",
        6,
        "--mark-epochs",
        2,
        "--patch",
        64,
        "--batch",
        8,
        "--ema",
        0.8,
        "--lr",
        5e-3,
    )
    lrp_edge("train", folder / "images", "-o", folder / "run", *options, "--val", 0.2, "--no-progress")
    return folder


def test_evaluate_prints_and_writes_what_it_found(line: Path, tmp_path: Path) -> None:
    run = line / "run"
    output = lrp_edge(
        *("evaluate", run / "model.safetensors", line / "images", "--masks", line / "masks"),
        *("--split", run / "split.json", "--json", tmp_path / "figures.json", "--markdown", tmp_path / "figures.md"),
        *("--report", tmp_path / "report", "--sanity", "--false-alarm-rate", 0.1),
    )
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert f"class AUROC {figures['auroc']:.3f}" in " ".join(output.split())
    assert "10% false alarms" in " ".join(output.split())
    assert figures["sanity"]["images"] > 0
    assert "| all defects |" in (tmp_path / "figures.md").read_text()
    verdict = figures["usability"]["unusable"]
    assert ("not usable: " if verdict else "usable: class and mask are better than chance") in output
    assert figures["usability"]["part"] == "test images"
    assert "proof of location" in (tmp_path / "report" / "index.html").read_text()
    assert "data:image/png" in (tmp_path / "report" / "index.html").read_text()
    with pytest.raises(LrpEdgeError, match="--sanity shuffles the weights"):
        lrp_edge("evaluate", run / "model.safetensors", line / "images", "--sanity", "--method", "gradcam")


def test_sweep_writes_table_and_heat_map(line: Path, tmp_path: Path) -> None:
    run = line / "run"
    output = lrp_edge(
        *("sweep", run / "model.safetensors", line / "images", "--masks", line / "masks", "-o", tmp_path),
        *("--split", run / "split.json", "--composites", "Segmentation,EpsilonPlus", "--heads", "card;otsu"),
        *("--smoothings", "none,guided:5"),
    )
    assert "8 combinations, best IoU first" in output
    assert len((tmp_path / "sweep.csv").read_text().splitlines()) == 9
    assert cv2.imread(str(tmp_path / "sweep.png")) is not None


def test_calibrate_sets_decision_and_mask_as_training_does(line: Path, tmp_path: Path) -> None:
    run = line / "run"
    arguments = ("calibrate", run / "model.safetensors", line / "images", "--split", run / "split.json")
    output = lrp_edge(*arguments, "-o", tmp_path / "same.safetensors")
    _, trained = load_checkpoint(run / "model.safetensors")
    _, again = load_checkpoint(tmp_path / "same.safetensors")
    assert (again.mask.method, again.mask.smoothing) == (trained.mask.method, trained.mask.smoothing)
    assert again.mask.parameters == pytest.approx(trained.mask.parameters, rel=1e-4)
    assert trained.mask.smoothing in output
    assert (again.decision.images, again.decision.promised) == (trained.decision.images, trained.decision.promised)
    assert again.decision.threshold == pytest.approx(trained.decision.threshold, rel=1e-4)
    assert f"{tmp_path / 'same.safetensors'}: a defect is a P(defect) above {again.decision.threshold:.4g}; " in output
    assert again.usable["images"] == trained.usable["images"] > 0
    assert "usable: " in output
    parts = json.loads((run / "split.json").read_text())
    parts["val"] = [name for name in parts["val"] if name.startswith("ok/")]
    (tmp_path / "ok.json").write_text(json.dumps(parts))
    output = lrp_edge(*arguments[:3], "--split", tmp_path / "ok.json", "-o", tmp_path / "ok.safetensors")
    assert "usability is what it was" in output
    assert load_checkpoint(tmp_path / "ok.safetensors")[1].usable == trained.usable
    lrp_edge(*arguments, "-o", tmp_path / "strict.safetensors", "--false-alarms", 0)
    _, strict = load_checkpoint(tmp_path / "strict.safetensors")
    assert strict.mask.parameters["floor"] >= trained.mask.parameters["floor"]


def test_export_repeats_what_was_measured(line: Path, tmp_path: Path) -> None:
    network, card = load_checkpoint(line / "run" / "model.safetensors")
    useless = tmp_path / "useless.safetensors"
    save_checkpoint(useless, network, card.replace(usable={**card.usable, "unusable": ["mask: chance"]}))
    said = lrp_edge("export", useless, "-o", tmp_path / "own", "--size", "80x96")
    assert said.splitlines()[-1] == "not usable: mask: chance"
    assert "usability was measured" not in said
    assert card_of(tmp_path / "own" / "model.onnx").unusable == ("mask: chance",)
    said = lrp_edge("export", useless, "-o", tmp_path / "other", "--size", "80x96", "--mask", "gmm")
    assert "usability was measured with the checkpoint's own mask; for this one: lrp-edge evaluate" in said
