"""The registry of spellings: which operators are written in others, and how."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import fx

from lrp_edge.relevance.capture import Writer

#: Writes a node's computation anew, and returns the node or nodes of its results; None where it leaves it as it is.
Spelling = Callable[[Writer, fx.Node], "fx.Node | Sequence[fx.Node] | None"]

SPELLINGS: dict[Any, Spelling] = {}


def spelling(*targets: Any) -> Callable[[Spelling], Spelling]:
    """Register how operators are written in others."""

    def decorate(function: Spelling) -> Spelling:
        SPELLINGS.update(dict.fromkeys(targets, function))
        return function

    return decorate
