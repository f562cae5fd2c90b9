"""Files → class and mask on a device. Knows neither torch nor the rest of the toolkit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lrp_edge.runtime.calibrate import calibrate_file
    from lrp_edge.runtime.config import Line
    from lrp_edge.runtime.pipeline import Pipeline
    from lrp_edge.runtime.result import Frame, Segmentation
    from lrp_edge.runtime.segmenter import Segmenter
    from lrp_edge.runtime.sources import open_source
    from lrp_edge.runtime.tiles import Tiler

__all__ = ["Frame", "Line", "Pipeline", "Segmentation", "Segmenter", "Tiler", "calibrate_file", "open_source"]

_HOMES = {
    "Frame": "result",
    "Line": "config",
    "Pipeline": "pipeline",
    "Segmentation": "result",
    "Segmenter": "segmenter",
    "Tiler": "tiles",
    "calibrate_file": "calibrate",
    "open_source": "sources",
}


def __getattr__(name: str) -> Any:
    """Import an engine or a decoder only when it is asked for."""
    from importlib import import_module

    if name in _HOMES:
        return getattr(import_module(f"lrp_edge.runtime.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'lrp_edge.runtime' has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names, also those that are not imported yet."""
    return sorted({*globals(), *__all__})
