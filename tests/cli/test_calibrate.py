"""calibrate from the command line: what it says, and what a user gets wrong."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

from lrp_edge.card import DecisionSpec
from lrp_edge.checkpoint import save_checkpoint
from lrp_edge.classifiers import build
from lrp_edge.cli import app
from lrp_edge.cli.inspect import _measured_before
from lrp_edge.errors import LrpEdgeError
from tests.runtime.test_calibrate import engine_beside
from tests.support.images import write_folder
from tests.support.runtime_graphs import brightness_card, deciding_graph
from tests.training.test_calibration import CARD


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    onnx.save(deciding_graph(brightness_card().replace(decision=DecisionSpec())), path)
    return path


@pytest.fixture
def good(tmp_path: Path) -> Path:
    folder = tmp_path / "good"
    folder.mkdir()
    for level in range(40):
        cv2.imwrite(str(folder / f"{level}.png"), np.full((8, 8, 3), 40 + level, np.uint8))
    return folder


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return save_checkpoint(tmp_path / "model.safetensors", build(CARD.architecture), CARD)


def test_what_it_says_of_a_file_and_of_engines_beside_it(model: Path, good: Path) -> None:
    engine_beside(model)
    done = CliRunner().invoke(app, ["calibrate", str(model), "--ok-frames", str(good), "--false-alarm-rate", "0.05"])
    assert done.exit_code == 0, done.output
    first, second = done.stdout.splitlines()
    # The second brightest of 40 frames has a gray level of 78, and a P(defect) of 1 / (1 + exp(8 − 78 / 10)), 0.4502;
    # the threshold is a hair above it.
    assert first == (
        f"{model}: a defect is a P(defect) above 0.4504; false alarms on OK frames like the 40 it is from: 5.00% at "
        "most on average, 9.38% in nine of ten calibrations, 2.50% seen on these"
    )
    assert second == (
        "an engine next to it still has the former threshold; build it again: "
        "lrp-edge compile model.onnx --for rtx:sm86 --batch 1,2,4"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{model}"], "model.onnx is an exported file; give its OK frames with --ok-frames FOLDER"),
        (["{model}", "{good}"], "model.onnx is an exported file; give its OK frames with --ok-frames FOLDER"),
        (["{checkpoint}"], "model.safetensors is a classifier; give its data behind it: lrp-edge calibrate"),
        (["{checkpoint}", "--ok-frames", "{good}"], "model.safetensors is a classifier; give its data behind it"),
        (["{checkpoint}", "{data}", "--split", "{data}/split.json"], r"split.json has no OK images to calibrate on"),
        (["{model}", "--ok-frames", "{good}", "--false-alarm-rate", "0"], "--false-alarm-rate: .* is 0; expected"),
        (["{model}", "--ok-frames", "{good}", "--false-alarm-rate", "1"], "--false-alarm-rate: .* is 1; expected"),
        (["{model}", "--ok-frames", "{good}"], "0.02 needs 49 OK images, and 40 allow 0.025 at least"),
        (["{model}", "--ok-frames", "{data}/none"], "none matches no file; expected"),
    ],
)
def test_mistakes(
    arguments: list[str], message: str, model: Path, good: Path, checkpoint: Path, tmp_path: Path
) -> None:
    data = write_folder(tmp_path / "data", {"ok": 3, "hole": 3})
    (data / "split.json").write_text('{"train": ["ok/000.png"], "val": ["hole/000.png"], "test": []}')
    places = {"model": model, "good": good, "checkpoint": checkpoint, "data": data}
    before = {path: path.read_bytes() for path in (model, checkpoint)}
    done = CliRunner().invoke(app, ["calibrate", *(each.format(**places) for each in arguments)])
    assert isinstance(done.exception, LrpEdgeError), done.output
    assert pytest.raises(LrpEdgeError, match=message).matches(done.exception), done.exception
    assert "\n" not in str(done.exception)
    assert {path: path.read_bytes() for path in before} == before


def test_inspect_says_where_parity_is_of_another_threshold() -> None:
    card = brightness_card().replace(decision=DecisionSpec(0.25), parity={"threshold": 0.5})
    assert _measured_before(card).startswith(" (labels and masks at the threshold before this one, 0.5;")
    assert _measured_before(card.replace(decision=DecisionSpec(0.5))) == ""
    assert _measured_before(brightness_card()) == ""
