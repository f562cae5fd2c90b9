"""A file's threshold set anew from OK frames: what ONNX Runtime then answers, and what is refused."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from scipy.special import logit

from lrp_edge.card import THRESHOLD, DecisionSpec, ModelCard
from lrp_edge.decision import MARGIN
from lrp_edge.errors import LrpEdgeError
from lrp_edge.runtime import Segmenter
from lrp_edge.runtime.calibrate import calibrate_file, engines_of
from lrp_edge.runtime.config import TilesTable
from tests.support.runtime_graphs import brightness_card, brightness_graph, deciding_graph, probability


@pytest.fixture
def model(tmp_path):
    card = brightness_card().replace(decision=DecisionSpec(), parity={"frames": 3, "threshold": 0.5})
    path = tmp_path / "model.onnx"
    onnx.save(deciding_graph(card), path)
    path.with_suffix(".json").write_text(card.to_json())
    return path


def write_frames(folder: Path, levels) -> list[np.ndarray]:
    """Write frames of noise about some gray levels."""
    folder.mkdir()
    draw = np.random.default_rng(0)
    frames = [np.clip(draw.normal(level, 5, (16, 24, 3)), 0, 255).astype(np.uint8) for level in levels]
    for place, frame in enumerate(frames):
        cv2.imwrite(str(folder / f"{place:03}.png"), frame)
    return frames


def threshold_in(path):
    (found,) = [each for each in onnx.load(path).graph.initializer if each.name == THRESHOLD]
    return float(onnx.numpy_helper.to_array(found))


def test_graph_card_and_answers_have_the_new_threshold(model, tmp_path):
    frames = write_frames(tmp_path / "ok", np.linspace(40, 90, 60))
    before = onnx.load(model)
    card = calibrate_file(model, str(tmp_path / "ok"), 0.05)
    third = sorted(map(probability, frames))[-3]
    assert logit(card.decision.threshold) == pytest.approx(logit(third) + MARGIN, abs=2e-5)
    assert (card.decision.images, card.decision.promised, card.decision.seen) == (60, 0.05, round(2 / 60, 6))
    assert threshold_in(model) == card.decision.threshold
    assert ModelCard.from_json(model.with_suffix(".json").read_text()) == card
    with Segmenter(model, provider="cpu") as segmenter:
        assert segmenter.card == card
        answers = [segmenter(frame) for frame in frames]
    assert [answer.defect for answer in answers] == [probability(frame) > third for frame in frames]
    assert not any(answer.mask.any() for answer in answers if not answer.defect)
    after = onnx.load(model)
    onnx.checker.check_model(after, full_check=True)
    for graph in (before, after):
        graph.ClearField("metadata_props")
        kept = [each for each in graph.graph.initializer if each.name != THRESHOLD]
        del graph.graph.initializer[:]
        graph.graph.initializer.extend(kept)
    assert after == before


def test_parity_is_still_that_of_the_threshold_before(model, tmp_path):
    write_frames(tmp_path / "ok", [60] * 30)
    assert calibrate_file(model, str(tmp_path / "ok"), 0.1).parity == {"frames": 3, "threshold": 0.5}


def test_another_file_leaves_the_first_as_it_is(model, tmp_path):
    write_frames(tmp_path / "ok", [60] * 30)
    data = model.read_bytes()
    card = calibrate_file(model, str(tmp_path / "ok"), 0.1, output=tmp_path / "line" / "new.onnx")
    assert model.read_bytes() == data
    assert threshold_in(tmp_path / "line" / "new.onnx") == card.decision.threshold != 0.5
    assert json.loads((tmp_path / "line" / "new.json").read_text())["decision"]["images"] == 30


@pytest.mark.parametrize("vote", ["any", "mean"])
def test_the_rate_is_one_of_frames_where_they_are_cut_into_tiles(vote, model, tmp_path):
    frames = write_frames(tmp_path / "ok", np.linspace(40, 70, 40))
    tiles = TilesTable(size=(8, 8), overlap=0, vote=vote)
    card = calibrate_file(model, str(tmp_path / "ok"), 0.05, tiles=tiles)
    places = [(y, x) for y in (0, 8) for x in (0, 8, 16)]
    of_tiles = [[probability(frame[y : y + 8, x : x + 8]) for y, x in places] for frame in frames]
    combine = max if vote == "any" else np.mean
    second = sorted(map(combine, of_tiles))[-2]
    assert logit(card.decision.threshold) == pytest.approx(logit(second) + MARGIN, abs=2e-5)


def test_it_needs_neither_torch_nor_onnx(model, tmp_path):
    write_frames(tmp_path / "ok", [60] * 30)
    program = (
        "import sys; sys.modules.update(torch=None, onnx=None); from lrp_edge.cli import app; "
        f"app(['calibrate', {str(model)!r}, '--ok-frames', {str(tmp_path / 'ok')!r}, '--false-alarm-rate', '0.04'])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{model}: a defect is a P(defect) above 0.1")
    assert "false alarms on OK frames like the 30 it is from: 4.00% at most on average" in done.stdout
    assert threshold_in(model) != 0.5


def old(model):
    onnx.save(brightness_graph(brightness_card(), 3, None), model)


def stripped(model):
    graph = onnx.load(model)
    (found,) = [each for each in graph.graph.initializer if each.name == THRESHOLD]
    (reader,) = [each for each in graph.graph.node if THRESHOLD in each.input]
    found.name = reader.input[1] = "renamed"
    onnx.save(graph, model)


def damaged(model):
    (model.parent / "ok" / "003.png").write_bytes(b"no image")


@pytest.mark.parametrize(
    ("spoil", "rate", "message"),
    [
        (None, 0.0, "the false-alarm rate is 0; expected a share"),
        (None, 1.0, "the false-alarm rate is 1; expected a share"),
        (None, 0.02, "a false-alarm rate of 0.02 needs 49 OK images, and 12 allow 0.077 at least: give more"),
        (old, 0.1, "has no threshold to set: .* export it again"),
        (stripped, 0.1, "the file has 0 initializers 'decision.threshold' of one float32; expected 1: export"),
        (damaged, 0.1, r"003\.png is not a picture in a format that is read .*; fix it, or leave it out"),
    ],
)
def test_what_cannot_be_calibrated_is_left_as_it_was(spoil, rate, message, model, tmp_path):
    write_frames(tmp_path / "ok", [60] * 12)
    if spoil:
        spoil(model)
    files = {path: path.read_bytes() for path in tmp_path.glob("model.*")}
    with pytest.raises(LrpEdgeError, match=message) as error:
        calibrate_file(model, str(tmp_path / "ok"), rate)
    assert "\n" not in str(error.value)
    assert {path: path.read_bytes() for path in tmp_path.glob("*model*")} == files


def test_frames_that_are_not_there_or_not_looked_at(model, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(LrpEdgeError, match="has no images; expected"):
        calibrate_file(model, str(tmp_path / "empty"))
    with pytest.raises(LrpEdgeError, match="is a camera; give OK frames that were looked at"):
        calibrate_file(model, "v4l2:///dev/video9")
    with pytest.raises(
        LrpEdgeError, match=r"no P\(defect\) by the vote majority; calibrate, and run, with any or mean"
    ):
        calibrate_file(model, str(tmp_path), tiles=TilesTable(size=(8, 8), vote="majority"))
    with pytest.raises(LrpEdgeError, match="the output folder cannot be written"):
        calibrate_file(model, "v4l2:///dev/video9", output=model / "new.onnx")
    with pytest.raises(LrpEdgeError, match="no model at"):
        calibrate_file(tmp_path / "none.onnx", str(tmp_path))


def engine_beside(model, name="model.rtx.engine"):
    facts = {"product": "rtx", "version": "1.7", "engine_sha256": "0" * 64, "gpus": ["sm86"], "model": model.name}
    card = brightness_card().replace(engine=facts | {"options": ["--batch", "1,2,4"]})
    engine = model.with_name(name)
    engine.write_bytes(b"engine")
    engine.with_suffix(".json").write_text(card.to_json())
    return engine


def test_engines_say_how_to_build_them_again(model, tmp_path):
    command = "lrp-edge compile model.onnx --for rtx:sm86 --batch 1,2,4"
    engine = engine_beside(model)
    assert engines_of(model) == [command]
    assert engines_of(tmp_path / "other.onnx") == []
    with pytest.raises(LrpEdgeError) as error:
        calibrate_file(engine, str(tmp_path))
    assert str(error.value) == (
        f"{engine} has its threshold compiled in; set that of model.onnx: lrp-edge calibrate model.onnx --ok-frames "
        f"FRAMES, and build the engine again: {command}"
    )
