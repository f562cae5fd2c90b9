"""Relevance as it looks, for the tests of what is made of it."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage


def blobs(seed: int = 0, count: int = 3, height: int = 48, width: int = 61) -> NDArray[np.float64]:
    """Draw relevance [count, H, W]: a low noisy floor, and a few strong spots."""
    draw = np.random.default_rng(seed)
    x = np.abs(draw.normal(0, 0.05, (count, height, width)))
    for frame in x:
        for _ in range(3):
            frame[tuple(draw.integers(8, [height - 8, width - 8]))] += draw.uniform(20, 60)
    return np.asarray(ndimage.gaussian_filter(x, (0, 2.5, 2.5)))


#: Several of them, of any size.
frames = st.builds(blobs, st.integers(0, 10_000), st.integers(1, 3), st.integers(20, 50), st.integers(20, 50))
