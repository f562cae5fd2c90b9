"""The loop from source to sinks, and what it counts."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

import numpy as np

from lrp_edge.errors import LrpEdgeError
from lrp_edge.runtime.segmenter import Segmenter
from lrp_edge.runtime.sinks import Sink
from lrp_edge.runtime.sources import Frame, Source

NAMED = 3


@dataclass
class Summary:
    """What a run came to.

    Attributes
    ----------
    classes : Counter
        Frames by decided class.
    defects : int
        Frames decided to be a defect.
    skipped : int
        Frames that could not be read or taken, and were left out.
    latencies : list of float
        Milliseconds that each frame waited for the engine.
    seconds : float
        Wall time of the run.
    signal : int
        Number of the signal that stopped it; 0 if it ran to its end.
    """

    classes: Counter[str] = field(default_factory=Counter)
    defects: int = 0
    skipped: int = 0
    latencies: list[float] = field(default_factory=list)
    seconds: float = 0.0
    signal: int = 0

    @property
    def frames(self) -> int:
        """Frames that the engine answered."""
        return len(self.latencies)

    @property
    def fps(self) -> float:
        """Frames per second of the whole loop: reading, engine and writing."""
        return self.frames / self.seconds if self.seconds else 0.0

    def latency(self, percent: float) -> float:
        """Return a percentile of the engine's latency in milliseconds; NaN if there was no frame."""
        return float(np.percentile(self.latencies, percent)) if self.latencies else float("nan")


def run(
    segmenter: Segmenter,
    source: Source,
    sinks: Sequence[Sink] = (),
    *,
    batch: int = 1,
    skip_bad: bool = False,
    advance: Callable[[int], None] = lambda frames: None,
) -> Summary:
    """Segment every frame of a source and hand the results to sinks, which the caller opens and closes.

    SIGINT and SIGTERM end it after the frames in flight.

    Parameters
    ----------
    segmenter : Segmenter
        The model.
    source : Source
        Frames in the model's channel order.
    sinks : sequence of Sink
        Take each result, in the order of the frames.
    batch : int
        Most frames in one call of the engine; only neighbours of one size share a call.
    skip_bad : bool
        Go on after a frame that cannot be read or that the model does not take; it is counted and handed to the
        sinks' `skip`.
    advance : callable
        Told after each call how many frames are done.

    Raises
    ------
    LrpEdgeError
        If frames cannot be read or taken and `skip_bad` is off, or the engine fails.
    """
    if batch < 1:
        raise LrpEdgeError(f"batch is {batch}; expected 1 or more")
    summary = Summary()
    start = time.perf_counter()
    with _signals(summary):
        for group in _groups(_checked(segmenter, source), batch):
            _answer(segmenter, group, sinks, summary, skip_bad)
            advance(len(group))
            if summary.signal:
                break
    summary.seconds = time.perf_counter() - start
    return summary


def refuse_faults(source: Source) -> None:
    """Raise an error if frames are known beforehand to be unreadable.

    Raises
    ------
    LrpEdgeError
        Names the first of them and counts all.
    """
    faults = source.faults()
    if not faults:
        return
    first = ", ".join(frame.error.removesuffix("; mend or remove it") for frame in faults[:NAMED])
    more = f" and {len(faults) - NAMED} more" if len(faults) > NAMED else ""
    raise LrpEdgeError(
        f"{len(faults)} of {source.length} files cannot be read: {first}{more}; mend or remove them, or leave them "
        f"out with --skip-bad"
    )


def _checked(segmenter: Segmenter, source: Iterable[Frame]) -> Iterator[Frame]:
    """Turn frames that the model does not take into events."""
    for frame in source:
        if frame.image is None:
            yield frame
            continue
        try:
            segmenter.check(frame.image)
        except LrpEdgeError as error:
            yield Frame(
                frame.index, frame.source, frame.key, None, frame.timestamp, f"{frame.source}: {error}"
            )
        else:
            yield frame


def _groups(frames: Iterable[Frame], most: int) -> Iterator[list[Frame]]:
    group: list[Frame] = []
    for frame in frames:
        if group and (len(group) == most or _size(frame) != _size(group[0])):
            yield group
            group = []
        group.append(frame)
        if frame.image is None or len(group) == most:
            yield group
            group = []
    if group:
        yield group


def _size(frame: Frame) -> tuple[int, ...] | None:
    return None if frame.image is None else frame.image.shape[:2]


def _answer(
    segmenter: Segmenter, group: list[Frame], sinks: Sequence[Sink], summary: Summary, skip_bad: bool
) -> None:
    images = [frame.image for frame in group if frame.image is not None]
    if not images:
        return _leave_out(group[0], sinks, summary, skip_bad)
    for frame, segmentation in zip(group, segmenter.batch(images), strict=True):
        summary.classes[segmentation.name] += 1
        summary.defects += segmentation.defect
        summary.latencies.append(segmentation.milliseconds)
        for sink in sinks:
            sink.write(frame, segmentation)
    return None


def _leave_out(frame: Frame, sinks: Sequence[Sink], summary: Summary, skip_bad: bool) -> None:
    if not skip_bad:
        done = f" ({summary.frames} frames were done before it)" if summary.frames else ""
        raise LrpEdgeError(f"{frame.error}{done}; or leave it out with --skip-bad")
    summary.skipped += 1
    for sink in sinks:
        sink.skip(frame)


@contextmanager
def _signals(summary: Summary) -> Iterator[None]:
    """Note SIGINT and SIGTERM in the summary; a second one does what it always does."""
    numbers = (signal.SIGINT, signal.SIGTERM)

    def note(number: int, frame: FrameType | None) -> None:
        summary.signal = number
        restore()

    def restore() -> None:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)

    before = [signal.getsignal(number) for number in numbers]
    try:
        for number in numbers:
            signal.signal(number, note)
    except ValueError:  # Not the main thread, where no signal arrives.
        yield
        return
    try:
        yield
    finally:
        restore()
