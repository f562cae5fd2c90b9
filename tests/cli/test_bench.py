"""The verb bench on real sessions of ONNX Runtime and OpenVINO."""

from __future__ import annotations

import importlib.util
import json
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from typer.testing import CliRunner, Result

from lrp_edge.cli import app
from lrp_edge.cli.bench import cut_to_scores
from lrp_edge.errors import LrpEdgeError
from tests.support.runtime_graphs import brightness_card, brightness_graph, expected

SUMMARY = {"min", "max", "mean", "median", "p90", "p95", "p99"}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    onnx.save(brightness_graph(brightness_card(max_batch=4), 3, None), path)
    return path


def bench(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["bench", *map(str, arguments)])


def figures(tmp_path: Path, *arguments: object) -> dict[str, Any]:
    done = bench(*arguments, "--json", tmp_path / "out.json", "--threads", 1)
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads((tmp_path / "out.json").read_text())
    return found


@pytest.mark.parametrize(("provider", "engine"), [("cpu", "onnxruntime-cpu"), ("openvino", "openvino-cpu")])
def test_figures_fit_each_other_and_the_clock(model: Path, tmp_path: Path, provider: str, engine: str) -> None:
    if provider == "openvino":
        pytest.importorskip("openvino")
    start = time.perf_counter()
    asked = ("--provider", provider, "--size", "40x60", "--batch", "1,4", "--iterations", 30, "--warm-up", 2)
    found = figures(tmp_path, model, *asked)
    wall = (time.perf_counter() - start) * 1e3
    assert (found["engine"], found["frame"], found["warmUp"], found["threads"]) == (engine, [40, 60, 3], 2, 1)
    assert (found["classifierNote"], found["deviceMiB"]) == (None, None)
    assert 0 < found["loadMs"] < wall
    assert [row["batch"] for row in found["batches"]] == [1, 4]
    spent = found["loadMs"]
    for row in found["batches"]:
        for times in (row["latencyMs"], row["classifierMs"]):
            assert set(times) == SUMMARY
            assert 0 < times["min"] <= times["median"] <= times["p90"] <= times["p95"] <= times["p99"] <= times["max"]
            spent += 30 * times["mean"]
        assert row["iterations"] == 30
        assert row["framesPerSecond"] == pytest.approx(row["batch"] * 1e3 / row["latencyMs"]["mean"])
        assert row["ratio"] == pytest.approx(row["latencyMs"]["median"] / row["classifierMs"]["median"])
    assert spent < wall


def test_table_says_the_same(model: Path) -> None:
    done = bench(model, "--size", "40x60", "--iterations", 5)
    assert done.exit_code == 0
    for text in (
        "onnxruntime-cpu",
        "fp32",
        "40x60",
        "p50",
        "p99",
        "frames/s",
        "classifier",
        "loaded in",
        "random, seed 0",
    ):
        assert text in done.stdout
    assert "batch 1 ..." in done.stderr


def test_cut_leaves_the_classifier(model: Path, tmp_path: Path) -> None:
    cut = cut_to_scores(model, tmp_path / "classifier.onnx")
    graph = onnx.load(cut).graph
    assert [node.op_type for node in graph.node] == [
        "Cast",
        "ReduceMean",
        "ReduceMean",
        "Unsqueeze",
        "MatMul",
        "Add",
        "Softmax",
    ]
    frame = np.random.default_rng(0).integers(0, 256, (9, 8, 3), dtype=np.uint8)
    session = onnxruntime.InferenceSession(str(cut), providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == ["scores"]
    np.testing.assert_allclose(session.run(None, {"image": frame[None]})[0][0], expected(frame)[0], atol=1e-5)


def test_without_onnx_the_classifier_is_left_out(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "onnx" else find(name, *rest))
    found = figures(tmp_path, model, "--size", "8x8", "--iterations", 3)
    assert found["classifierNote"] == "classifier alone: needs lrp-edge[export]"
    assert "classifierMs" not in found["batches"][0]


def test_real_frames_and_their_decisions(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    images = [np.full((12, 10, 3), level, np.uint8) for level in (10, 240, 20, 30, 200)]
    for index, image in enumerate(images):
        cv2.imwrite(str(folder / f"{index}.png"), image)
    found = figures(tmp_path, model, "--frames", folder, "--iterations", 10)
    assert (found["frame"], found["frames"]) == ([12, 10, 3], str(folder))
    assert found["batches"][0]["defectShare"] == np.mean([expected(image)[1] for image in images]) == 0.4
    cv2.imwrite(str(folder / "other.png"), np.zeros((7, 7, 3), np.uint8))
    done = bench(model, "--frames", folder, "--iterations", 1)
    assert isinstance(done.exception, LrpEdgeError)
    assert "2 sizes" in str(done.exception)
    assert figures(tmp_path, model, "--frames", folder, "--size", "7x7", "--iterations", 2)["frame"] == [7, 7, 3]
    assert "no frame of 9x9" in str(bench(model, "--frames", folder, "--size", "9x9").exception)
    (folder / "bad.png").write_bytes(b"no picture")
    assert "bad.png" in str(bench(model, "--frames", folder, "--iterations", 1).exception)


def test_gate_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "gated.onnx"
    onnx.save(brightness_graph(brightness_card(max_batch=4).replace(gate=True), 3, None), path)
    done = bench(path, "--size", "8x8", "--iterations", 3)
    assert "batch 1: 100% decided defect; calls with a defect p50" in done.stdout
    assert "without" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--batch", "0"), "--batch N,...: batches is 0; expected one or more whole numbers of 1 or more"),
        (("--batch", "1,x"), "batches is '1,x'"),
        (("--batch", ""), "batches is ''"),
        (("--size", "8"), "--size HxW: size is '8'; expected a height and width of 1 or more"),
        (("--iterations", 3, "--seconds", 1), "give --seconds or --iterations, not both"),
    ],
)
def test_options_that_cannot_be(model: Path, arguments: tuple[object, ...], words: str) -> None:
    assert words in str(bench(model, *arguments).exception)


def test_errors_name_what_to_do(model: Path, tmp_path: Path) -> None:
    assert "1 to 4 frames in one call" in str(bench(model, "--batch", "1,5").exception)
    assert "no model at" in str(bench(tmp_path / "missing.onnx").exception)
    (tmp_path / "model.engine").write_bytes(b"x")
    assert "no model card next to it" in str(bench(tmp_path / "model.engine").exception)
