"""A line as a service: signals, the service manager, the unit and the configuration that are in the documentation."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import get_type_hints

import cv2
import numpy as np
import pytest

from lrp_edge.cli.run import SAME, _Stop
from lrp_edge.runtime.config import read_config
from lrp_edge.runtime.line import Line, build
from tests.support.runtime_graphs import expected
from tests.support.scripted import lines, until

SERVICE = Path(__file__).resolve().parents[2] / "docs" / "service"


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """Twenty frames of rising brightness."""
    folder = tmp_path / "frames"
    folder.mkdir()
    for index in range(20):
        cv2.imwrite(str(folder / f"{index:02}.png"), np.full((24, 32, 3), 10 + 12 * index, np.uint8))
    return folder


def start(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "lrp_edge", "run", *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}
    )


@pytest.mark.parametrize(
    ("number", "status", "times"), [(signal.SIGTERM, 0, 1), (signal.SIGINT, 130, 1), (signal.SIGTERM, 0, 2)]
)
@pytest.mark.parametrize("policy", ["latest", "lossless"])
def test_a_signal_finishes_what_is_in_flight(
    number: signal.Signals, status: int, times: int, policy: str, model: Path, frames: Path, tmp_path: Path
) -> None:
    """Once, or twice in a row as from a program that sends it to the process and to its group."""
    out = tmp_path / "out"
    source = ("--source", frames, "--loop", "--fps", "200", "--policy", policy)
    process = start(model, *source, "-o", out, "--images", "defects")
    until(lambda: len(lines(out)) > 30, 60)
    for _ in range(times):
        process.send_signal(number)
    printed, errors = process.communicate(timeout=30)
    assert process.returncode == status, errors
    assert not errors
    found = lines(out)
    segmented, dropped = int(re.match(r"\d+", printed)[0]), int(re.search(r"(\d+) dropped", printed)[1])
    ids = [line["frame"] for line in found]
    assert len(ids) == segmented
    assert ids == sorted(set(ids))
    assert ids == list(range(len(ids))) or (policy == "latest" and dropped)
    assert lines(out, "events.jsonl")[-1]["message"].startswith(f"{segmented + dropped} frames captured")
    for line in found:
        level = 10 + 12 * (line["frame"] % 20)
        assert line["label"] == expected(np.full((2, 2, 3), level))[1]
        assert not line["defect"] or (out / line["mask"]).is_file()


def test_a_later_signal_ends_it_at_once() -> None:
    stop = _Stop()
    for _ in range(2):
        stop.handle(signal.SIGTERM, None)
    assert (stop.is_set(), stop.signal) == (True, signal.SIGTERM)
    time.sleep(1.2 * SAME)
    with pytest.raises(KeyboardInterrupt):
        stop.handle(signal.SIGINT, None)


def test_systemd_hears_that_it_is_ready_alive_and_stops(model: Path, frames: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        source = ("--source", frames, "--loop", "--fps", "50")
        process = start(model, *source, "-o", tmp_path / "out", NOTIFY_SOCKET=str(tmp_path / "notify"))
        assert manager.recv(1000) == b"READY=1"
        for _ in range(2):
            alive = manager.recv(1000).decode()
            assert re.fullmatch(r"WATCHDOG=1\nSTATUS=[\d.]+ fps, \d+ frames, \d+ rejected, \d+ dropped", alive)
        process.terminate()
        _, errors = process.communicate(timeout=30)
        manager.setblocking(False)
        heard = []
        while not heard or heard[-1] != b"STOPPING=1":
            heard.append(manager.recv(1000))
    assert (process.returncode, errors) == (0, "")


def test_the_unit_is_one_that_systemd_takes(tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    unit = (SERVICE / "lrp-edge.service").read_text().replace("/opt/lrp-edge/bin/lrp-edge", sys.executable)
    path = tmp_path / "lrp-edge.service"
    path.write_text(unit)
    done = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    path.write_text(unit.replace("Restart=always", "Restart=sometimes"))
    assert (
        "restart specifier"
        in subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True).stderr
    )


def test_the_documented_file_is_one(tmp_path: Path) -> None:
    line = build(read_config(SERVICE / "line.toml"))
    assert (line.source.uri, line.pipeline.wait, line.output.existing) == ("rtsp://camera.local/stream", True, "append")


def test_the_documented_file_has_every_key(tmp_path: Path) -> None:
    text = re.sub(r"(?m)^# (\w+ = )", r"\1", (SERVICE / "line.toml").read_text())
    (tmp_path / "line.toml").write_text(text)
    values = read_config(tmp_path / "line.toml")
    assert keys_of(values) == fields_of(Line)


def keys_of(values: dict, prefix: str = "") -> set[str]:
    return {
        key
        for name, value in values.items()
        for key in (keys_of(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name})
    }


def fields_of(kind: type, prefix: str = "") -> set[str]:
    hints: dict[str, Callable] = get_type_hints(kind)
    return {
        key
        for field in dataclasses.fields(kind)
        for key in (
            fields_of(hints[field.name], f"{prefix}{field.name}.")
            if dataclasses.is_dataclass(hints[field.name])
            else {prefix + field.name}
        )
    }
