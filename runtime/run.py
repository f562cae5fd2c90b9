"""A source's frames through a model into a folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

import numpy as np

from lrp_edge.errors import LrpEdgeError
from lrp_edge.runtime.segmenter import Segmenter
from lrp_edge.runtime.sinks import FolderSink
from lrp_edge.runtime.sources import Frame, Source


@dataclass
class Summary:
    """What a run did.

    Attributes
    ----------
    frames : int
        Frames segmented.
    skipped : list of str
        Frames that could not be read, with the reason.
    seconds : float
        From the first frame to the last result.
    milliseconds : list of float
        The engine's time for each frame.
    names : Counter
        Frames by decided class.
    defects : int
        Frames decided to be a defect.
    interrupted : bool
        Whether the run was stopped before its end.
    """

    frames: int = 0
    skipped: list[str] = field(default_factory=list)
    seconds: float = 0.0
    milliseconds: list[float] = field(default_factory=list)
    names: Counter[str] = field(default_factory=Counter)
    defects: int = 0
    interrupted: bool = False

    def lines(self) -> list[str]:
        """Return the summary as text."""
        if not self.frames:
            return [f"no frame segmented, {len(self.skipped)} skipped"]
        p50, p99 = np.percentile(self.milliseconds, (50, 99))
        classes = ", ".join(f"{name} {count}" for name, count in self.names.most_common())
        return [
            f"{'interrupted after ' if self.interrupted else ''}{self.frames} frames, "
            f"{self.frames / self.seconds:.1f} fps, engine p50 {p50:.1f} ms, p99 {p99:.1f} ms",
            f"{self.defects} defects; {classes}; {len(self.skipped)} skipped",
        ]


def run(
    segmenter: Segmenter,
    source: Source,
    output: str | Path,
    *,
    batch: int = 1,
    skip_bad: bool = False,
    overlays: bool = True,
    overwrite: bool = False,
    progress: Callable[[int], None] = lambda done: None,
) -> Summary:
    """Segment a source's frames and write overlays, masks and ``results.jsonl``.

    Parameters
    ----------
    segmenter : Segmenter
        The model.
    source : Source
        The frames, in the card's channel order.
    output : path
        Folder for the results.
    batch : int
        Frames in one call, where as many of one size follow each other.
    skip_bad : bool
        Go on after a frame that cannot be read: it gets a line with ``"error"``, and is counted.
    overlays, overwrite : bool
        See :class:`~lrp_edge.runtime.sinks.FolderSink`.
    progress : callable
        Called with the number of frames done since the last call.

    Returns
    -------
    Summary
        Also after an interruption (SIGINT), with all files closed.

    Raises
    ------
    LrpEdgeError
        If a frame cannot be read and is not to be skipped, or the output cannot be written.
    """
    faults = [] if skip_bad else source.faults()
    if faults:
        raise LrpEdgeError(
            f"{len(faults)} of {source.length} frames cannot be read, first {faults[0]}; mend them, or --skip-bad"
        )
    summary, start = Summary(), perf_counter()
    with FolderSink(output, segmenter.card.input.order, overlays=overlays, overwrite=overwrite) as sink:
        try:
            for group in _groups(source, batch):
                _segment(segmenter, group, sink, summary, skip_bad)
                summary.seconds = perf_counter() - start
                progress(len(group))
        except KeyboardInterrupt:
            summary.interrupted = True
    return summary


def _groups(source: Source, batch: int) -> Iterator[list[Frame]]:
    """Yield runs of at most `batch` frames of one size; a frame without pixels comes alone."""
    group: list[Frame] = []
    for frame in source:
        alike = frame.image is not None and group and group[0].image is not None
        if group and not (alike and frame.image.shape == group[0].image.shape and len(group) < batch):  # type: ignore[union-attr]
            yield group
            group = []
        group.append(frame)
    if group:
        yield group


def _segment(segmenter: Segmenter, group: list[Frame], sink: FolderSink, summary: Summary, skip_bad: bool) -> None:
    if group[0].image is None:
        if not skip_bad:
            raise LrpEdgeError(f"{group[0].error}; --skip-bad goes on without it")
        sink.write_error(group[0])
        summary.skipped.append(group[0].error)
        return
    results = segmenter.batch([frame.image for frame in group if frame.image is not None])
    for frame, result in zip(group, results, strict=True):
        sink.write(frame, result)
        summary.frames += 1
        summary.milliseconds.append(result.milliseconds)
        summary.names[result.name] += 1
        summary.defects += result.defect
