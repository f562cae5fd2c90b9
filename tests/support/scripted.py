"""Sources, engines and sinks that do what a test tells them to: for the pipeline's own promises."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lrp_edge.errors import LrpEdgeError
from lrp_edge.runtime.pipeline import Pipeline
from lrp_edge.runtime.result import Event, Frame, Result, Segmentation
from lrp_edge.runtime.sinks.base import Sink
from lrp_edge.runtime.sources import Source, SourceLost

SMALL, LARGE = (4, 6, 3), (5, 8, 3)


class Script(Source):
    """Plays a list of steps: ``"frame"``, ``"large"`` (another size), ``"bad"`` (no pixels), ``"lost"``, or a call."""

    name = "script"

    def __init__(self, steps: Sequence[str | Callable[[], None]], *, live: bool = False, period: float = 0.0) -> None:
        super().__init__()
        self.live, self._steps, self._period = live, list(steps), period
        self.opened = self.given = 0

    def __iter__(self) -> Iterator[Frame]:
        self.opened += 1
        while self._steps:
            step = self._steps.pop(0)
            if step == "lost":
                raise SourceLost("script lost")
            if callable(step):
                step()
                continue
            if self._period and self.interrupted.wait(self._period):
                return
            yield self._frame(step)
        # A camera does not end: it gives nothing more until somebody stops the run.
        if self.live:
            self.interrupted.wait()

    def _frame(self, step: str) -> Frame:
        # The brightness tells frames apart; it is their number.
        number = self.given
        self.given += 1
        now, clock = time.time(), time.perf_counter()
        if step == "bad":
            return Frame(number, "script", None, now, clock, "cut short")
        shape = LARGE if step == "large" else SMALL
        return Frame(number, "script", np.full(shape, number % 256, np.uint8), now, clock)


class Engine:
    """Says of a frame what its brightness is; may be slow, wait for a signal, or fail on some brightness."""

    def __init__(self, seconds: float = 0.0, fails_on: Sequence[int] = (), gate: threading.Event | None = None) -> None:
        self._seconds, self._fails_on, self._gate = seconds, set(fails_on), gate
        self.calls: list[list[int]] = []
        self.begun = threading.Event()

    def __call__(self, frames: np.ndarray) -> list[Segmentation]:
        self.begun.set()
        if self._gate is not None:
            self._gate.wait()
        if self._seconds:
            time.sleep(self._seconds)
        values = [int(frame.flat[0]) for frame in frames]
        self.calls.append(values)
        if self._fails_on.intersection(values):
            raise LrpEdgeError("device error")
        return [self._answer(frame, value) for frame, value in zip(frames, values, strict=True)]

    @staticmethod
    def _answer(frame: np.ndarray, value: int) -> Segmentation:
        mask = np.zeros(frame.shape[:2], np.uint8)
        mask[: value % 2] = 255
        scores = np.array([1 - value / 255, value / 255], np.float32)
        return Segmentation(value % 2, ("ok", "odd")[value % 2], value % 2 == 1, scores, mask, mask / 255.0, 0.0)


def result(index: int, source: str = "camera") -> Result:
    """Return a result of a frame; its time and image depend on the index alone."""
    image = np.full((4, 6, 3), index % 256, np.uint8)
    return Result(Frame(index, source, image, 1_700_000_000.25, 12.5), Engine()(image[None])[0], latency_ms=1.5)


def unread(index: int, error: str = "cut short") -> Result:
    """Return the result of a frame that could not be read."""
    return Result(Frame(index, "camera", None, 1.5, 2.5, error), error=error)


class Collect(Sink):
    """Keeps what it gets; may be slow, wait for a signal, or fail on some frames."""

    def __init__(
        self,
        name: str = "collect",
        *,
        recording: bool = False,
        final: bool = False,
        newest: bool = False,
        depth: int = 32,
        seconds: float = 0.0,
        fails_on: Sequence[int] = (),
        gate: threading.Event | None = None,
    ) -> None:
        self.name, self.recording, self.final, self.newest, self.depth = name, recording, final, newest, depth
        self._seconds, self._fails_on, self._gate = seconds, set(fails_on), gate
        self.results: list[Result] = []
        self.events: list[Event] = []
        self.closed = 0

    def write(self, result: Result) -> None:
        if self._gate is not None:
            self._gate.wait()
        if self._seconds:
            time.sleep(self._seconds)
        if result.frame.index in self._fails_on:
            raise LrpEdgeError("no room")
        self.results.append(result)

    def event(self, event: Event) -> None:
        self.events.append(event)

    def close(self) -> None:
        self.closed += 1

    @property
    def ids(self) -> list[int]:
        """Ids of the frames that it got."""
        return [result.frame.index for result in self.results]

    @property
    def kinds(self) -> list[tuple[str, str]]:
        """Kind and stage of the events but for start and stop."""
        return [(event.kind, event.stage) for event in self.events if event.stage != "pipeline"]


def background(pipeline: Pipeline, stopped: threading.Event) -> tuple[threading.Thread, list[BaseException]]:
    """Run a pipeline in a thread; return that and the list that gets what the run raises."""
    errors: list[BaseException] = []

    def work() -> None:
        try:
            pipeline.run(stopped)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    return thread, errors


def lines(folder: Path, name: str = "results.jsonl") -> list[dict[str, Any]]:
    """Return what a line has written so far."""
    path = folder / name
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def until(condition: Callable[[], object], seconds: float = 20.0, what: Callable[[], object] = lambda: "") -> None:
    """Wait until something holds; fail, and say what there is in its place, if it does not come to hold."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"this did not come to hold in time: {what()}"
        time.sleep(0.005)
