"""How long to wait before the next try."""

from __future__ import annotations

import random


class Backoff:
    """Delays that double up to a cap, each shortened at random so that many clients do not come back at once.

    Parameters
    ----------
    first, cap : float
        First and longest delay in seconds.
    """

    def __init__(self, first: float = 0.5, cap: float = 30.0) -> None:
        self._first, self._cap, self._tries = first, cap, 0

    def next(self) -> float:
        """Return the next delay in seconds, between half of it and all of it."""
        # 2 to the 40th is beyond any cap, and a float.
        delay = min(self._cap, self._first * 2.0 ** min(self._tries, 40))
        self._tries += 1
        return delay * random.uniform(0.5, 1.0)

    def reset(self) -> None:
        """Begin again with the first delay, after a success."""
        self._tries = 0
