"""A training that is killed, runs out of disk, or is asked for twice."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lrp_edge.errors import LrpEdgeError
from lrp_edge.training import Options, train
from tests.support.images import write_folder
from tests.support.scripted import until

pytestmark = pytest.mark.usefixtures("few_drawn_defects")
EPOCHS = 7
ARGUMENTS = [
    *(
        "--model",
        "vgg",
        "--width",
        "0.05",
        "--epochs",
        str(EPOCHS),
        "--mark-epochs",
        "2",
        "--patch",
        "48",
        "--batch",
        "8",
    ),
    *("--look-from", "2", "--look-every", "3", "--val-every", "2", "--ema", "0.9", "--val", "0.25", "--no-progress"),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("data"), {"ok": 24, "hole": 24})


def command(data: Path, run: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "lrp_edge", "train", str(data), "-o", str(run), *ARGUMENTS, *more]


def wait_for_an_epoch(running: subprocess.Popen[bytes], run: Path) -> None:
    """Wait until a training has written what it can be resumed from; fail if it ends before that."""
    until(lambda: (run / "resume.ckpt").exists() or running.poll() is not None, 120)
    assert running.poll() is None


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


WHOLE_IMAGES = [
    *("--model", "efficientnet_lite0", "--weights", "none", "--dropout", "0.1", "--patch", "0", "--guided", "0"),
    *("--mark-epochs", "0", "--mark-share", "0", "--ok-share", "0.5", "--freeze-batch-norm"),
]


@pytest.mark.parametrize("model", [["--model", "vgg"], ["--model", "unet"], WHOLE_IMAGES], ids=["vgg", "unet", "whole"])
def test_a_killed_training_ends_as_one_that_was_not(data: Path, tmp_path: Path, model: list[str]) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    subprocess.run(command(data, whole, *model), env=environment(), check=True, capture_output=True)
    # Half of what all of it took: at whatever speed, the training is still running then.
    after = random.Random(os.urandom(8)).uniform(0, json.loads((whole / "metrics.json").read_text())["seconds"] / 2)
    running = subprocess.Popen(command(data, cut, *model), env=environment(), stdout=subprocess.DEVNULL)
    wait_for_an_epoch(running, cut)
    time.sleep(after)
    running.send_signal(signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL, f"it had ended after {after:.2f} s"
    assert not (cut / "model.safetensors").exists()
    subprocess.run(
        [sys.executable, "-m", "lrp_edge", "train", str(data), "-o", str(cut), "--resume", "--no-progress"],
        env=environment(),
        check=True,
        capture_output=True,
    )
    first, second = (json.loads((run / "metrics.json").read_text()) for run in (whole, cut))
    for name in ("val", "test", "epochs"):
        assert first[name] == second[name], f"killed {after:.2f} s after the first epoch"
    ours, theirs = (load_file(run / "model.safetensors") for run in (whole, cut))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def dies(*arguments: object) -> None:
    raise MemoryError


@pytest.mark.parametrize("patience", [0, 1])
def test_a_training_that_dies_before_its_last_file(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patience: int
) -> None:
    """Killed between the running average's last step and the checkpoint, also where it stopped early."""
    options = Options(
        model="vgg", width=0.05, epochs=4, mark_epochs=1, patch=48, batch=8, look_from=1, look_every=2, val_every=1,
        ema=0.9, val=0.25, lr=1e-7 if patience else 2e-3, patience=patience,
    )  # fmt: skip
    whole = train(data, tmp_path / "whole", options, progress=False)

    with monkeypatch.context() as patched:
        patched.setattr("lrp_edge.training.run.save_checkpoint", dies)
        with pytest.raises(MemoryError):
            train(data, tmp_path / "cut", options, progress=False)
    cut = train(data, tmp_path / "cut", options, resume=True, progress=False)
    ours, theirs = load_file(whole.checkpoint), load_file(cut.checkpoint)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert whole.test == cut.test


def _no_file_above(size: int) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def test_a_full_disk_leaves_the_last_good_checkpoint(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    running = subprocess.Popen(command(data, run), env=environment(), stdout=subprocess.DEVNULL)
    wait_for_an_epoch(running, run)
    running.kill()
    running.wait()
    before = (run / "resume.ckpt").read_bytes()
    killed_while_writing = set(run.glob(".*partial"))
    again = subprocess.run(
        command(data, run, "--resume"),
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: _no_file_above(len(before) // 2),
    )
    assert again.returncode == 1
    assert again.stderr.splitlines()[-1].startswith(f"lrp-edge: {run / 'resume.ckpt'}: this file cannot be written")
    assert "Traceback" not in again.stderr
    assert (run / "resume.ckpt").read_bytes() == before
    assert set(run.glob(".*partial")) <= killed_while_writing
    subprocess.run(command(data, run, "--resume"), env=environment(), check=True, capture_output=True)
    assert (run / "model.safetensors").exists()


def test_what_is_resumed_is_the_same_training(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = Options(model="vgg", width=0.05, epochs=2, mark_epochs=0, patch=48, batch=8, val=0.0, ema=0.0)
    with pytest.raises(LrpEdgeError, match=r"no resume\.ckpt to resume from"):
        train(data, tmp_path / "none", options, resume=True, progress=False)
    run = tmp_path / "run"
    monkeypatch.setattr("lrp_edge.training.run.save_checkpoint", dies)
    with pytest.raises(MemoryError):
        train(data, run, options, progress=False)
    changed = dataclasses.replace(options, width=0.1)
    with pytest.raises(LrpEdgeError, match="option width changed since the training was interrupted"):
        train(data, run, changed, resume=True, progress=False)
    assert (run / "resume.ckpt").exists()
