"""Measuring an engine whose times are known."""

from __future__ import annotations

import time

import numpy as np
import pytest

from lrp_edge.errors import LrpEdgeError
from lrp_edge.runtime.bench import Duration, bench, random_frames, summary
from lrp_edge.runtime.engines import Engine, Outputs
from tests.support.runtime_graphs import brightness_card


class Sleeper(Engine):
    """Sleeps longer for a bright first frame, which it decides to be a stain."""

    name = provider = "sleeper"

    def __init__(self, ok: float, stain: float, gate: bool = False) -> None:
        self.card = brightness_card(max_batch=4).replace(gate=gate)
        self.seconds, self.calls = (ok, stain), []

    def run(self, frames: np.ndarray) -> Outputs:
        label = (frames[:, 0, 0, 0] > 100).astype(np.int32)
        time.sleep(self.seconds[label.max()])
        self.calls.append(("both", frames))
        zeros = np.zeros(frames.shape[:3])
        return Outputs(np.zeros((len(frames), 2), np.float32), label, zeros.astype(np.uint8), zeros.astype(np.float32))

    def alone(self, frames: np.ndarray) -> None:
        time.sleep(0.004)
        self.calls.append(("alone", frames))


def test_summary_is_numpys() -> None:
    times = np.random.default_rng(0).exponential(size=1000)
    found = summary(times)
    ordered = np.sort(times)
    assert (found["min"], found["max"]) == (ordered[0], ordered[-1])
    assert found["mean"] == pytest.approx(ordered.sum() / 1000)
    for name, percent in (("median", 50), ("p90", 90), ("p95", 95), ("p99", 99)):
        rank = percent / 100 * 999
        low, part = int(rank), rank % 1
        assert found[name] == pytest.approx(ordered[low] * (1 - part) + ordered[low + 1] * part)


def test_times_are_those_of_the_calls_in_turns() -> None:
    engine = Sleeper(0.012, 0.012)
    frames = random_frames(4, 3, 3, 3)
    found = bench(engine, frames, (2,), Duration(iterations=8, warm_up=3), engine.alone)
    (row,) = found["batches"]
    assert [kind for kind, _ in engine.calls] == ["both", "alone"] * 11
    assert (row["batch"], row["iterations"]) == (2, 8)
    assert row["latencyMs"]["min"] >= 12
    assert row["classifierMs"]["min"] >= 4
    assert row["latencyMs"]["median"] < 12 + 20
    assert row["ratio"] == row["latencyMs"]["median"] / row["classifierMs"]["median"]
    assert row["framesPerSecond"] == pytest.approx(2e3 / row["latencyMs"]["mean"])
    assert row["throughputQps"] == pytest.approx(1e3 / row["latencyMs"]["mean"])
    assert "framesPerSecondInFlight" not in row
    assert found["hostPeakMiB"] is None or found["hostPeakMiB"] > 1


def test_seconds_end_it_but_not_before_ten_calls() -> None:
    engine = Sleeper(0.01, 0.01)
    start = time.perf_counter()
    (row,) = bench(engine, random_frames(2, 3, 3, 3), (1,), Duration(seconds=0.3, warm_up=0))["batches"]
    assert 0.3 <= time.perf_counter() - start < 3
    assert 10 <= row["iterations"] <= 30
    (row,) = bench(engine, random_frames(2, 3, 3, 3), (1,), Duration(seconds=0, warm_up=0))["batches"]
    assert row["iterations"] == 10


def test_each_frame_is_used_equally_often() -> None:
    engine = Sleeper(0, 0)
    frames = [np.full((2, 2, 3), level, np.uint8) for level in range(5)]
    bench(engine, frames, (3,), Duration(iterations=10, warm_up=0))
    used = np.concatenate([batch[:, 0, 0, 0] for _, batch in engine.calls])
    np.testing.assert_array_equal(np.bincount(used), [6] * 5)


def test_gate_is_told_apart_by_what_was_decided() -> None:
    engine = Sleeper(0.001, 0.02, gate=True)
    frames = [np.full((2, 2, 3), level, np.uint8) for level in (0, 200, 0, 0)]
    (row,) = bench(engine, frames, (1,), Duration(iterations=12, warm_up=0))["batches"]
    assert row["defectShare"] == 0.25
    assert row["latencyWithDefectMs"]["min"] >= 20
    assert 1 <= row["latencyWithoutDefectMs"]["median"] < 20
    (row,) = bench(engine, frames[:1], (1,), Duration(iterations=2, warm_up=0))["batches"]
    assert (row["defectShare"], row["latencyWithDefectMs"]) == (0, None)


def test_what_cannot_be_measured() -> None:
    engine = Sleeper(0, 0)
    with pytest.raises(LrpEdgeError, match=r"batch 5.*1 to 4"):
        bench(engine, random_frames(2, 3, 3, 3), (1, 5))
    assert engine.calls == []
    with pytest.raises(LrpEdgeError, match="2 sizes; expected one"):
        bench(engine, [np.zeros((2, 2, 3), np.uint8), np.zeros((2, 3, 3), np.uint8)])


def test_random_frames_are_those_of_the_seed() -> None:
    first, again, other = random_frames(2, 9, 7, 3, 5), random_frames(2, 9, 7, 3, 5), random_frames(2, 9, 7, 3, 6)
    np.testing.assert_array_equal(first, again)
    assert (first != other).mean() > 0.9
    assert first.dtype == np.uint8
