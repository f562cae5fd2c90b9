"""evaluate, sweep and calibrate from the command line, on one small run."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest
from typer.testing import CliRunner

from lrp_edge import synthetic
from lrp_edge.checkpoint import load_checkpoint
from lrp_edge.cli import app
from lrp_edge.errors import LrpEdgeError


def lrp_edge(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("line")
    synthetic.write_dataset(folder, 48, size=(80, 96))
    options = (
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


def test_calibrate_sets_the_mask_as_training_does(line: Path, tmp_path: Path) -> None:
    (line / "only").mkdir(exist_ok=True)
    (line / "only" / "ok").symlink_to(line / "images" / "ok", target_is_directory=True)
    run = line / "run"
    arguments = ("calibrate", run / "model.safetensors", line / "images", "--split", run / "split.json")
    output = lrp_edge(*arguments, "-o", tmp_path / "same.safetensors")
    _, trained = load_checkpoint(run / "model.safetensors")
    _, again = load_checkpoint(tmp_path / "same.safetensors")
    assert (again.mask.method, again.mask.smoothing) == (trained.mask.method, trained.mask.smoothing)
    assert again.mask.parameters == pytest.approx(trained.mask.parameters, rel=1e-4)
    assert trained.mask.smoothing in output
    assert again.usable["images"] == trained.usable["images"] > 0
    assert "usable: " in output
    lrp_edge(*arguments[:2], line / "only", "-o", tmp_path / "ok.safetensors")
    assert load_checkpoint(tmp_path / "ok.safetensors")[1].usable == trained.usable
    lrp_edge(*arguments, "-o", tmp_path / "strict.safetensors", "--false-alarms", 0)
    _, strict = load_checkpoint(tmp_path / "strict.safetensors")
    assert strict.mask.parameters["floor"] >= trained.mask.parameters["floor"]
