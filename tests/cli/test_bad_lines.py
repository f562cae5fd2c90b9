"""What a user gets wrong about a line: one line on stderr, exit status 1, nothing written."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

from tests.support.command import assert_refused, lrp_edge
from tests.support.runtime_graphs import brightness_card, brightness_graph


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder with a model and a frame, in which nothing else may be in the end."""
    onnx.save(brightness_graph(brightness_card(), 3, None), tmp_path / "model.onnx")
    cv2.imwrite(str(tmp_path / "frame.png"), np.full((64, 64, 3), 40, np.uint8))
    before = set(tmp_path.rglob("*"))
    yield tmp_path
    assert set(tmp_path.rglob("*")) == before


def refused(folder: Path, *arguments: object, words: tuple[str, ...]) -> None:
    done = lrp_edge("run", "model.onnx", *arguments, cwd=folder)
    assert_refused(done, *words)
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("rstp://camera/stream", ("scheme rstp:// is not known", "did you mean rtsp://?")),
        ("teapot://camera", ("scheme teapot:// is not known", "expected a path or one of aravis, csi,")),
        ("v4l2:///dev/video99", ("/dev/video99", "--wait")),
        ("rtsp://127.0.0.1:1/stream", ("rtsp://127.0.0.1:1/stream", "--wait")),
        ("nowhere/*.png", ("matches no file",)),
    ],
)
def test_sources_that_are_none(source: str, words: tuple[str, ...], folder: Path) -> None:
    assert_refused(lrp_edge("run", "model.onnx", "--source", source, "-o", "out", cwd=folder), *words)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--roi", "60,0,10,10"), ("extends beyond the frame, which is 64x64", "--skip-bad")),
        (("--rotate", 45), ("rotation is 45", "0, 90, 180 or 270")),
        (("--policy", "newest"), ("policy is 'newest'", "latest or lossless")),
        (("--images", "some"), ("images is 'some'", "all, defects or none")),
        (("--reject-if", "any scratch"), ("rule 'any scratch' is not understood", "any region > 2.5 mm2")),
        (("--reject-if", "any region > 2 mm2"), ("millimetres", "--mm-per-px")),
        (("--mm-per-px", -1), ("millimetres per pixel are -1", "expected 1e-06 to 1000000")),
        (("--video", "line.gif"), ("line.gif: this video cannot be written", "expected one of .mp4, .avi")),
        (("--view", "0.0.0.0:8471"), ("LRP_EDGE_VIEW_TOKEN", "--view-token-file")),
        (("--view", "eighty"), ("address 'eighty' is not understood", "PORT or HOST:PORT")),
        (("--view", "a..b:8471"), ("cannot listen on a..b", "this host is not known")),
        (("--mqtt", "http://broker"), ("broker http://broker is not understood", "mqtt://HOST")),
        (("--webhook", "ftp://mes"), ("the webhook's address is not understood", "expected http://")),
        (("--fps", 0), ("fps is 0", "expected 0.01 to 10000")),
    ],
)
def test_options_that_cannot_be(options: tuple[object, ...], words: tuple[str, ...], folder: Path) -> None:
    refused(folder, "--source", "frame.png", "-o", "out", *options, words=words)


def test_nothing_takes_the_results(folder: Path) -> None:
    refused(folder, "--source", "frame.png", words=("nothing takes the results", "-o FOLDER", "--view"))


def test_no_source_and_no_model(folder: Path) -> None:
    refused(folder, "-o", "out", words=("no source is given", "--source"))
    assert_refused(lrp_edge("run", "--source", "frame.png", "-o", "out", cwd=folder), "no model is given")


def test_overwrite_and_append_exclude_each_other(folder: Path) -> None:
    refused(folder, "--source", "frame.png", "-o", "out", "--overwrite", "--append", words=("not both",))


def test_a_port_that_is_taken(folder: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        refused(folder, "--source", "frame.png", "-o", "out", "--view", port, words=(str(port), "in use"))


def test_a_window_without_a_display(folder: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    command = [sys.executable, "-m", "lrp_edge", "run", "model.onnx", "--source", "frame.png", "--show"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)
    assert_refused(done, "--view")


def test_a_video_without_frames(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("video") / "empty.avi"
    cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48)).release()
    refused(folder, "--source", path, "-o", "out", words=("empty.avi",))


def test_a_password_in_the_address_is_taken_with_a_warning_and_shown_nowhere(folder: Path) -> None:
    source = "rtsp://operator:s3cret@127.0.0.1:1/stream"
    done = lrp_edge("run", "model.onnx", "--source", source, "-o", "out", cwd=folder)
    assert done.returncode == 1
    assert "--credentials" in done.stderr
    assert "rtsp://***@127.0.0.1:1/stream" in done.stderr
    written = "".join(path.read_text() for path in (folder / "out").rglob("*.jsonl"))
    assert "s3cret" not in done.stderr + done.stdout + written
    assert "operator" not in done.stderr + done.stdout + written


def test_a_configuration_with_a_mistake(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("config") / "line.toml"
    path.write_text('model = "model.onnx"\n\n[source]\nuri = "0"\nframerate = 25\n')
    assert_refused(lrp_edge("run", "--config", path, cwd=folder), "line 5", "source.framerate is not known")
