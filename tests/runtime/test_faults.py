"""Faults while a line runs on real cameras, brokers and disks: no crash, nothing left behind, all losses counted."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from lrp_edge.errors import LrpEdgeError
from lrp_edge.runtime import Segmenter
from lrp_edge.runtime.backoff import Backoff
from lrp_edge.runtime.pipeline import Pipeline, PipelineOptions
from lrp_edge.runtime.sinks.base import Sink
from lrp_edge.runtime.sinks.images import Images
from lrp_edge.runtime.sinks.mqtt import Mqtt
from lrp_edge.runtime.sinks.results import Results
from lrp_edge.runtime.sources import Source, SourceOptions, open_source
from tests.support.brokers import broker, listener
from tests.support.disks import disk
from tests.support.scripted import Collect, Engine, Script, background, lines, until
from tests.support.servers import cut, jpeg, mjpeg_server, part, rtsp_server

pytestmark = pytest.mark.usefixtures("leaves_nothing_behind")


@contextmanager
def running(
    segment: Callable, source: Source, sinks: Sequence[Sink], **options: object
) -> Iterator[tuple[Pipeline, list[BaseException]]]:
    """Run a line in the background, and stop it in the end."""
    stopped = threading.Event()
    pipeline = Pipeline(segment, source, sinks, PipelineOptions(**options), backoff=Backoff(0.05, 0.4))
    thread, errors = background(pipeline, stopped)
    try:
        yield pipeline, errors
    finally:
        stopped.set()
        thread.join()


def assert_accounted_for(pipeline: Pipeline, folder: Path) -> None:
    c = pipeline.counters
    assert c.captured == c.segmented + c.failed + c.unreadable + c.dropped
    found = [line for line in lines(folder) if "error" not in line]
    assert len(found) == c.segmented
    ids = [line["frame"] for line in lines(folder)]
    assert ids == sorted(set(ids))
    assert not ids or ids[-1] < c.captured


@pytest.fixture
def segmenter(model: Path) -> Iterator[Segmenter]:
    with Segmenter(model, provider="cpu", threads=1) as opened:
        yield opened


@pytest.mark.parametrize("policy", ["latest", "lossless"])
def test_an_rtsp_camera_that_is_killed_five_times(policy: str, segmenter: Segmenter, tmp_path: Path) -> None:
    options = SourceOptions(timeout=10.0)
    with rtsp_server("white", fps=25) as server:
        source = open_source(server.address, "BGR", options)
        with running(segmenter.batch, source, [Results(tmp_path)], policy=policy) as (pipeline, errors):
            until(lambda: pipeline.counters.segmented >= 5, 60)
            for times in range(1, 6):
                server.kill()
                until(lambda: pipeline.capture.idle_since is None, 60)
                server.start()
                until(lambda times=times: pipeline.counters.reconnects >= times, 60)
                before = pipeline.counters.segmented
                until(lambda before=before: pipeline.counters.segmented >= before + 5, 60)
    assert not errors
    assert pipeline.counters.reconnects >= 5
    assert_accounted_for(pipeline, tmp_path)
    if policy == "lossless":
        assert pipeline.counters.dropped == 0
        assert [line["frame"] for line in lines(tmp_path)] == list(range(pipeline.counters.captured))
    kinds = [event["kind"] for event in lines(tmp_path, "events.jsonl")]
    assert kinds.count("reconnected") == pipeline.counters.reconnects <= kinds.count("lost")
    # White frames: a black one in between would be decided otherwise.
    assert {line.get("name", "stain") for line in lines(tmp_path)} == {"stain"}


def test_truncated_frames_are_counted_and_never_shown(segmenter: Segmenter, tmp_path: Path) -> None:
    whole = jpeg(np.full((48, 64, 3), 220, np.uint8))
    stream = [whole, cut(whole), whole, whole, cut(whole)]
    with mjpeg_server(stream, end="hang") as server:
        source = open_source(server.address, "BGR", SourceOptions(timeout=5.0))
        with running(segmenter.batch, source, [Results(tmp_path)], policy="lossless") as (pipeline, errors):
            until(lambda: pipeline.counters.captured == 5, 30)
            server.kill()
            until(lambda: "lost" in {event["kind"] for event in lines(tmp_path, "events.jsonl")}, 30)
    assert not errors
    assert (pipeline.counters.segmented, pipeline.counters.unreadable) == (3, 2)
    assert_accounted_for(pipeline, tmp_path)
    assert [line.get("name", "none") for line in lines(tmp_path)] == ["stain", "none", "stain", "stain", "none"]


def test_a_camera_that_comes_back_with_another_size(segmenter: Segmenter, tmp_path: Path) -> None:
    small, large = (jpeg(np.full((*size, 3), 220, np.uint8)) for size in ((48, 64), (96, 128)))
    with mjpeg_server([small], end="repeat") as server:
        source = open_source(server.address, "BGR", SourceOptions(timeout=5.0))
        images = Images(tmp_path, "BGR", overlays=False)
        with running(segmenter.batch, source, [images, Results(tmp_path)], policy="lossless", batch=3) as (
            pipeline,
            errors,
        ):
            until(lambda: pipeline.counters.segmented >= 5, 30)
            server.kill()
            server.pieces = [part(large)]
            server.start()
            until(lambda: pipeline.counters.reconnects == 1, 30)
            before = pipeline.counters.segmented
            until(lambda: pipeline.counters.segmented >= before + 5, 30)
    assert not errors
    assert_accounted_for(pipeline, tmp_path)
    changed = [event for event in lines(tmp_path, "events.jsonl") if event["kind"] == "changed"]
    assert [event["message"].endswith("are 96x128 now, were 48x64") for event in changed] == [True]
    boxes = [line["regions"][0]["box"] for line in lines(tmp_path)]
    first = changed[0]["frame"]
    assert boxes[:first] == [[0, 0, 64, 48]] * first
    assert boxes[first:] == [[0, 0, 128, 96]] * (len(boxes) - first)


@pytest.mark.parametrize("frames", [60, pytest.param(600, marks=pytest.mark.thorough)])
def test_a_broker_that_is_away_for_seconds_or_a_minute_costs_nothing(frames: int, tmp_path: Path) -> None:
    with broker(tmp_path / "broker") as server, listener(server.port) as listening:
        sink = Mqtt(f"mqtt://127.0.0.1:{server.port}", topic="line", outbox=100_000)
        source = Script(["frame"] * 100_000, live=True, period=0.1)
        results = Results(tmp_path / "out")
        with running(Engine(), source, [sink, results], policy="lossless", drain=30.0) as (pipeline, errors):
            until(lambda: pipeline.counters.segmented >= 20)
            server.stop(signal.SIGKILL)
            # The line does not notice; what is for the broker waits, at ten frames a second.
            missed = pipeline.counters.segmented + frames
            until(lambda: pipeline.counters.segmented >= missed, 300)
            server.start()
            until(lambda: pipeline.counts["mqtt"]["published"] >= missed, 60)
        assert not errors
        expected = [line["frame"] for line in lines(tmp_path / "out")]
        until(lambda: listening.frames("line/result")[-1:] == expected[-1:], 60, lambda: len(listening.messages))
        # At least once, as MQTT's QoS 1 promises; none missing, and the first time in order.
        assert listening.frames("line/result") == expected
    counts = pipeline.counts["mqtt"]
    assert (counts["outbox_dropped"], counts["dropped"], counts["failed"]) == (0, 0, 0)
    assert expected == list(range(pipeline.counters.captured))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with disk(tmp_path / "disk", "256k") as folder:
        yield folder


def test_a_full_disk_ends_a_lossless_run_without_a_hole(small_disk: Path) -> None:
    pipeline = Pipeline(Engine(), Script(["frame"] * 100_000), [Results(small_disk / "out")], PipelineOptions())
    with pytest.raises(LrpEdgeError, match="No space left on device; free space"):
        pipeline.run()
    found = [line["frame"] for line in lines(small_disk / "out")]
    assert found == list(range(len(found)))
    assert pipeline.counts["results"]["delivered"] == len(found)
    c = pipeline.counters
    assert c.captured == c.segmented + c.dropped < 100_000


def images_named(folder: Path) -> list[Path]:
    """Return the images that the lines of a folder name."""
    return [folder / line[part] for line in lines(folder) for part in ("mask", "overlay") if part in line]


def test_a_full_disk_ends_a_lossless_run_before_the_first_frame_whose_images_are_not_there(small_disk: Path) -> None:
    folder = small_disk / "out"
    source = Script(["frame"] * 100_000)
    pipeline = Pipeline(Engine(), source, [Images(folder, "BGR"), Results(folder)], PipelineOptions())
    with pytest.raises(LrpEdgeError, match="No space left on device"):
        pipeline.run()
    ids = [line["frame"] for line in lines(folder)]
    assert ids == list(range(len(ids)))
    assert len(images_named(folder)) == 2 * len(ids) > 0
    assert all(path.stat().st_size for path in images_named(folder))


KILLED = """
import sys
sys.path[:0] = {path!r}
from pathlib import Path
from lrp_edge.runtime.pipeline import Pipeline, PipelineOptions
from lrp_edge.runtime.sinks.images import Images
from lrp_edge.runtime.sinks.results import Results
from tests.support.scripted import Engine, Script
folder = Path({folder!r})
Pipeline(Engine(), Script(["frame"] * 10**6), [Images(folder, "BGR"), Results(folder)], PipelineOptions()).run()
"""


@pytest.mark.parametrize("seconds", [0.0, 0.05, 0.2])
def test_a_killed_lossless_run_has_every_image_that_its_lines_name(seconds: float, tmp_path: Path) -> None:
    code = KILLED.format(path=sys.path, folder=str(tmp_path))
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        until(lambda: len(lines(tmp_path)) >= 10, 60)
        time.sleep(seconds)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    named = images_named(tmp_path)
    assert len(named) >= 20
    assert [path for path in named if not path.is_file() or not path.stat().st_size] == []


def test_a_full_disk_is_counted_and_a_live_line_goes_on(small_disk: Path) -> None:
    (small_disk / "ballast").write_bytes(bytes(100_000))
    display = Collect("display", depth=100_000)
    sinks = [Images(small_disk / "out", "BGR"), display, Results(small_disk / "out")]
    source = Script(["frame"] * 100_000, live=True, period=0.002)
    with running(Engine(), source, sinks, policy="latest") as (pipeline, errors):
        until(lambda: pipeline.counts["images"]["failed"] and pipeline.counts["results"]["failed"], 60)
        (small_disk / "ballast").unlink()
        seen = len(display.results)
        until(lambda: len(display.results) >= seen + 20)
    assert not errors
    counts, c = pipeline.counts, pipeline.counters
    assert c.captured == c.segmented + c.dropped
    for name in ("images", "results"):
        assert counts[name]["delivered"] + counts[name]["failed"] + counts[name]["dropped"] == c.segmented
    assert len(lines(small_disk / "out")) == counts["results"]["delivered"]
    assert len(list((small_disk / "out" / "masks").glob("*.png"))) >= counts["images"]["delivered"]
    assert {("failed", "images"), ("recovered", "images")} <= set(display.kinds)
