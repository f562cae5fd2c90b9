"""Frames of GStreamer pipelines: pixels, sizes, what is broken, and what ends them."""

from __future__ import annotations

import contextlib
import itertools
import logging
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest

from lrp_edge.errors import LrpEdgeError
from lrp_edge.runtime.sources import SourceOptions, open_source
from lrp_edge.runtime.sources.uri import parse
from tests.support.scripted import until
from tests.support.servers import JPEG, cut, drain, jpeg, loss, noise, rtsp_server, take

pytest.importorskip("gi", reason="PyGObject (extra gobject) is not installed")
try:
    from lrp_edge.runtime.sources.gstreamer import Gst, csi_pipeline
except LrpEdgeError as error:
    pytest.skip(str(error), allow_module_level=True)
Gst.init(None)
if missing := [name for name in ("pngdec", "jpegdec", "videotestsrc") if not Gst.ElementFactory.find(name)]:
    pytest.skip(f"GStreamer has no {', '.join(missing)} (package gstreamer1.0-plugins-good)", allow_module_level=True)


def files(folder: Path, images: list[np.ndarray | bytes], suffix: str, media: str) -> str:
    """Write images; return the beginning of a pipeline that reads them."""
    for index, image in enumerate(images):
        data = image if isinstance(image, bytes) else cv2.imencode(suffix, image)[1].tobytes()
        (folder / f"{index}{suffix}").write_bytes(data)
    return f'gst://multifilesrc location={folder}/%d{suffix} stop-index={len(images) - 1} caps="{media},framerate=50/1"'


@pytest.mark.parametrize("order", ["BGR", "RGB", "GRAY"])
@pytest.mark.parametrize("size", [(67, 101), (64, 64), (5, 3), (2, 1)])
def test_pixels_are_those_of_the_pipeline_whatever_the_width(tmp_path: Path, order: str, size: tuple[int, int]) -> None:
    images = [np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8) for seed in range(3)]
    address = files(tmp_path, images, ".png", "image/png") + " ! pngdec"
    frames, why, _ = drain(iter(open_source(address, order)))
    assert why == f"{address} ended"
    assert [frame.index for frame in frames] == [0, 1, 2]
    assert {(frame.source, frame.error) for frame in frames} == {(address, "")}
    for frame, image in zip(frames, images, strict=True):
        gray = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)[..., None]
        np.testing.assert_array_equal(frame.image, {"BGR": image, "RGB": image[..., ::-1], "GRAY": gray}[order])


@pytest.mark.parametrize("form", ["I420", "NV12", "YUY2", "BGRx", "I420,colorimetry=bt709"])
@pytest.mark.parametrize("order", ["BGR", "GRAY"])
def test_brightness_has_its_whole_range_whatever_the_cameras_format(form: str, order: str) -> None:
    for pattern, colour in (("white", (255, 255, 255)), ("black", (0, 0, 0)), ("red", (0, 0, 255))):
        source = f"gst://videotestsrc pattern={pattern} ! video/x-raw,format={form},width=98,height=50"
        image = take(source, 1, order)[0].image
        expected = np.uint8([[colour]])
        expected = cv2.cvtColor(expected, cv2.COLOR_BGR2GRAY) if order == "GRAY" else expected
        np.testing.assert_allclose(image.reshape(50, 98, -1).mean((0, 1)), expected.ravel(), atol=3)


def test_gray_cameras_pass_as_they_are(tmp_path: Path) -> None:
    gray = np.random.default_rng(0).integers(0, 256, (33, 47), dtype=np.uint8)
    address = files(tmp_path, [gray], ".png", "image/png") + " ! pngdec"
    np.testing.assert_array_equal(take(address, 1, "GRAY")[0].image[..., 0], gray)
    np.testing.assert_array_equal(take(address, 1, "RGB")[0].image, np.repeat(gray[..., None], 3, 2))


def test_a_size_that_changes_is_the_new_frames_size(tmp_path: Path) -> None:
    images = [noise(*size) for size in [(48, 64)] * 2 + [(61, 83)] * 3 + [(48, 64)]]
    address = files(tmp_path, images, ".png", "image/png") + " ! pngdec"
    frames, _, _ = drain(iter(open_source(address)))
    assert len(frames) == 6
    for frame, image in zip(frames, images, strict=True):
        np.testing.assert_array_equal(frame.image, image)


@pytest.mark.parametrize("order", ["BGR", "RGB", "GRAY"])
def test_a_pipeline_that_ends_in_jpeg_shows_no_truncated_one(tmp_path: Path, order: str) -> None:
    images = [noise(48, 64, seed=seed) for seed in range(6)]
    jpegs = [cut(jpeg(image)) if index in (1, 4) else jpeg(image) for index, image in enumerate(images)]
    frames, _, _ = drain(iter(open_source(files(tmp_path, jpegs, ".jpg", "image/jpeg"), order)))
    assert [frame.index for frame in frames if frame.error.startswith("the JPEG is damaged or cut short")] == [1, 4]
    assert len([frame for frame in frames if frame.image is not None]) == 4
    for frame in frames:
        if not frame.error:
            shown = cv2.imdecode(np.frombuffer(jpegs[frame.index], np.uint8), cv2.IMREAD_COLOR)
            gray = cv2.imdecode(np.frombuffer(jpegs[frame.index], np.uint8), cv2.IMREAD_GRAYSCALE)[..., None]
            np.testing.assert_array_equal(frame.image, {"BGR": shown, "RGB": shown[..., ::-1], "GRAY": gray}[order])


