"""Frames of Aravis' fake GigE camera, over the loopback interface."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import psutil
import pytest

from lrp_edge.errors import LrpEdgeError
from lrp_edge.runtime.pool import Pool
from lrp_edge.runtime.result import Frame
from lrp_edge.runtime.sources import SourceOptions, open_source
from tests.support.scripted import until
from tests.support.servers import FakeCamera, drain, fake_camera, loss, take

pytest.importorskip("gi", reason="PyGObject (extra gobject) is not installed")
try:
    from lrp_edge.runtime.sources.aravis import Arv, FrameNumbers, to_image
except LrpEdgeError as error:
    pytest.skip(str(error), allow_module_level=True)

# What a test before may have set is set back.
USUAL = "region=0,0,256,16&exposure=10000&gain=0"


@pytest.fixture(scope="module")
def camera() -> Iterator[FakeCamera]:
    """A camera that is only looked at."""
    with fake_camera("LRP01") as running:
        yield running


@contextlib.contextmanager
def gone(camera: FakeCamera, after: float = 0.0) -> Iterator[None]:
    """Kill a camera after some seconds; in the end it is there again for other tests."""
    timer = threading.Timer(after, camera.kill)
    timer.start()
    try:
        yield
    finally:
        timer.join()
        camera.start()


def closing() -> bool:
    """Whether Aravis is still closing a camera that was lost."""
    return any(thread.name == "aravis-close" for thread in threading.enumerate())


def shown(address: str, **options: Any) -> np.ndarray:
    """Return the first image; a busy machine loses packets even on its loopback interface."""
    return next(frame.image for frame in take(address, 20, **options) if frame.image is not None)


def ramp(image: np.ndarray) -> np.ndarray:
    """Return the number from which the fake camera counts up along the diagonals of a Mono8 image, of each pixel."""
    rows, columns = np.indices(image.shape[:2])
    return (image.reshape(rows.shape).astype(int) - rows - columns) % 255


def check_account(frames: list[Frame], awaited: int = 16) -> None:
    """Check that what is shown is whole, and that as many came or were missed as the camera counted meanwhile.

    Some that were left out in the last second may still be `awaited`; none is reported twice.
    """
    shown = [(frame.index, ramp(frame.image)) for frame in frames if frame.image is not None]
    for _, numbers in shown:
        assert ((numbers - numbers[0, 0]) % 255 <= 1).all()
    (begin, first), (end, last) = shown[0], shown[-1]
    assert 0 <= (last[0, 0] - first[0, 0]) % 255 - (end - begin) <= awaited


def mosaic(image: np.ndarray, pattern: str) -> bytes:
    """Return what a sensor sees of a BGR image whose colour filters repeat, e.g. ``RGGB`` from the upper left."""
    raw = np.empty(image.shape[:2], np.uint8)
    for place, colour in enumerate(pattern):
        at = (slice(place // 2, None, 2), slice(place % 2, None, 2))
        raw[at] = image[..., "BGR".index(colour)][at]
    return raw.tobytes()


@pytest.mark.parametrize(
    ("name", "order"), [("", "BGR"), ("LRP01", "RGB"), ("127.0.0.1", "GRAY"), ("Aravis-Fake-LRP01", "GRAY")]
)
def test_gray_frames_are_what_the_camera_draws(camera: FakeCamera, name: str, order: str) -> None:
    before = time.perf_counter()
    address = f"aravis://{name}?pixel-format=Mono8&{USUAL}"
    frames = take(address, 10, order, fps=50)
    shown = [frame for frame in frames if not frame.error]
    assert len(shown) > 5
    assert [frame.index for frame in frames] == list(range(10))
    for frame in shown:
        assert frame.source == address
        assert frame.image.shape == (16, 256, 1 if order == "GRAY" else 3)
        assert (frame.image == frame.image[..., :1]).all()
    check_account([dataclasses.replace(frame, image=frame.image[..., 0]) for frame in shown])
    captured = [frame.captured for frame in shown]
    assert before < captured[0] < captured[-1] < time.perf_counter()
    assert all(abs(frame.timestamp - time.time()) < 60 for frame in frames)


@pytest.mark.parametrize("pixel_format", ["RGB8", "BayerGR8", "BayerGB8"])
def test_colours_are_those_of_the_camera(camera: FakeCamera, pixel_format: str) -> None:
    """Where the fake camera's rainbow is green, red rises from column to column as blue falls."""
    image = shown(f"aravis://?pixel-format={pixel_format}&{USUAL}")
    # At its borders a Bayer image repeats its pixels.
    blue, green, red = (image[8, 8:-8, channel].astype(int) for channel in range(3))
    inside = (green == 255) & (np.minimum(red, blue) > 10)
    inside[1:-1] &= inside[:-2] & inside[2:]
    assert inside.sum() > 30
    np.testing.assert_allclose((red + blue)[inside], 256, atol=2)
    np.testing.assert_array_equal(np.gradient(red)[inside], 4)


