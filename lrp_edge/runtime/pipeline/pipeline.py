"""Capture, engine and sinks, each at its own pace, and an account of every frame."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrp_edge.errors import LrpEdgeError, as_text, first_line
from lrp_edge.options import OptionGroup, like
from lrp_edge.runtime.backoff import Backoff
from lrp_edge.runtime.config import PipelineOptions, VerdictTable
from lrp_edge.runtime.pipeline.capture import Capture
from lrp_edge.runtime.pipeline.counters import Counters, Latencies, Rate
from lrp_edge.runtime.pipeline.delivery import Delivery
from lrp_edge.runtime.pipeline.queues import FrameQueue
from lrp_edge.runtime.pipeline.throttle import Throttle
from lrp_edge.runtime.pipeline.watchdog import Watchdog
from lrp_edge.runtime.pool import Pool
from lrp_edge.runtime.regions import Regions, Rule, survey
from lrp_edge.runtime.result import Event, Frame, Result, Segmentation
from lrp_edge.runtime.sinks.base import Sink
from lrp_edge.runtime.sources import Source

UInt8 = NDArray[np.uint8]
#: Frames uint8 [N, H, W, C] → what the model says of each.
Segment = Callable[[UInt8], Sequence[Segmentation]]

_log = logging.getLogger("lrp_edge.pipeline")
#: Seconds after which an engine is given up at the end.
_HUNG = 30.0
#: Seconds that a sink has to end once it was interrupted.
_LAST_WORDS = 0.5
_QUIET = frozenset({"started", "stopped", "reconnected", "recovered", "changed"})


@dataclass(frozen=True)
class Judgement(OptionGroup):
    """How a mask becomes a verdict.

    Attributes
    ----------
    rule : Rule, optional
        When a part is rejected; by default when its frame is classified as a defect.
    min_area, mm_per_px, most_regions
        As in :class:`~lrp_edge.runtime.config.VerdictTable`.

    Raises
    ------
    LrpEdgeError
        If the rule is in millimetres and the scale is not given, or a figure is out of range.
    """

    rule: Rule | None = None
    min_area: int = like(VerdictTable, "min_area")
    mm_per_px: float | None = like(VerdictTable, "mm_per_px")
    most_regions: int = like(VerdictTable, "most_regions")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rule is not None:
            self.rule.reason(Regions(), self.mm_per_px)

    def judge(self, result: Result) -> None:
        """Fill in regions and verdict of a result that has a segmentation."""
        assert result.segmentation is not None
        found = result.segmentation
        longest = self.rule is not None and self.rule.needs_extents
        regions = survey(found.mask, found.relevance, self.min_area, self.most_regions, longest=longest)
        result.regions, result.regions_found, result.regions_area = regions.listed, regions.count, regions.area
        result.mm_per_px = self.mm_per_px
        if self.rule is None:
            result.reason = f"class {found.name}" if found.defect else ""
        else:
            result.reason = self.rule.reason(regions, self.mm_per_px)
        result.reject = bool(result.reason)


class Pipeline:
    """Frames of a source through an engine into sinks.

    Capture, engine and each sink have a thread of their own. What a thread waits for is outside Python (a decoder, an
    engine, a disk), so they do not hold each other up.

    Parameters
    ----------
    segment : callable
        Frames of one size, uint8 [N, H, W, C] → a Segmentation for each.
    source : Source
        Where frames come from.
    sinks : sequence of Sink
        Where results go, in this order, but for final ones, which come last.
    options : PipelineOptions
        How frames go through.
    judgement : Judgement
        How a mask becomes a verdict.
    first : int
        Id of the first frame.
    progress : callable
        Called with the number of results since the last call.
    backoff : Backoff, optional
        Delays between tries to open a lost source again.

    Attributes
    ----------
    counters : Counters
        Outcome of the frames.
    latencies : Latencies
        How long they took.
    names : collections.Counter
        Segmented frames by predicted class.
    """

    def __init__(
        self,
        segment: Segment,
        source: Source,
        sinks: Sequence[Sink],
        options: PipelineOptions | None = None,
        judgement: Judgement | None = None,
        *,
        first: int = 0,
        progress: Callable[[int], None] = lambda done: None,
        backoff: Backoff | None = None,
    ) -> None:
        self.options, self._segment, self._source = options or PipelineOptions(), segment, source
        self._judgement, self._progress = judgement or Judgement(), progress
        self.policy = self.options.policy or ("latest" if source.live else "lossless")
        skip_bad = self.options.skip_bad
        self._skip_bad = source.live if skip_bad is None else skip_bad
        depth = self.options.batch if self.policy == "latest" else max(8, 2 * self.options.batch)
        self._queue = FrameQueue(self.policy, self.options.queue or depth)
        self.counters, self.latencies, self._rate = Counters(), Latencies(), Rate()
        self.names: Counter[str] = Counter()
        self._deliveries = self._deliver_to(sinks)
        self.capture = Capture(
            source,
            self._queue,
            self.counters,
            self.emit,
            self._fail,
            first=first,
            wait=self.options.wait,
            backoff=backoff,
        )
        self._engine = threading.Thread(target=self._infer, name="engine", daemon=True)
        self._watchdog = Watchdog(self._ages, self.options.stall, self._note_stall)
        self._throttle = Throttle()
        self._failure: BaseException | None = None
        self._batches = Pool(keep=2)
        self.engine_since: float | None = None
        self._started = self._ended = time.monotonic()

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Counters of each sink by its name."""
        return {each.sink.name: each.counts() for each in self._deliveries}

    @property
    def running(self) -> bool:
        """Whether frames are still on their way."""
        return self._engine.is_alive()

    def status(self) -> dict[str, Any]:
        """Return a snapshot of policy, rate, counters and latencies; any thread may ask."""
        return {
            "source": as_text(self._source.name),
            "policy": self.policy,
            "running": self.running,
            "uptime_s": round(time.monotonic() - self._started, 1),
            "fps": self._rate.value(),
            "stalled": sorted(self._watchdog.stalled),
            "mm_per_px": self._judgement.mm_per_px,
            "counters": self.counters.as_dict(),
            "latency_ms": self.latencies.as_dict(),
            "sinks": self.counts,
        }

    def run(
        self,
        stopped: threading.Event | None = None,
        tick: Callable[[], None] = lambda: None,
        opened: Callable[[], None] = lambda: None,
    ) -> None:
        """Run until the source ends or it is stopped, and until every sink has what it is due.

        Parameters
        ----------
        stopped : threading.Event, optional
            Set from elsewhere, e.g. a signal's handler, to stop: frames in flight are finished.
        tick : callable
            Called several times a second meanwhile.
        opened : callable
            Called once source and sinks are open.

        Raises
        ------
        LrpEdgeError
            What ended the run: a source that was never there, a frame that may not be skipped, or under ``lossless``
            a recording sink that failed. Sinks are closed, and what they took before stays.
        """
        stopped = stopped or threading.Event()
        self._started = time.monotonic()
        self.capture.start()
        if not self.options.wait:
            # A missing source must not cost anybody the results of an earlier run.
            while not self._queue.wait(0.1) and not stopped.is_set():
                pass
            if self._failure is not None:
                self._end_capture()
                raise self._failure
        self._open_sinks()
        for thread in (self._engine, self._watchdog):
            thread.start()
        try:
            opened()
            self.emit("started", "pipeline", f"{self._source.name}, policy {self.policy}")
            while self._engine.is_alive() and not (stopped.is_set() and self._hangs()):
                tick()
                self._engine.join(0.1)
                if stopped.is_set():
                    self.stop()
        finally:
            self._finish()
        if self._failure is not None:
            raise self._failure

    def summary(self) -> list[str]:
        """Return, after the run, what became of the frames, as lines to print."""
        c, times = self.counters, self.latencies.as_dict()
        seconds = self._ended - self._started
        classes = ", ".join(f"{name} {count}" for name, count in self.names.most_common())
        skipped = c.unreadable + c.failed
        lines = [
            f"{c.segmented} frames, {c.segmented / seconds:.1f} fps, {self.policy}; engine p50 "
            f"{times['engine']['p50']:.1f} ms, p99 {times['engine']['p99']:.1f} ms; capture to result p50 "
            f"{times['total']['p50']:.1f} ms, p99 {times['total']['p99']:.1f} ms",
            f"{c.defects} defects, {c.rejected} rejected; {classes or 'no class'}; {skipped} skipped, "
            f"{c.dropped} dropped, {c.reconnects} reconnects, {c.stalls} stalls",
        ]
        lost = {
            name: {key: n for key, n in counts.items() if n and key != "delivered"}
            for name, counts in self.counts.items()
        }
        return lines + [
            f"{name}: " + ", ".join(f"{n} {key}" for key, n in each.items()) for name, each in lost.items() if each
        ]

    def stop(self) -> None:
        """Take no more frames from the source; those that it gave are finished."""
        self._source.interrupt()

    def _hangs(self) -> bool:
        """Whether the engine does not come back from a call, so that waiting for it makes no sense."""
        since, limit = self.engine_since, max(2 * self.options.stall, _HUNG)
        if since is None or time.monotonic() - since < limit:
            return False
        self._fail(LrpEdgeError(f"the engine has not answered for {limit:g} s; restart, and check its device"))
        return True

    def emit(self, kind: str, stage: str, message: str, frame: int | None = None) -> None:
        """Log an event and hand it to the sinks."""
        if (left_out := self._throttle.passes(f"{kind} {stage}")) is not None:
            level = logging.WARNING if kind not in _QUIET else logging.INFO if self._source.live else logging.DEBUG
            more = f" (and {left_out} like it since)" if left_out else ""
            _log.log(level, "%s %s: %s%s", stage, kind, message, more)
        event = Event(kind, stage, message, time.time(), frame)
        for each in self._deliveries:
            if each.sink.name != stage:
                each.tell(event)

    def _open_sinks(self) -> None:
        opened: list[Delivery] = []
        try:
            for each in self._deliveries:
                each.sink.open()
                opened.append(each)
        except BaseException:
            for each in opened:
                each.sink.close()
            self._end_capture()
            raise
        for each in self._deliveries:
            each.start()

    def _end_capture(self) -> None:
        """End the source where nothing was segmented yet."""
        # Left in a call of native code, its thread can end the process with SIGABRT when Python shuts down.
        self.stop()
        self._queue.discard()
        self.capture.join(self.options.drain)

    def _finish(self) -> None:
        self.stop()
        if self._failure is None:
            self._engine.join()
        self._ended = time.monotonic()
        self.capture.join(self.options.drain)
        self._watchdog.stop()
        c = self.counters
        self.emit("stopped", "pipeline", f"{c.captured} frames captured, {c.segmented} segmented, {c.dropped} dropped")
        deadline = time.monotonic() + self.options.drain
        # One after the other, so that the last, which is the record, hears how the others ended.
        for each in self._deliveries:
            each.finish()
            each.join(None if each.waits else max(0.0, deadline - time.monotonic()))
            if each.is_alive() and (left := each.abandon()):
                each.join(_LAST_WORDS)
                _log.warning("%s did not end in %g s: %d results abandoned", each.sink.name, self.options.drain, left)

    def _fail(self, error: BaseException) -> None:
        """End the run with an error; frames that wait are dropped."""
        if self._failure is None:
            self._failure = error
        self._source.interrupt()
        self.counters.drop(self._queue.discard())

    def _deliver_to(self, sinks: Sequence[Sink]) -> list[Delivery]:
        lossless, made = self.policy == "lossless", list[Delivery]()
        for sink in sorted(sinks, key=lambda sink: sink.final):
            before = [each for each in made if each.waits and not each.sink.final] if sink.final else []
            made.append(Delivery(sink, lossless, self._reporter(sink.name), self._fail, before))
        return made

    def _reporter(self, name: str) -> Callable[[str, str, int | None], None]:
        return lambda kind, message, frame: self.emit(kind, name, message, frame)

    def _infer(self) -> None:
        try:
            while frames := self._queue.take(self.options.batch, self.options.batch_wait_ms / 1e3):
                self._handle(frames)
                self._progress(len(frames))
        except Exception as error:
            self._fail(error)

    def _handle(self, frames: list[Frame]) -> None:
        if frames[0].image is None:
            self._refuse("unreadable", "source", frames[0], frames[0].error)
            return
        started = self.engine_since = time.monotonic()
        begin = time.perf_counter()
        try:
            answers = self._segment(self._stack(frames))
        except Exception as error:
            self._after_error(frames, error)
            return
        finally:
            self.engine_since = None
        engine_ms = (time.monotonic() - started) * 1e3 / len(frames)
        for frame, answer in zip(frames, answers, strict=True):
            self._deliver(frame, answer, (begin - frame.captured) * 1e3, engine_ms)

    def _stack(self, frames: list[Frame]) -> UInt8:
        images = [frame.image for frame in frames if frame.image is not None]
        if len(images) == 1:
            return images[0][None]
        batch = self._batches.take((len(images), *images[0].shape))
        for place, image in zip(batch, images, strict=True):
            np.copyto(place, image)
        return batch

    def _after_error(self, frames: list[Frame], error: Exception) -> None:
        """Find out which frame of a batch it was: the others must not be lost with it."""
        if len(frames) > 1:
            for position, frame in enumerate(frames, 1):
                try:
                    self._handle([frame])
                except LrpEdgeError:
                    self.counters.drop(frames[position:])
                    raise
            return
        self.counters.failed += 1
        self._refuse("failed", "engine", frames[0], first_line(error))

    def _refuse(self, kind: str, stage: str, frame: Frame, error: str) -> None:
        """Record a frame that has no segmentation, or end the run with it."""
        if not self._skip_bad:
            raise LrpEdgeError(f"{error}; --skip-bad continues without it")
        self.emit(kind, stage, error, frame.index)
        result = Result(frame, error=error, latency_ms=(time.perf_counter() - frame.captured) * 1e3)
        for each in self._deliveries:
            each.offer(result)

    def _deliver(self, frame: Frame, answer: Segmentation, queue_ms: float, engine_ms: float) -> None:
        result = Result(frame, answer, queue_ms=queue_ms, engine_ms=engine_ms)
        self._judgement.judge(result)
        result.latency_ms = (time.perf_counter() - frame.captured) * 1e3
        for ring, value in (
            (self.latencies.queue, queue_ms),
            (self.latencies.engine, engine_ms),
            (self.latencies.total, result.latency_ms),
        ):
            ring.add(value)
        self._rate.tick()
        self.names[answer.name] += 1
        self.counters.segmented += 1
        self.counters.defects += answer.defect
        self.counters.rejected += result.reject
        for each in self._deliveries:
            each.offer(result)

    def _ages(self) -> dict[str, float | None]:
        """Return since when each stage is at one piece of work, or waits for a frame."""
        ages = {each.sink.name: each.busy_since for each in self._deliveries}
        return ages | {"engine": self.engine_since, "source": self.capture.idle_since if self._source.live else None}

    def _note_stall(self, stage: str, seconds: float | None) -> None:
        if seconds is None:
            self.emit("recovered", stage, f"{stage} has recovered")
            return
        self.counters.stalls += 1
        self.emit("stalled", stage, f"{stage} has been stalled for {seconds:.0f} s")
