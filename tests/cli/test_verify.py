"""The verb verify on real sessions: what it prints and stores, and with what it exits."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from typer.testing import CliRunner, Result

import lrp_edge as lrp_edge_package
from lrp_edge.cli import app
from lrp_edge.export.onnx_file import with_card
from tests.support.command import assert_refused, lrp_edge
from tests.support.engine_graphs import contract_graph, save, small_card, why_it_cannot_run
from tests.support.runtime_graphs import LIMIT, brightness_card, brightness_graph, expected


def write(path: Path, limit: float = LIMIT, shift: float = 0.0) -> Path:
    """Write a graph that marks what is brighter than a limit, with the scores' offset moved."""
    proto = brightness_graph(brightness_card(), 3, None)
    for tensor in proto.graph.initializer:
        if tensor.name == "limit":
            tensor.CopyFrom(numpy_helper.from_array(np.array(limit, np.float32), "limit"))
        if tensor.name == "bias":
            moved = numpy_helper.to_array(tensor) + np.array([[shift, 0]], np.float32)
            tensor.CopyFrom(numpy_helper.from_array(moved, "bias"))
    onnx.save(proto, path)
    return path


@pytest.fixture
def images() -> list[np.ndarray]:
    """Return four frames of several sizes, from dark to bright."""
    draw = np.random.default_rng(0)
    sizes = [(20, 30), (24, 24), (20, 30), (16, 40)]
    return [
        np.clip(draw.normal(level, 30, (*size, 3)), 0, 255).astype(np.uint8)
        for level, size in zip((60, 120, 150, 190), sizes, strict=True)
    ]


@pytest.fixture
def frames(tmp_path: Path, images: list[np.ndarray]) -> Path:
    folder = tmp_path / "frames"
    folder.mkdir()
    for index, image in enumerate(images):
        cv2.imwrite(str(folder / f"{index}.png"), image)
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write(tmp_path / "model.onnx")


def verify(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["verify", *map(str, arguments)])


