"""How long a model takes: latency and throughput by batch size, and of the classifier alone."""

from __future__ import annotations

import math
import os
import platform
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrp_edge.errors import LrpEdgeError
from lrp_edge.options import accepted
from lrp_edge.runtime.bench_options import BenchOptions, Duration
from lrp_edge.runtime.engines.base import Engine, Outputs, UInt8, largest_batch

__all__ = ["Duration", "bench", "check_batches", "random_frames"]

Numbers = dict[str, float]
Classifier = Callable[[UInt8], Any]
_PERCENTILES = (90, 95, 99)
_LEAST_CALLS = 10


def random_frames(count: int, height: int, width: int, channels: int, seed: int = 0) -> UInt8:
    """Return frames of uniform noise, uint8 [count, height, width, channels]."""
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, channels), dtype=np.uint8)


def bench(
    engine: Engine,
    frames: Sequence[UInt8] | UInt8,
    batches: Sequence[int] = BenchOptions.batches,
    duration: Duration = Duration(),
    classifier: Classifier | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Measure an engine.

    A call is measured from frames in the host's memory to outputs in the host's memory. Class and mask, and the
    classifier alone where it is given, are called alternately, so that a drift of the machine's clock hits both.

    Parameters
    ----------
    engine : Engine
        What is measured.
    frames : sequence of uint8 [H, W, C]
        Frames of one size, used over and over.
    batches : sequence of int
        Frames in one call.
    duration : Duration
        How long, for each batch size.
    classifier : callable, optional
        The classifier alone: takes uint8 [N, H, W, C].
    progress : callable
        Called with what is measured next.

    Returns
    -------
    dict
        Names and units as in the exports of NVIDIA's ``trtexec``. ``engine``, ``precision``, ``gate``, ``frame`` (H, W,
        C), ``host``, ``hostPeakMiB`` (the process's largest resident set), ``deviceMiB`` (GPU memory that the engine
        took; None on the CPU), and for each of ``batches``:

        - ``batch``, ``iterations``;
        - ``latencyMs``: ``min max mean median p90 p95 p99``, the time of a call, copies included;
        - ``throughputQps`` in calls and ``framesPerSecond`` in frames, one call after the other;
        - ``framesPerSecondInFlight``, with ``engine.in_flight`` calls under way, where that is more than 1;
        - ``h2dMs``, ``computeMs``, ``d2hMs``: the same figures as for ``latencyMs``, by the GPU's own clock, for an
          engine that has one;
        - ``classifierMs``, and ``ratio`` of both medians, where the classifier was given;
        - ``defectShare``: share of the frames that were classified as a defect; with a gate also
          ``latencyWithDefectMs`` and ``latencyWithoutDefectMs`` of the calls with and without such a frame (None where
          there was none), since the gate leaves out relevance without one.

    Raises
    ------
    LrpEdgeError
        If a batch is larger than the engine takes, or the frames are not of one size.
    """
    batches = accepted(BenchOptions, batches=tuple(batches))["batches"]
    check_batches(engine, batches)
    sizes = {frame.shape for frame in frames}
    if len(sizes) != 1:
        raise LrpEdgeError(f"frames to measure with have {len(sizes)} sizes; expected one: choose frames of one size")
    measured = []
    for batch in batches:
        progress(f"batch {batch}")
        measured.append(_one_batch(engine, _cycle(frames, batch), duration, classifier))
    device = getattr(engine, "device_bytes", None)
    return {
        "engine": engine.name,
        "precision": engine.card.precision,
        "gate": engine.card.gate,
        "frame": list(next(iter(sizes))),
        "host": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
        "hostPeakMiB": peak_memory(),
        "deviceMiB": None if device is None else device / 2**20,
        "batches": measured,
    }


def check_batches(engine: Engine, batches: Sequence[int]) -> None:
    """Make sure, before minutes of measuring, that the engine takes each batch."""
    most = largest_batch(engine.card)
    remedy = "compile with another --batch" if engine.card.profile else "export with --max-batch"
    for batch in batches:
        if not 1 <= batch <= most:
            raise LrpEdgeError(f"batch {batch}: this model takes 1 to {most} frames in one call; {remedy}")


def summary(milliseconds: Sequence[float] | NDArray[np.float64]) -> Numbers:
    """Return ``min max mean median p90 p95 p99`` of times."""
    times = np.asarray(milliseconds, np.float64)
    figures = {"min": times.min(), "max": times.max(), "mean": times.mean(), "median": np.median(times)}
    figures |= {f"p{percent}": np.percentile(times, percent) for percent in _PERCENTILES}
    return {name: float(value) for name, value in figures.items()}


def peak_memory() -> float | None:
    """Return the largest resident set of this process so far in MiB; None where the system does not say."""
    try:
        import resource
    except ModuleNotFoundError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def _cycle(frames: Sequence[UInt8] | UInt8, batch: int) -> list[UInt8]:
    """Return batches that together use each frame equally often."""
    rounds = math.lcm(len(frames), batch) // batch
    return [np.stack([frames[(i * batch + j) % len(frames)] for j in range(batch)]) for i in range(rounds)]


@dataclass
class _Times:
    """Milliseconds of the calls of one batch size; what each decided."""

    both: list[float]
    alone: list[float]
    stages: list[tuple[float, ...]]
    defects: list[float]


def _one_batch(
    engine: Engine, batches: list[UInt8], duration: Duration, classifier: Classifier | None
) -> dict[str, Any]:
    for index in range(duration.warm_up):
        engine.run(batches[index % len(batches)])
        if classifier:
            classifier(batches[index % len(batches)])
    times = _in_turns(engine, batches, duration, classifier)
    size, total = len(batches[0]), sum(times.both) / 1e3
    found: dict[str, Any] = {
        "batch": size,
        "iterations": len(times.both),
        "latencyMs": summary(times.both),
        "throughputQps": len(times.both) / total,
        "framesPerSecond": size * len(times.both) / total,
        "defectShare": float(np.mean(times.defects)),
    }
    if engine.in_flight > 1:
        found["framesPerSecondInFlight"] = size * len(times.both) / _in_flight(engine, batches, len(times.both))
    for name, stage in zip(("h2dMs", "computeMs", "d2hMs"), zip(*times.stages, strict=True), strict=False):
        found[name] = summary(stage)
    if times.alone:
        found["classifierMs"] = summary(times.alone)
        found["ratio"] = found["latencyMs"]["median"] / found["classifierMs"]["median"]
    if engine.card.gate:
        found |= _by_decision(times)
    return found


def _in_turns(engine: Engine, batches: list[UInt8], duration: Duration, classifier: Classifier | None) -> _Times:
    times, stages = _Times([], [], [], []), getattr(engine, "stages", None)
    end = perf_counter() + duration.seconds
    for index in count():
        enough = perf_counter() >= end and index >= _LEAST_CALLS
        if enough if duration.iterations is None else index >= duration.iterations:
            return times
        frames = batches[index % len(batches)]
        milliseconds, outputs = _timed(engine.run, frames)
        times.both.append(milliseconds)
        times.defects.append(float(np.isin(outputs.label, engine.card.defect_indices).mean()))
        if stages:
            times.stages.append(tuple(stages()))
        if classifier:
            times.alone.append(_timed(classifier, frames)[0])
    raise AssertionError("count() has no end")


def _timed(call: Callable[[UInt8], Any], frames: UInt8) -> tuple[float, Any]:
    start = perf_counter()
    answer = call(frames)
    return (perf_counter() - start) * 1e3, answer


def _in_flight(engine: Engine, batches: list[UInt8], calls: int) -> float:
    """Return the seconds of this many calls with as many under way as the engine takes."""
    under_way: deque[Callable[[], Outputs]] = deque()
    start = perf_counter()
    for index in range(calls):
        under_way.append(engine.submit(batches[index % len(batches)]))
        if len(under_way) == engine.in_flight:
            under_way.popleft()()
    while under_way:
        under_way.popleft()()
    return perf_counter() - start


def _by_decision(times: _Times) -> dict[str, Numbers | None]:
    parts = {
        "latencyWithDefectMs": [time for time, share in zip(times.both, times.defects, strict=True) if share > 0],
        "latencyWithoutDefectMs": [time for time, share in zip(times.both, times.defects, strict=True) if share == 0],
    }
    return {name: summary(part) if part else None for name, part in parts.items()}
