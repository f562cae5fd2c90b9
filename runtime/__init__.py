"""Files → class and mask on a device, without torch."""

from __future__ import annotations

from lrp_edge.runtime.loop import Summary, run
from lrp_edge.runtime.overlay import draw_overlay
from lrp_edge.runtime.segmenter import Segmentation, Segmenter
from lrp_edge.runtime.sinks import ResultFolder
from lrp_edge.runtime.sources import BadFrame, Frame, open_source

__all__ = [
    "BadFrame",
    "Frame",
    "ResultFolder",
    "Segmentation",
    "Segmenter",
    "Summary",
    "draw_overlay",
    "open_source",
    "run",
]