@pytest.mark.parametrize("pattern", ["RGGB", "GRBG", "GBRG", "BGGR"])
@pytest.mark.parametrize("order", ["BGR", "RGB", "GRAY"])
def test_bayer_patterns(pattern: str, order: str) -> None:
    image = np.full((12, 14, 3), (200, 120, 30), np.uint8)
    data = mosaic(image, pattern) + b"metadata"
    expected = {"BGR": image, "RGB": image[..., ::-1], "GRAY": cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)[..., None]}
    found = to_image(data, (12, 14), f"Bayer{pattern[:2]}8", order, Pool())
    np.testing.assert_array_equal(found, expected[order])


def test_settings_are_those_of_the_device(camera: FakeCamera) -> None:
    address = "aravis://?pixel-format=RGB8&exposure=12345&gain=3&region=8,16,320,240"
    assert shown(address, fps=40).shape == (240, 320, 3)
    device = Arv.Camera.new("Aravis-Fake-LRP01")
    assert device.get_pixel_format_as_string() == "RGB8"
    assert (device.get_exposure_time(), device.get_gain(), device.get_frame_rate()) == (12345, 3, 40)
    region = device.get_region()
    assert (region.x, region.y, region.width, region.height) == (8, 16, 320, 240)


def test_a_longer_exposure_is_brighter(camera: FakeCamera) -> None:
    dark, bright = (
        shown(f"aravis://?pixel-format=Mono8&{USUAL}&exposure={exposure}").mean() for exposure in (10000, 60000)
    )
    assert bright > dark + 20


def test_a_software_trigger_takes_a_frame_whenever_one_is_wanted(camera: FakeCamera) -> None:
    source = open_source(f"aravis://?trigger=software&pixel-format=Mono8&{USUAL}", "GRAY")
    with contextlib.closing(iter(source)) as frames:
        taken = [next(frames)]
        time.sleep(0.5)
        taken += [next(frames) for _ in range(9)]
    assert len([frame for frame in taken if frame.image is not None]) > 5
    check_account(taken)


def test_a_camera_that_waits_for_its_trigger_is_not_lost(camera: FakeCamera) -> None:
    source = open_source("aravis://?trigger=line0", options=SourceOptions(timeout=0.3))
    timer = threading.Timer(2.5, source.interrupt)
    timer.start()
    assert list(source) == []
    assert source.interrupted.is_set()
    timer.join()


def test_frames_that_the_line_is_too_slow_for_are_counted(camera: FakeCamera) -> None:
    source = open_source(f"aravis://?pixel-format=Mono8&{USUAL}", "GRAY", SourceOptions(fps=50))
    with contextlib.closing(iter(source)) as frames:
        first = next(frame for frame in frames if frame.image is not None)
        time.sleep(0.8)
        taken = [next(frames) for _ in range(130)]
    assert [frame.index for frame in taken] == list(range(first.index + 1, first.index + 131))
    missing = [frame for frame in taken if "did not arrive: network or line were too slow" in frame.error]
    assert len(missing) > 15
    assert all(frame.image is None for frame in missing)
    check_account([first, *taken])


def test_frames_that_lack_packets_are_not_shown(camera: FakeCamera) -> None:
    with camera.other("-r", "100"):
        taken = take(f"aravis://?pixel-format=Mono8&{USUAL}", 100, "GRAY", fps=100)
    broken = [frame for frame in taken if frame.image is None]
    assert all("incomplete" in frame.error or "did not arrive" in frame.error for frame in broken)
    assert 5 < len(broken) < 95
    check_account(taken, awaited=50)


