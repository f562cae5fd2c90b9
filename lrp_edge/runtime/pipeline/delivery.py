"""The thread and the bounded queue in front of each sink."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import chain

from lrp_edge.errors import LrpEdgeError, first_line
from lrp_edge.runtime.pipeline.queues import LARGEST, NOTES
from lrp_edge.runtime.result import Event, Result
from lrp_edge.runtime.sinks.base import Sink

_EVENTS = 256


class Delivery(threading.Thread):
    """Hands results to one sink, so that a slow or failing one never holds up the line.

    Parameters
    ----------
    sink : Sink
        What takes them.
    lossless : bool
        Whether a recording sink is waited for, and ends the run when it fails.
    report : callable
        Takes kind, message and frame id of an event.
    fail : callable
        Takes the error that ends the run.
    before : sequence of Delivery
        Those that must have written a result before the sink gets it, if `lossless` holds for the sink.

    Attributes
    ----------
    delivered, dropped, failed : int
        Results that the sink took, that found its queue full, and that it could not take; each result
        that it wants is in one of them at the end.
    events_dropped : int
        Events that found its queue full.
    busy_since : float, or None
        Since when the sink is at work on one item, by the monotonic clock.
    """

    def __init__(
        self,
        sink: Sink,
        lossless: bool,
        report: Callable[[str, str, int | None], None],
        fail: Callable[[BaseException], None],
        before: Sequence[Delivery] = (),
    ) -> None:
        super().__init__(name=f"sink {sink.name}", daemon=True)
        self.sink, self.waits = sink, lossless and sink.recording
        self._report, self._fail = report, fail
        self._before = before if self.waits else ()
        sink.notice = lambda kind, message: report(kind, message, None)
        self._items: deque[Result | Event] = deque()
        self._results = self._notes = self._pending_events = 0
        self._at_work: Result | Event | None = None
        self._lost: int | None = None
        self._changed = threading.Condition()
        self._closing = self._broken = self._abandoned = False
        self.delivered = self.dropped = self.failed = self.events_dropped = 0
        self.busy_since: float | None = None

    def offer(self, result: Result) -> None:
        """Queue a result if the sink wants it; wait for room where nothing may be lost."""
        if not self.sink.wants(result):
            return
        with self._changed:
            if self.waits:
                self._changed.wait_for(lambda: self._has_room(result) or self._closing)
            elif not self._has_room(result):
                self.dropped += 1
                if not self.sink.newest:
                    return
                oldest = next(item for item in self._items if isinstance(item, Result))
                self._items.remove(oldest)
                self._count(oldest, -1)
            self.sink.accept(result)
            self._items.append(result)
            self._count(result, 1)
            self._changed.notify_all()

    def _count(self, result: Result, change: int) -> None:
        self._results += change
        self._notes += change * self._is_note(result)

    def _is_note(self, result: Result) -> bool:
        """Whether it is for a record, and so small that a burst of them may wait."""
        return self.sink.recording and result.frame.image is None

    def _has_room(self, result: Result) -> bool:
        if self._is_note(result):
            return self._notes < NOTES
        waiting = self._results - self._notes
        return waiting == 0 or (waiting < self.sink.depth and (waiting + 1) * result.nbytes <= LARGEST)

    def tell(self, event: Event) -> None:
        """Queue an event; never waits."""
        with self._changed:
            if self._pending_events >= _EVENTS:
                self.events_dropped += 1
                return
            self._items.append(event)
            self._pending_events += 1
            self._changed.notify_all()

    def counts(self) -> dict[str, int]:
        """Return the counters, and the sink's own."""
        events = {"events_dropped": self.events_dropped} if self.events_dropped else {}
        return {
            "delivered": self.delivered,
            "dropped": self.dropped,
            "failed": self.failed,
            "waiting": self._results,
            **events,
            **self.sink.counts(),
        }

    def run(self) -> None:
        try:
            while (item := self._take()) is not None:
                self.busy_since = time.monotonic()
                self._hand_over(item)
                with self._changed:
                    self._at_work = None
                    self._changed.notify_all()
                self.busy_since = None
        finally:
            self.busy_since = time.monotonic()
            try:
                self.sink.close()
            except Exception as error:
                self._broken = False
                self._lose(error, None)
            self.busy_since = None

    def _take(self) -> Result | Event | None:
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._closing)
            if not self._items:
                return None
            item = self._items.popleft()
            if isinstance(item, Result):
                self._count(item, -1)
            else:
                self._pending_events -= 1
            self._at_work = item
            self._changed.notify_all()
            return item

    def _hand_over(self, item: Result | Event) -> None:
        try:
            if not isinstance(item, Result):
                self.sink.event(item)
            elif self.waits and (self._broken or not self._written_before(item)):
                # A record with a gap would look complete, so it ends before the gap.
                self._skip(item)
            else:
                self.sink.write(item)
                self._delivered(item)
        except Exception as error:
            self._lose(error, item if isinstance(item, Result) else None)

    def _skip(self, result: Result) -> None:
        self._broken = True
        self.failed += 1
        self._note_loss(result)

    def _note_loss(self, result: Result) -> None:
        if self._lost is None:
            self._lost = result.frame.index

    def _written_before(self, result: Result) -> bool:
        return all(other.has_written(result.frame.index) for other in self._before)

    def has_written(self, frame: int) -> bool:
        """Wait until the sink has been handed what it wants of the frames up to one; say whether none was lost."""
        with self._changed:
            self._changed.wait_for(lambda: not self._holds(frame))
            return self._lost is None or frame < self._lost

    def _holds(self, frame: int) -> bool:
        items = chain((self._at_work,), self._items)
        oldest = next((item for item in items if isinstance(item, Result)), None)
        return oldest is not None and oldest.frame.index <= frame

    def _delivered(self, result: Result) -> None:
        self.delivered += not self._abandoned
        if self._broken:
            self._broken = False
            self._report("recovered", f"{self.sink.name} takes results again", result.frame.index)

    def _lose(self, error: Exception, result: Result | None) -> None:
        if result is not None:
            self.failed += not self._abandoned
            self._note_loss(result)
        was_broken, self._broken = self._broken, True
        if self.waits:
            self._fail(error if isinstance(error, LrpEdgeError) else LrpEdgeError(f"{self.sink.name}: {error}"))
        elif not was_broken:
            self._report("failed", first_line(error), None if result is None else result.frame.index)

    def finish(self) -> None:
        """Let it end once nothing is waiting."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def abandon(self) -> int:
        """Give up on what waits and is at work, for a sink that does not end; return how many results that are."""
        with self._changed:
            self._abandoned = True
            left = self._results + isinstance(self._at_work, Result)
            self._results = self._notes = self._pending_events = 0
            self._items.clear()
            self.dropped += left
        self.sink.interrupt()
        return left
