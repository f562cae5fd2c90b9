"""The interface of sinks: each takes results in its own thread, behind a bounded queue."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

from lrp_edge.errors import LrpEdgeError
from lrp_edge.runtime.result import Event, Result


class Sink:
    """Takes results and events, in its own thread.

    :meth:`open`, :meth:`accept`, :meth:`counts` and :meth:`interrupt` are called in others.

    Attributes
    ----------
    name : str
        Its name in counters, events and logs.
    recording : bool
        Whether ``lossless`` holds for it: the line waits for it, and a failure of it ends the run.
    final : bool
        Whether it names what others write: under ``lossless`` it gets a result only once every recording sink that is
        not final has written it.
    newest : bool
        What is dropped when its queue is full: what waits longest, for a display that wants the newest; else the
        result that comes last.
    depth : int
        Results that may wait for it.
    notice : callable
        What it may call, in its own thread, with kind and message of an event that the user should hear of.
    """

    name = "sink"
    recording = False
    final = False
    newest = False
    depth = 32
    notice: Callable[[str, str], None] = staticmethod(lambda kind, message: None)

    def open(self) -> None:
        """Prepare, before the first frame.

        Raises
        ------
        LrpEdgeError
            If it cannot work at all: then the run does not start. What may come back later, e.g. a broker that
            cannot be reached, is not an error here.
        """

    def wants(self, result: Result) -> bool:
        """Say whether it takes this result."""
        return True

    def accept(self, result: Result) -> None:
        """Note in ``result.files`` what will be written of it; called in the producing thread, so it must be quick."""

    def write(self, result: Result) -> None:
        """Take a result.

        Raises
        ------
        LrpEdgeError
            If this one is lost; it is counted, and the next is tried all the same.
        """

    def event(self, event: Event) -> None:
        """Take an event; errors as for :meth:`write`."""

    def counts(self) -> dict[str, int]:
        """Return the sink's own counters, such as what its outbox dropped; any thread may call this."""
        return {}

    def close(self) -> None:
        """Finish files and connections; called once, also after errors.

        Raises
        ------
        LrpEdgeError
            If something that it took is lost after all.
        """

    def interrupt(self) -> None:
        """Interrupt pending waits; called from another thread when the sink does not end in time."""


Which = Literal["all", "defects"]


class ChosenSink(Sink):
    """A sink that can be restricted to some results.

    Parameters
    ----------
    only : {"all", "defects"}
        All, or those whose frame is classified as a defect or rejected by the verdict.

    Raises
    ------
    LrpEdgeError
        If it is neither.
    """

    def __init__(self, only: Which) -> None:
        if only not in get_args(Which):
            raise LrpEdgeError(f"{self.name} takes {only!r}; expected {' or '.join(get_args(Which))}")
        self._all = only == "all"

    def wants(self, result: Result) -> bool:
        found = result.segmentation
        return self._all or result.reject or (found is not None and found.defect)