@pytest.mark.parametrize("first", [1, 65_520, 70_000])
def test_numbers_that_are_left_out_are_given_up_once_and_late_ones_are_not(first: int) -> None:
    numbers = FrameNumbers()

    def note(number: int, now: float) -> bool:
        number += first
        return numbers.note(number if number <= 65_535 or first > 65_535 else number - 65_535, now)

    came = [(0, 0.0), (1, 0.1), (2, 0.2), (5, 0.5), (6, 0.6), (4, 0.7), (7, 0.8), (4, 0.9), (7, 0.9), (12, 1.2)]
    assert [note(*frame) for frame in came] == [False] * 7 + [True, True, False]
    assert not numbers.note(0, 1.3)
    # 3 was missed at 0.5; 8 to 11 at 1.2, of which 9 comes late.
    assert [numbers.given_up(1.45), numbers.given_up(1.6), numbers.given_up(1.7)] == [0, 1, 0]
    assert not note(9, 2.0)
    assert [numbers.given_up(2.1), numbers.given_up(2.3), numbers.given_up(9)] == [0, 3, 0]


def test_a_camera_that_is_gone_is_lost_and_comes_back(camera: FakeCamera) -> None:
    source = open_source("aravis://LRP01", options=SourceOptions(timeout=1))
    frames = iter(source)
    next(frames)
    with gone(camera):
        _, why, seconds = drain(frames)
        assert why == "aravis://LRP01: no frame for 1 s"
        assert seconds < 20
    frames = iter(source)
    assert next(frames).index == 0
    frames.close()
    assert not closing()


def test_a_camera_that_waits_for_its_trigger_is_lost_when_it_is_gone(camera: FakeCamera) -> None:
    source = open_source("aravis://?trigger=line0", options=SourceOptions(timeout=0.3))
    with gone(camera, after=2):
        _, why, _ = drain(iter(source))
        assert why == "aravis://?trigger=line0: it does not answer"
        until(lambda: not closing(), 60)


def test_interrupting_ends_it_and_nothing_is_left_behind(camera: FakeCamera) -> None:
    take("aravis://", 1)
    before = psutil.Process().num_threads(), len(psutil.Process().net_connections("udp"))
    source = open_source("aravis://", options=SourceOptions(fps=25))
    frames = iter(source)
    next(frames)
    assert len(psutil.Process().net_connections("udp")) > before[1]
    threading.Timer(0.3, source.interrupt).start()
    assert len(list(frames)) < 100
    until(lambda: (psutil.Process().num_threads(), len(psutil.Process().net_connections("udp"))) <= before)


def test_a_camera_that_is_not_there_is_told_with_those_that_are(camera: FakeCamera) -> None:
    assert "'nope' not found; cameras that answer: Aravis-Fake-LRP01 at 127.0.0.1" in loss("aravis://nope")


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ("exposure=1e9", "exposure is 1e.09; the camera takes 10 to 1e.07"),
        ("gain=99", "gain is 99; the camera takes 0 to 10"),
        ("trigger=line7", "trigger is line7; expected off, line0, software"),
        ("pixel-format=Mono16", "Mono16 cannot be used; choose pixel-format of .*BayerRG8, Mono8, RGB8"),
        ("region=0,0,4000,10", "its sensor is 2048,2048"),
    ],
)
def test_what_the_camera_does_not_have(camera: FakeCamera, parameters: str, said: str) -> None:
    with pytest.raises(LrpEdgeError, match=said):
        take(f"aravis://?{parameters}", 1)
    assert shown(f"aravis://?pixel-format=Mono8&{USUAL}").shape == (16, 256, 3)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ("exposur=10", "did you mean exposure"),
        ("exposure=long", "'long'; expected a number of 0 or more"),
        ("gain=-1", "'-1'; expected a number of 0 or more"),
        ("region=1,2,3", "expected x,y,width,height"),
    ],
)
def test_parameters_that_are_none(parameters: str, said: str) -> None:
    with pytest.raises(LrpEdgeError, match=said):
        open_source(f"aravis://?{parameters}")
