"""What tests of the training have in common."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module")
def few_drawn_defects() -> Iterator[None]:
    """Calibrate masks on fewer synthetic defects than users do, which takes most of a short training's time.

    Six of a kind still tell areas from fine defects beyond chance; the choice itself is tested in `test_heads`.
    """
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("lrp_edge.training.heads.MOST_OF_KIND", 6)
        yield
