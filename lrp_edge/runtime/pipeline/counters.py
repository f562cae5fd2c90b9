"""What is counted and timed while a pipeline runs. Each figure but ``dropped`` has one thread that writes it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, fields

import numpy as np

from lrp_edge.runtime.result import Frame


@dataclass
class Counters:
    """Frames by outcome: ``captured = segmented + failed + unreadable + dropped`` at the end.

    Attributes
    ----------
    captured : int
        Frames that the source gave, those without pixels among them.
    dropped : int
        Frames that went stale under ``latest``, or waited when a run was broken off.
    unreadable : int
        Frames without pixels.
    segmented : int
        Frames with a result.
    failed : int
        Frames on which the engine failed.
    defects, rejected : int
        Segmented frames that were classified as a defect, and those that the verdict rejects.
    reconnects : int
        Times that a lost source came back.
    stalls : int
        Times that a stage stalled for longer than allowed.
    """

    captured: int = 0
    dropped: int = 0
    unreadable: int = 0
    segmented: int = 0
    failed: int = 0
    defects: int = 0
    rejected: int = 0
    reconnects: int = 0
    stalls: int = 0

    def __post_init__(self) -> None:
        self._lock = threading.Lock()

    def drop(self, frames: Iterable[Frame]) -> None:
        """Count frames that go without a result; any thread may. Those without pixels are counted already."""
        with self._lock:
            self.dropped += sum(frame.image is not None for frame in frames)

    def as_dict(self) -> dict[str, int]:
        """Return names and values."""
        return {each.name: getattr(self, each.name) for each in fields(self)}


class Ring:
    """The last values of something, in memory of a fixed size."""

    def __init__(self, size: int = 2048) -> None:
        self._values, self._count = np.zeros(size, np.float32), 0

    def add(self, value: float) -> None:
        """Put a value in the place of the oldest."""
        self._values[self._count % len(self._values)] = value
        self._count += 1

    def percentiles(self) -> dict[str, float]:
        """Return ``p50`` and ``p99``; zeros where there is no value."""
        if not self._count:
            return {"p50": 0.0, "p99": 0.0}
        p50, p99 = np.percentile(self._values[: min(self._count, len(self._values))], (50, 99))
        return {"p50": round(float(p50), 3), "p99": round(float(p99), 3)}


@dataclass
class Latencies:
    """Milliseconds of the last frames, see :class:`~lrp_edge.runtime.result.Result`."""

    queue: Ring = field(default_factory=Ring)
    engine: Ring = field(default_factory=Ring)
    total: Ring = field(default_factory=Ring)

    def as_dict(self) -> dict[str, dict[str, float]]:
        """Return ``p50`` and ``p99`` by stage."""
        return {stage.name: getattr(self, stage.name).percentiles() for stage in fields(self)}


class Rate:
    """Results a second, over the last few seconds."""

    def __init__(self, seconds: float = 3.0) -> None:
        self._seconds = seconds
        self._times: deque[float] = deque(maxlen=4096)

    def tick(self) -> None:
        """Note that one came now."""
        self._times.append(time.monotonic())

    def value(self) -> float:
        """Return how many came in a second."""
        since = time.monotonic() - self._seconds
        recent = [moment for moment in tuple(self._times) if moment >= since]
        return round(len(recent) / self._seconds, 2) if len(recent) < 2 else self._between(recent)

    @staticmethod
    def _between(recent: list[float]) -> float:
        spread = recent[-1] - recent[0]
        return round((len(recent) - 1) / spread, 2) if spread else 0.0
