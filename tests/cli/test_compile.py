"""``lrp-edge compile``: what it prints, and one line for each mistake."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from lrp_edge.cli import app
from tests.support.command import assert_refused, lrp_edge
from tests.support.engine_graphs import contract_graph, save, small_card

trt = pytest.importorskip("tensorrt_rtx")
pytestmark = pytest.mark.usefixtures("cache")

SIZES = ("--smallest", "32x32", "--usual", "48x64", "--largest", "64x96")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save(contract_graph(small_card()), tmp_path / "model.onnx")


def compiled(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["compile", *map(str, arguments)])


def test_it_prints_file_size_time_and_the_next_command(model: Path, tmp_path: Path) -> None:
    command = (model, "--for", "rtx:SM86,sm89", "-o", tmp_path / "engines", "--batch", "2", *SIZES)
    done = compiled(*command)
    assert done.exit_code == 0, done.output
    (engine,) = (tmp_path / "engines").glob("*.engine")
    assert engine.name == f"model.rtx-{trt.__version__}.sm86-sm89.fp32.engine"
    built, file, following = done.stdout.splitlines()
    assert built.startswith(f"built with TensorRT-RTX {trt.__version__} in ")
    assert file.startswith(f"{engine}  {engine.stat().st_size / 1e6:.1f} MB")
    assert following == f"next: lrp-edge run {engine} --source FRAMES -o OUT"
    assert json.loads(engine.with_suffix(".json").read_text())["profile"]["max"] == [2, 64, 96]
    assert compiled(*command).stdout.startswith("taken from the cache")
    assert compiled(*command, "--no-cache").stdout.startswith("built with")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--for", "rtx:sm85"), ("no GPU 'sm85'", "did you mean", "sm120")),
        (("--for", "tensort"), ("no product 'tensort'", "did you mean tensorrt?")),
        (("--batch", "5"), ("batch of 5 frames", "(4)", "--max-batch 5")),
        (("--batch", "3,1,4"), ("3, 1 and 4", "ascending")),
        (("--smallest", "200x90", "--largest", "100x100"), ("200", "ascending")),
        (("--workspace", "1", *SIZES), ("too little memory", "--workspace 1", "--largest")),
        (("--version-compatible",), ("leave out --version-compatible",)),
        (("--hardware-compatible", "AMPERE-PLUS"), ("leave out --hardware-compatible",)),
    ],
)
def test_a_mistake_is_one_line(arguments: tuple[str, ...], words: tuple[str, ...], model: Path) -> None:
    assert_refused(lrp_edge("compile", model, *arguments), *words)
    assert [path.name for path in model.parent.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize("batch", ["many", "1,2", "0", "1,,3", "-1"])
def test_a_batch_is_one_number_or_three(batch: str, model: Path) -> None:
    assert_refused(lrp_edge("compile", model, f"--batch={batch}"), "--batch", "LEAST,USUAL,MOST")


def test_a_fixed_size_is_not_to_be_had_otherwise(tmp_path: Path) -> None:
    model = save(contract_graph(small_card((48, 64))), tmp_path / "model.onnx")
    done = compiled(model, "--largest", "96x128")
    assert "takes frames of 48x64 only, not 96x128" in str(done.exception)
    assert compiled(model, "--largest", "48x64").exit_code == 0


@pytest.mark.skipif(os.name == "nt", reason="a terminal of POSIX")
def test_a_terminal_shows_progress_and_ctrl_c_ends_it(model: Path) -> None:
    import pty

    save(contract_graph(small_card(), depth=800), model)
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "lrp_edge", "compile", str(model), "--no-cache"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, env={**os.environ, "TERM": "xterm"})
    os.close(theirs)
    shown = b""
    while b"Building engine" not in shown:
        shown += os.read(ours, 4096)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=120) == 130
    os.close(ours)
    assert [path.name for path in model.parent.iterdir()] == ["model.onnx"]
