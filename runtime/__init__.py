"""Files → class and mask on a device. Knows neither torch nor the rest of the toolkit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lrp_edge.runtime.segmentation import Segmentation

if TYPE_CHECKING:
    from lrp_edge.runtime.segmenter import Segmenter
    from lrp_edge.runtime.sources import Frame, open_source

__all__ = ["Frame", "Segmentation", "Segmenter", "open_source"]

_HOMES = {"Segmenter": "segmenter", "Frame": "sources", "open_source": "sources"}


def __getattr__(name: str) -> Any:
    """Import an engine or a decoder only when it is asked for."""
    from importlib import import_module

    if name in _HOMES:
        return getattr(import_module(f"lrp_edge.runtime.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'lrp_edge.runtime' has no attribute {name!r}")
