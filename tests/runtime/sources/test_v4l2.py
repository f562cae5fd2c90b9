"""Cameras of the system: a device that is simulated, in a program that the simulation is loaded into, and none."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from lrp_edge.errors import LrpEdgeError
from lrp_edge.runtime.sources import open_source
from tests.support.servers import cut, jpeg, loss

HEIGHT, WIDTH = 48, 64
# Takes frames until the camera is lost, and prints of each its shape, its mean colour, its error and its age.
PROGRAM = """
import json, sys, time
from lrp_edge.errors import LrpEdgeError
from lrp_edge.runtime.sources import SourceOptions, open_source
address, order, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
frames, lost = [], ""
try:
    for frame in open_source(address, order, SourceOptions(timeout=0.5, **options)):
        shown = frame.image is not None
        mean, shape = (frame.image.mean((0, 1)).tolist(), frame.image.shape) if shown else (None, None)
        frames.append([frame.index, shape, mean, frame.error, time.perf_counter() - frame.captured])
except LrpEdgeError as error:
    lost = f"{type(error).__name__}: {error}"
print(json.dumps({"frames": frames, "lost": lost}))
"""


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The simulated driver, compiled."""
    compiler = shutil.which("cc")
    if not compiler or sys.platform != "linux":
        pytest.skip("no C compiler for the simulated driver")
    library = tmp_path_factory.mktemp("v4l2") / "driver.so"
    source = Path(__file__).resolve().parents[2] / "support" / "simulated_v4l2.c"
    subprocess.run([compiler, "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library


class Device:
    """A simulated camera with given frames."""

    def __init__(self, driver: Path, folder: Path, form: str, frames: list[bytes]) -> None:
        self.path, self._folder = folder / "video", folder
        self.path.touch()
        for index, frame in enumerate(frames):
            (folder / str(index)).write_bytes(frame)
        self._environment = {
            "LD_PRELOAD": str(driver),
            "V4L2_FORMAT": form,
            "V4L2_WIDTH": str(WIDTH),
            "V4L2_HEIGHT": str(HEIGHT),
            "V4L2_FRAMES": str(folder),
            "V4L2_LOG": str(folder / "log"),
        }

    def take(self, parameters: str = "", order: str = "BGR", **options: object) -> tuple[list, str]:
        """Return the frames and why the camera was lost."""
        command = [sys.executable, "-c", PROGRAM, f"v4l2://{self.path}{parameters}", order, json.dumps(options)]
        environment = {**os.environ, **self._environment}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout.splitlines()[-1])
        return report["frames"], report["lost"]

    @property
    def asked(self) -> list[str]:
        """What was asked of the camera."""
        return (self._folder / "log").read_text().splitlines()


def yuyv(luma: int) -> bytes:
    return np.full((HEIGHT, WIDTH, 2), (luma, 128), np.uint8).tobytes()


@pytest.mark.parametrize("order", ["BGR", "RGB", "GRAY"])
def test_frames_are_those_of_the_driver(driver: Path, tmp_path: Path, order: str) -> None:
    device = Device(driver, tmp_path, "YUYV", [yuyv(16 + 30 * index) for index in range(6)])
    frames, lost = device.take(order=order)
    assert lost == f"SourceLost: v4l2://{device.path}: no frame for 0.5 s"
    # OpenCV leaves out a camera's first frame, which is often bad.
    assert [index for index, *_ in frames] == list(range(5))
    for index, shape, mean, error, age in frames:
        assert (shape, error) == ([HEIGHT, WIDTH, 1 if order == "GRAY" else 3], "")
        np.testing.assert_allclose(mean, 30 * (index + 1) * 255 / 219, atol=1)
        assert 0.015 < age < 10


@pytest.mark.parametrize("order", ["BGR", "RGB", "GRAY"])
def test_a_truncated_jpeg_is_not_shown(driver: Path, tmp_path: Path, order: str) -> None:
    colours = np.uint8([(10 + 30 * index, 60, 200 - 20 * index) for index in range(7)])
    jpegs = [jpeg(np.full((HEIGHT, WIDTH, 3), colour, np.uint8)) for colour in colours]
    jpegs[3] = cut(jpegs[3])
    frames, _ = Device(driver, tmp_path, "MJPG", jpegs).take("?format=mjpg", order)
    assert [error[:35] for *_, error, _ in frames] == ["", "", "the JPEG is damaged or cut short (T", "", "", ""]
    gray = cv2.cvtColor(colours[None], cv2.COLOR_BGR2GRAY)[0, :, None]
    expected = {"BGR": colours, "RGB": colours[:, ::-1], "GRAY": gray}[order]
    for index, _, mean, error, _ in frames:
        assert bool(error) == (mean is None)
        assert error or np.abs(np.subtract(mean, expected[index + 1])).max() < 3


def test_settings_are_asked_of_the_driver(driver: Path, tmp_path: Path) -> None:
    device = Device(driver, tmp_path, "YUYV", [yuyv(100)] * 3)
    device.take("?exposure=2000&gain=7", size=[HEIGHT, WIDTH], fps=25)
    # Identifiers of V4L2_CID_EXPOSURE_AUTO (1 is manual), _EXPOSURE_ABSOLUTE (in 100 µs) and _GAIN.
    controls = {"control 10094849 1", "control 10094850 20", "control 9963795 7"}
    assert controls | {f"size {WIDTH} {HEIGHT}", "rate 25 1"} <= set(device.asked)


def test_a_format_that_the_camera_does_not_have(driver: Path, tmp_path: Path) -> None:
    device = Device(driver, tmp_path, "YUYV", [yuyv(100)] * 3)
    frames, lost = device.take("?format=GREY")
    assert frames == []
    assert re.match(r"LrpEdgeError: v4l2://.* does not deliver GREY", lost)


def test_a_camera_that_is_pulled_out_is_lost(driver: Path, tmp_path: Path) -> None:
    device = Device(driver, tmp_path, "YUYV", [yuyv(100)] * 4)
    (tmp_path / "gone").touch()
    frames, lost = device.take()
    assert len(frames) == 3
    assert lost.startswith(f"SourceLost: v4l2://{device.path} is lost: ")


def test_a_device_that_is_not_there_is_told_with_those_that_are(tmp_path: Path) -> None:
    there = ", ".join(sorted(str(path) for path in Path("/dev").glob("video*"))) or "none"
    missing = f"v4l2://{tmp_path}/video9: there is no {tmp_path}/video9; cameras of this system: {there}"
    assert loss(f"v4l2://{tmp_path}/video9") == missing
    if not Path("/dev/video98").exists():
        assert loss("98").startswith("v4l2:///dev/video98: there is no /dev/video98")
    (tmp_path / "file").write_text("no camera")
    assert "it is not a camera, or another program is using it" in loss(f"v4l2://{tmp_path}/file")


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ("formt=MJPG", "did you mean format"),
        ("format=JPEG2000", "'JPEG2000'; expected four letters"),
        ("exposure=dark", "'dark'; expected a number of 0 or more"),
    ],
)
def test_parameters_that_are_none(parameters: str, said: str) -> None:
    with pytest.raises(LrpEdgeError, match=said):
        open_source(f"v4l2:///dev/video0?{parameters}")
