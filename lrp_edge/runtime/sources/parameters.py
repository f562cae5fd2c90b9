"""Values of an address's parameters."""

from __future__ import annotations

import math

from lrp_edge.errors import LrpEdgeError
from lrp_edge.runtime.sources.uri import Address


def number(address: Address, name: str) -> float | None:
    """Return a parameter that is a number of 0 or more; None where it is not given.

    Raises
    ------
    LrpEdgeError
        If it is not such a number.
    """
    text = address.parameters.get(name)
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise LrpEdgeError(f"source {address.name}: {name} is {text!r}; expected a number of 0 or more")
    return value
