"""Sinks that take every result, or those of defects only."""

from __future__ import annotations

from typing import Literal, get_args

from lrp_edge.errors import LrpEdgeError
from lrp_edge.runtime.result import Result
from lrp_edge.runtime.sinks.base import Sink

Which = Literal["all", "defects"]


class ChosenSink(Sink):
    """A sink that is told which results it takes.

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
