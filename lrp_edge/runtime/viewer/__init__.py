"""The live page of a running line."""

from __future__ import annotations

from lrp_edge.runtime.viewer.server import parse_address
from lrp_edge.runtime.viewer.sink import Viewer

__all__ = ["Viewer", "parse_address"]
