"""The thread that takes frames from a source, and opens it again when it is lost."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable

from lrp_edge.errors import LrpEdgeError
from lrp_edge.runtime.backoff import Backoff
from lrp_edge.runtime.pipeline.counters import Counters
from lrp_edge.runtime.pipeline.queues import FrameQueue
from lrp_edge.runtime.result import Frame
from lrp_edge.runtime.sources import Source, SourceLost

Emit = Callable[[str, str, str, "int | None"], None]


class Capture(threading.Thread):
    """Numbers a source's frames and puts them into the queue; closes the queue at the end.

    Parameters
    ----------
    source : Source
        Where frames come from.
    queue : FrameQueue
        Where they go.
    counters : Counters
        Whose ``captured``, ``dropped``, ``unreadable`` and ``reconnects`` it writes.
    emit : callable
        Takes kind, stage, message and frame id of an event.
    fail : callable
        Takes the error that ends the run.
    first : int
        Id of the first frame.
    wait : bool
        Keep trying where a live source is not there at the start.
    backoff : Backoff
        Delays between tries.

    Attributes
    ----------
    idle_since : float, or None
        Since when it waits for a frame, by the monotonic clock; None while it hands one on.
    """

    def __init__(
        self,
        source: Source,
        queue: FrameQueue,
        counters: Counters,
        emit: Emit,
        fail: Callable[[BaseException], None],
        *,
        first: int = 0,
        wait: bool = False,
        backoff: Backoff | None = None,
    ) -> None:
        super().__init__(name="capture", daemon=True)
        self._source, self._queue, self._counters, self._emit, self._fail = source, queue, counters, emit, fail
        self._next, self._wait, self._backoff = first, wait, backoff or Backoff()
        self._shape: tuple[int, ...] | None = None
        self._lost = False
        self.idle_since: float | None = None

    def run(self) -> None:
        try:
            while not self._source.interrupted.is_set() and self._once():
                pass
        except Exception as error:
            self._fail(error)
        finally:
            self._queue.close()

    def _once(self) -> bool:
        """Take frames until the source ends or is lost; say whether it is to be opened again."""
        try:
            self._take_all()
        except SourceLost as error:
            if self._source.interrupted.is_set():
                return False
            if self._shape is None and not self._lost and not self._wait:
                raise LrpEdgeError(f"{error}; --wait keeps trying") from error
            return self._pause(str(error))
        if not self._source.live or self._source.interrupted.is_set():
            return False
        return self._pause(f"{self._source.name} ended")

    def _take_all(self) -> None:
        self.idle_since = time.monotonic()
        for frame in self._source:
            if self._source.interrupted.is_set():
                return
            self.idle_since = None
            self._take(dataclasses.replace(frame, index=self._next))
            self.idle_since = time.monotonic()

    def _take(self, frame: Frame) -> None:
        self._next += 1
        self._counters.captured += 1
        if self._lost:
            self._lost = False
            self._counters.reconnects += 1
            self._backoff.reset()
            self._emit("reconnected", "source", f"{self._source.name} is back", frame.index)
        if frame.image is None:
            self._counters.unreadable += 1
        elif frame.image.shape != self._shape:
            self._note_shape(frame)
        gone = self._queue.put(frame)
        if gone is not None:
            self._counters.drop([gone])

    def _note_shape(self, frame: Frame) -> None:
        assert frame.image is not None
        if self._shape is not None and self._source.live:
            was, now = (f"{shape[0]}x{shape[1]}" for shape in (self._shape, frame.image.shape))
            self._emit("changed", "source", f"frames of {self._source.name} are {now} now, were {was}", frame.index)
        self._shape = frame.image.shape

    def _pause(self, reason: str) -> bool:
        self._lost = True
        self.idle_since = None
        delay = self._backoff.next()
        self._emit("lost", "source", f"{reason}; next try in {delay:.1f} s", None)
        return not self._source.interrupted.wait(delay)
