"""Whether exported files still compute what they were exported from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lrp_edge.export.verify.run import verify

__all__ = ["verify"]


def __getattr__(name: str) -> Any:
    """Import the engines only when a file is verified."""
    if name == "verify":
        from lrp_edge.export.verify.run import verify

        return verify
    raise AttributeError(f"module 'lrp_edge.export.verify' has no attribute {name!r}")
