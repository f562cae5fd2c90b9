"""The thread that notices when a stage is stalled."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping


class Watchdog(threading.Thread):
    """Checks several times a second how long each stage has been busy with one item.

    Parameters
    ----------
    ages : callable
        Returns for each stage since when it is, by the monotonic clock; None for one that is not at work.
    limit : float
        Seconds after which it counts as stalled; 0 for never.
    note : callable
        Takes the stage and the seconds that it has been stalled; None for the seconds when it goes on.

    Attributes
    ----------
    stalled : set of str
        Stages that are stalled now.
    """

    def __init__(
        self,
        ages: Callable[[], Mapping[str, float | None]],
        limit: float,
        note: Callable[[str, float | None], None],
    ) -> None:
        super().__init__(name="watchdog", daemon=True)
        self._ages, self._limit, self._note = ages, limit, note
        self._ended = threading.Event()
        self.stalled: frozenset[str] = frozenset()

    def run(self) -> None:
        while self._limit and not self._ended.wait(min(0.25, self._limit / 4)):
            self._look()

    def _look(self) -> None:
        now = time.monotonic()
        still = {
            stage: now - since
            for stage, since in self._ages().items()
            if since is not None and now - since > self._limit
        }
        before, self.stalled = self.stalled, frozenset(still)
        for stage in still.keys() - before:
            self._note(stage, still[stage])
        for stage in before - still.keys():
            self._note(stage, None)

    def stop(self) -> None:
        """End the thread."""
        self._ended.set()
        if self.is_alive():
            self.join()
