"""How often the log says the same thing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Throttle:
    """Lets the first few messages of a kind through, then one in a while, with the number of those between.

    Parameters
    ----------
    burst : int
        Messages of a kind that pass in a while.
    seconds : float
        How long a while is.
    clock : callable
        Returns seconds that only grow.
    """

    def __init__(self, burst: int = 10, seconds: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._burst, self._seconds, self._clock = burst, seconds, clock
        self._kinds: dict[str, tuple[float, int, int]] = {}
        self._lock = threading.Lock()

    def passes(self, kind: str) -> int | None:
        """Return how many of a kind were held back since the last that passed; None if this one is held back too."""
        now = self._clock()
        with self._lock:
            since, passed, held = self._kinds.get(kind, (now, 0, 0))
            if now - since >= self._seconds:
                since, passed = now, 0
            if passed >= self._burst:
                self._kinds[kind] = (since, passed, held + 1)
                return None
            self._kinds[kind] = (since, passed + 1, 0)
            return held
