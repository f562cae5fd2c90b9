"""Which cases of a table are quick, and which are left to ``make test-thorough``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pytest


def quick_of(table: Iterable[Sequence[Any]], quick: Iterable[Sequence[Any]]) -> list[Any]:
    """Return the cases of a table as pytest's parameters, all but the quick ones marked as thorough."""
    cases, left = [tuple(case) for case in table], [tuple(case) for case in quick]
    assert set(left) <= set(cases)
    return [pytest.param(*case, marks=[] if case in left else pytest.mark.thorough) for case in cases]