def test_an_equal_file_holds_on_frames_of_several_sizes(model: Path, frames: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.onnx"
    onnx.save(onnx.load(model), copy)
    copy.write_bytes(copy.read_bytes() + b"\x3a\x00")  # an empty field more: another file of the same graph
    done = verify(copy, "--against", model, "--frames", frames, "--backend", "cpu")
    assert done.exit_code == 0, done.output
    for text in ("holds", "holds speaks of parity alone", "labels alike", "4 frames", "1.0000", "worst frame on cpu"):
        assert text in done.stdout
    assert "fault" not in done.stdout
    assert "noise" not in done.stdout


def test_a_file_that_holds_may_not_be_usable(model: Path, frames: Path, tmp_path: Path) -> None:
    proto, useless = onnx.load(model), tmp_path / "useless.onnx"
    card = brightness_card().replace(usable={"unusable": ["class: AUROC 0.52", "mask: chance"]})
    onnx.save(with_card(proto, card), useless)
    done = verify(useless, "--against", model, "--frames", frames, "--backend", "cpu")
    assert done.exit_code == 0, done.output
    assert f"{useless} is not usable, whatever its parity: class: AUROC 0.52; mask: chance" in done.stdout


def test_json_says_what_numpy_says(model: Path, frames: Path, images: list[np.ndarray], tmp_path: Path) -> None:
    other = write(tmp_path / "other.onnx", limit=165.0, shift=0.5)
    output = tmp_path / "new" / "out.json"
    done = verify(other, "--against", model, "--frames", frames, "--backend", "cpu", "--json", output)
    assert done.exit_code == 1
    stored = json.loads(output.read_text())
    assert set(stored) == {"reference", "frames", "results", "unavailable", "notes", "faults"}
    assert stored["reference"] == "ONNX Runtime float32, model.onnx"
    assert stored["frames"] == {"source": str(frames), "count": 4}
    (result,) = stored["results"]
    bright = [expected(image)[3] for image in images]
    ious = [(level > 165).sum() / (level > LIMIT).sum() for level in bright if (level > LIMIT).any()]
    assert 0 < min(ious) < 0.9
    assert result["parity"]["masks"] == len(ious)
    assert result["parity"]["mask_iou_mean"] == pytest.approx(np.mean(ious), abs=1e-12)
    assert result["parity"]["mask_iou_worst"] == pytest.approx(min(ious), abs=1e-12)
    margins = [level.mean() * 0.1 - 8 for level in bright]
    moved = [1 / (1 + np.exp(margin)) - 1 / (1 + np.exp(margin - 0.5)) for margin in margins]
    assert result["parity"]["scores_max"] == pytest.approx(np.abs(moved).max(), abs=1e-5)
    assert result["parity"]["relevance_l2"] == 0
    assert (result["file"], result["backend"], result["precision"]) == (str(other), "cpu", "fp32")
    assert result["sha256"] == hashlib.sha256(other.read_bytes()).hexdigest()
    assert result["tolerance"] == {"labels": 1.0, "scores": 1e-3, "relevance": 1e-2, "iou": 0.999}
    assert [said.partition(" ")[0] for said in result["beyond"] if "batch" not in said] == ["scores", "mean"]
    assert result["shapes"]["batch 3"]["mask_iou_worst"] == pytest.approx(min(ious), abs=1e-12)
    assert result["seconds"] > 0
    for said in result["beyond"]:
        assert f"fault: {other} on cpu: {said}" in done.stdout
    assert "beyond" in done.stdout


def test_given_tolerances_take_the_place_of_the_promised(model: Path, frames: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other.onnx", limit=165.0)
    command = (other, "--against", model, "--frames", frames, "--backend", "cpu")
    assert verify(*command).exit_code == 1
    done = verify(*command, "--tolerance-iou", 0.3)
    assert done.exit_code == 0, done.output
    assert ">= 0.3" in done.stdout


def test_the_worst_frame_is_drawn_into_the_folder(model: Path, frames: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other.onnx", limit=165.0)
    done = verify(other, "--against", model, "--frames", frames, "--backend", "cpu", "-o", tmp_path / "worst")
    (picture,) = (tmp_path / "worst").iterdir()
    assert picture.name == "other.onnx.cpu.worst.png"
    assert cv2.imread(str(picture)) is not None
    assert f"drawn in {picture}" in done.stdout.replace("\n", "")


def test_without_frames_noise_is_warned_of(model: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other.onnx", shift=1e-4)
    done = verify(other, "--against", model, "--most", 2)
    assert "warning: these frames are noise" in done.stdout
    assert "2 frames of noise" in " ".join(done.stdout.split())
    assert "no CUDAExecutionProvider" in done.stdout or "cuda" in done.stdout
    assert done.exit_code == 0, done.output


def test_what_nothing_could_run_is_not_verified(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    from lrp_edge.export import to_engine

    source = save(contract_graph(small_card((48, 64))), tmp_path / "small.onnx")
    engine = to_engine(source, gpus=("sm86",), batch=(1, 1, 1))
    reason = why_it_cannot_run(engine)
    done = verify(engine, "--against", source, "--most", 1, "--json", tmp_path / "out.json")
    assert done.exit_code == 1
    assert f"not run on rtx: {engine}: {reason}" in done.stdout
    assert f"fault: {engine} is not verified: nothing here ran it" in done.stdout
    stored = json.loads((tmp_path / "out.json").read_text())
    assert stored["results"] == []
    assert stored["unavailable"] == [{"file": str(engine), "backend": "rtx", "reason": reason, "started": False}]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), ("model.onnx names no checkpoint", "--against with a checkpoint")),
        (("--against", "nowhere.safetensors"), ("no file at nowhere.safetensors", "expected a checkpoint")),
        (("--against", "model.onnx", "--backend", "openvin"), ("backends are openvin", "did you mean openvino?")),
        (("--against", "model.onnx", "--backend", "rtx"), ("model.onnx is not for rtx", "cpu")),
        (("--against", "model.onnx", "--backend", "cpu"), ("is the reference itself", "another --against")),
        (("--against", "model.onnx", "--frames", "nowhere"), ("nowhere matches no file",)),
        (("--weights", "w.safetensors"), ("weights are for a module:factory", "--against")),
    ],
)
def test_a_mistake_is_one_line(model: Path, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    assert_refused(lrp_edge("verify", model.name, *arguments, cwd=model.parent), *words)
    assert [path.name for path in model.parent.iterdir()] == ["model.onnx"]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a checkpoint, and the file that the command line exports from it into another folder."""
    root = tmp_path_factory.mktemp("origin")
    checkpoint = root / "runs" / "surfaces.safetensors"
    checkpoint.parent.mkdir()
    shutil.copy(Path(lrp_edge_package.__file__).parent / "assets" / "surfaces.safetensors", checkpoint)
    done = CliRunner().invoke(app, ["export", str(checkpoint), "-o", str(root / "out"), "--size", "64x64"])
    assert done.exit_code == 0, done.output
    return checkpoint, root / "out" / "model.onnx"


def test_an_exported_checkpoint_is_found_and_verified(exported: tuple[Path, Path]) -> None:
    checkpoint, file = exported
    done = verify(file, "--backend", "cpu")
    assert done.exit_code == 0, done.output
    assert checkpoint.name in done.stdout
    assert str(checkpoint.parent) not in file.with_suffix(".json").read_text()


def test_a_checkpoint_beside_its_export_is_found(exported: tuple[Path, Path], tmp_path: Path) -> None:
    """As where both files are sent to somebody."""
    checkpoint, file = exported
    for sent in (checkpoint, file):
        shutil.copy(sent, tmp_path)
    done = verify(tmp_path / file.name, "--backend", "cpu", "--most", 1)
    assert done.exit_code == 0, done.output
    assert checkpoint.name in done.stdout


def test_another_checkpoint_in_its_place_is_refused(exported: tuple[Path, Path], tmp_path: Path) -> None:
    checkpoint, file = exported
    shutil.copytree(file.parent, tmp_path / "out")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / checkpoint.name).write_bytes(checkpoint.read_bytes() + b" ")
    assert_refused(lrp_edge("verify", tmp_path / "out" / file.name), "is not the checkpoint that", "--against")
    (tmp_path / "runs" / checkpoint.name).unlink()
    assert_refused(lrp_edge("verify", tmp_path / "out" / file.name), "neither next to it nor where it was", "--against")