def test_nothing_is_lost_when_the_line_is_slower_than_the_pipeline() -> None:
    frames = []
    with contextlib.suppress(LrpEdgeError):
        for frame in open_source("gst://videotestsrc num-buffers=20 pattern=ball ! video/x-raw,width=64,height=48"):
            frames.append(frame)
            time.sleep(0.01)
    assert [frame.index for frame in frames] == list(range(20))


def test_a_network_camera_that_is_gone_is_lost_and_comes_back() -> None:
    with rtsp_server("red", (120, 160), coding=JPEG) as server:
        address = f"gst://rtspsrc location={server.address} latency=0 ! rtpjpegdepay ! jpegdec"
        source = open_source(address, options=SourceOptions(timeout=3))
        frames = iter(source)
        assert next(frames).image.mean((0, 1)).argmax() == 2
        server.kill()
        _, why, seconds = drain(frames)
        assert why.startswith(address)
        assert seconds < 20
        assert drain(iter(source))[0] == []
        server.start()
        assert [frame.index for frame in itertools.islice(source, 3)] == [0, 1, 2]


def test_passwords_in_a_pipeline_are_not_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with rtsp_server("red", (120, 160), coding=JPEG, login="viewer:s3cret") as server:
        place = f"rtspsrc location={server.address} latency=0"
        right = f"gst://{place} user-id=viewer user-pw=s3cret ! rtpjpegdepay ! jpegdec"
        shown = [take(right, 1)[0].source, loss(right.replace("s3cret", "wr0ng"))]
        shown.append(loss(right.replace("//127", "//viewer:wr0ng@127").replace("user-id=viewer user-pw=s3cret", "")))
        with pytest.raises(LrpEdgeError) as error:
            open_source(right.replace("jpegdec", "nodec"))
        shown.append(str(error.value))
    for text in (*shown, caplog.text):
        assert not any(secret in text for secret in ("s3cret", "wr0ng", "viewer"))


def test_a_pipeline_without_frames_is_lost() -> None:
    address = "gst://videotestsrc is-live=true ! valve drop=true"
    _, why, seconds = drain(iter(open_source(address, options=SourceOptions(timeout=0.5))))
    assert why == f"{address}: no frame for 0.5 s"
    assert 0.4 < seconds < 10
    assert "Resource not found" in loss("gst://filesrc location=/no/such/file ! pngdec")


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("gst://videotestsrk", 'no element "videotestsrk"'),
        ("gst://videotestsrc !", "syntax error"),
        ("gst://", "syntax error"),
        ("gst://videotestsrc patern=red", 'no property "patern"'),
        ("gst://videotestsrc ! fakesink", "could not link"),
    ],
)
def test_what_is_no_pipeline(address: str, said: str) -> None:
    with pytest.raises(LrpEdgeError, match=said) as error:
        open_source(address)
    # Whatever is no known property may be a secret.
    assert str(error.value).startswith(f"{address.replace('red', '***')} is not a pipeline")
    assert "\n" not in str(error.value)


def test_interrupting_ends_it_and_nothing_is_left_behind() -> None:
    address = "gst://videotestsrc is-live=true ! video/x-raw,width=64,height=48,framerate=50/1"
    take(address, 1)
    threads = psutil.Process().num_threads()
    for still in ("", " ! valve drop=true"):
        source = open_source(address + still)
        timer = threading.Timer(0.3, source.interrupt)
        timer.start()
        began = time.monotonic()
        frames = list(source)
        assert time.monotonic() - began < 4
        assert bool(frames) == (not still)
        timer.join()
    until(lambda: psutil.Process().num_threads() <= threads)


@pytest.mark.parametrize(
    ("address", "options", "expected"),
    [
        ("csi://0", {}, "sensor-id=0 ! video/x-raw(memory:NVMM) ! "),
        (
            "csi://1",
            {"size": (1080, 1920), "fps": 30},
            "sensor-id=1 ! video/x-raw(memory:NVMM),width=1920,height=1080,framerate=30/1 ! ",
        ),
        ("csi://0", {"fps": 59.94}, "sensor-id=0 ! video/x-raw(memory:NVMM),framerate=2997/50 ! "),
        (
            "csi://0?exposure=250.5&gain=4",
            {},
            'sensor-id=0 exposuretimerange="250500 250500" gainrange="4 4" ! video/x-raw(memory:NVMM) ! ',
        ),
    ],
)
def test_a_jetsons_camera_is_this_pipeline(address: str, options: dict, expected: str) -> None:
    text = csi_pipeline(parse(address, ["csi"]), SourceOptions(**options))
    assert text == f"nvarguscamerasrc {expected}nvvidconv ! video/x-raw,format=BGRx"


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("csi://front", "the camera's number"),
        ("csi://0?exposur=3", "did you mean exposure"),
        ("csi://0?gain=loud", "'loud'; expected a number"),
    ],
)
def test_parameters_of_a_jetsons_camera_that_are_none(address: str, said: str) -> None:
    with pytest.raises(LrpEdgeError, match=said):
        open_source(address)


def test_a_jetsons_camera_elsewhere() -> None:
    if Gst.ElementFactory.find("nvarguscamerasrc"):
        pytest.skip("this is a Jetson")
    with pytest.raises(LrpEdgeError, match="csi://0: GStreamer has no nvarguscamerasrc"):
        open_source("csi://0")


def test_an_engine_s_exceptions_stay_exceptions_beside_gstreamer(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    code = (
        "import openvino, sys\n"
        "from lrp_edge.errors import LrpEdgeError\n"
        "from lrp_edge.runtime.engines import open_engine\n"
        "from lrp_edge.runtime.sources import open_source\n"
        "open_source('gst://videotestsrc')\n"
        "try: open_engine(sys.argv[1], 'openvino')\n"
        "except LrpEdgeError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "broken.onnx"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "broken.onnx is not an ONNX file that can be run" in done.stdout
