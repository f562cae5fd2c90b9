"""Whether a model is usable: its verdict and its masks beyond chance, with intervals, and a proof of location."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lrp_edge.usability.intervals import Estimate
    from lrp_edge.usability.location import Location, Trial, locate, try_frame
    from lrp_edge.usability.verdict import Examination, Usability, examine

__all__ = ["Estimate", "Examination", "Location", "Trial", "Usability", "examine", "locate", "try_frame"]

_HOMES = {
    "Estimate": "intervals",
    "Examination": "verdict",
    "Location": "location",
    "Trial": "location",
    "Usability": "verdict",
    "examine": "verdict",
    "locate": "location",
    "try_frame": "location",
}


def __getattr__(name: str) -> Any:
    """Import what measures only when it is asked for."""
    from importlib import import_module

    if name in _HOMES:
        return getattr(import_module(f"lrp_edge.usability.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'lrp_edge.usability' has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names, also those that are not imported yet."""
    return sorted({*globals(), *__all__})
