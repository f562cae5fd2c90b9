"""What the pipeline costs compared with the bare engine, and how old results are behind a source that is too fast."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import onnx
import pytest

import lrp_edge
from lrp_edge.card import MaskSpec
from lrp_edge.checkpoint import load_checkpoint
from lrp_edge.export import to_onnx
from lrp_edge.runtime import Segmenter
from lrp_edge.runtime.pipeline import Pipeline, PipelineOptions
from lrp_edge.runtime.result import Frame
from lrp_edge.runtime.sinks.results import Results
from lrp_edge.runtime.sources import Source
from lrp_edge.runtime.sources.shape import Paced
from lrp_edge.synthetic import draw
from tests.support.runtime_graphs import brightness_card, brightness_graph

pytestmark = pytest.mark.benchmark

CHECKPOINT = Path(lrp_edge.__file__).parent / "assets" / "surfaces.safetensors"

Capture = pytest.CaptureFixture[str]
SIZE = (480, 640)
FRAMES, ROUNDS = 30, 9


class Memory(Source):
    """A few drawn parts over and over."""

    name = "memory"

    def __init__(self, frames: list[np.ndarray], length: int | None = None) -> None:
        super().__init__()
        self.frames, self.length = frames, length

    def __iter__(self) -> Iterator[Frame]:
        for index in count() if self.length is None else range(self.length):
            yield Frame(index, self.name, self.frames[index % len(self.frames)], time.time(), time.perf_counter())


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    _, card = load_checkpoint(CHECKPOINT)
    card = card.replace(input=replace(card.input, size=SIZE), composite="Segmentation", mask=MaskSpec("otsu"))
    return to_onnx(CHECKPOINT, tmp_path_factory.mktemp("model"), card=card)


@pytest.fixture(scope="module")
def frames() -> list[np.ndarray]:
    kinds = ("ok", "crack", "ok", "blowhole", "ok", "scratch")
    return [draw(kind, 9_000 + i, SIZE)[0][..., None] for i, kind in enumerate(kinds)]


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An engine as fast as a GPU's: thresholds and a mean."""
    path = tmp_path_factory.mktemp("quick") / "model.onnx"
    onnx.save(brightness_graph(brightness_card("GRAY", SIZE), 1, SIZE), path)
    return path


def spotted(frames: list[np.ndarray]) -> list[np.ndarray]:
    """Return darker frames, every second with a spot that the quick engine takes for a defect."""
    spots = [frame // 2 for frame in frames]
    for spot in spots[::2]:
        spot[200:240, 300:360] = 255
    return spots


@pytest.mark.parametrize(("which", "threads"), [("model", 1), ("model", 2), ("quick", 1)])
def test_overhead_at_640x480(
    which: str, threads: int, frames: list[np.ndarray], request: pytest.FixtureRequest, tmp_path: Path, capsys: Capture
) -> None:
    length = FRAMES
    if which == "quick":
        length, frames = FRAMES * 20, spotted(frames)
    with Segmenter(request.getfixturevalue(which), threads=threads) as segmenter:
        bare, through = [], []
        for turn in range(ROUNDS + 1):
            start = time.perf_counter()
            for index in range(length):
                segmenter(frames[index % len(frames)])
            bare.append((time.perf_counter() - start) / length * 1e3)
            pipeline = Pipeline(segmenter.batch, Memory(frames, length), [Results(tmp_path / str(turn))])
            start = time.perf_counter()
            pipeline.run()
            through.append((time.perf_counter() - start) / length * 1e3)
            assert pipeline.counters.segmented == length
    engine = statistics.median(bare[1:])
    more = statistics.median(b - a for a, b in zip(bare[1:], through[1:], strict=True))
    with capsys.disabled():
        print(f"\n640x480, {which} engine, {threads} thread(s), medians of {ROUNDS} rounds of {length} frames")
        print(f"  bare engine {engine:7.2f} ms a frame")
        print(f"  pipeline    {engine + more:7.2f} ms a frame: {more:+.2f} ms, {more / engine:+.1%}")


def test_latest_behind_a_source_twice_as_fast(
    model: Path, frames: list[np.ndarray], tmp_path: Path, capsys: Capture
) -> None:
    with Segmenter(model, threads=1) as segmenter:
        engine = statistics.median(timed(segmenter, frames[i % len(frames)]) for i in range(40))
        source = Paced(Memory(frames, 600), 2e3 / engine)
        results = Results(tmp_path / "results")
        pipeline = Pipeline(segmenter.batch, source, [results], PipelineOptions(policy="latest"))
        pipeline.run()
    c, times = pipeline.counters, pipeline.latencies.as_dict()
    assert c.captured == c.segmented + c.dropped == 600
    assert len((tmp_path / "results" / "results.jsonl").read_text().splitlines()) == c.segmented
    with capsys.disabled():
        total = times["total"]
        print(f"\nlatest, a frame each {engine / 2:.1f} ms, an engine of {engine:.1f} ms")
        print(f"  capture to result p50 {total['p50']:.1f} ms ({total['p50'] / engine:.2f} engine times)")
        print(f"                    p99 {total['p99']:.1f} ms ({total['p99'] / engine:.2f} engine times)")
        print(f"  {c.captured} captured = {c.segmented} segmented + {c.dropped} dropped")


def timed(segmenter: Segmenter, frame: np.ndarray) -> float:
    """Return the milliseconds of a call."""
    start = time.perf_counter()
    segmenter(frame)
    return (time.perf_counter() - start) * 1e3
