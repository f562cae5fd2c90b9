"""What the page shows: the newest result, the last events, the last defects."""

from __future__ import annotations

import json
import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from lrp_edge.runtime.result import Event, Result
from lrp_edge.runtime.viewer.pictures import defect_pictures, live_layers

_EVENTS, _REGIONS = 20, 50
#: Frames whose layers are kept for pages that are slow to ask for them.
_LIVE = 24
#: Burst of defect images, and their rate per second after that: a line that rejects everything must not be slowed down.
_BURST, _RATE = 24, 2.0


class Board:
    """Takes results and events in one thread, and answers others.

    Parameters
    ----------
    status : callable
        Returns a snapshot of the line.
    order : {"BGR", "RGB", "GRAY"}
        Channel order of the frames.
    thumbnails : int
        Defects that are kept.

    Attributes
    ----------
    changes : int
        Results and events so far.
    skipped : int
        Defects that are not among those kept, since they came too fast.
    """

    def __init__(self, status: Callable[[], dict[str, Any]], order: str, thumbnails: int) -> None:
        self._status, self._order, self._thumbnails = status, order, thumbnails
        self._newest: Result | None = None
        self._events: deque[dict[str, Any]] = deque(maxlen=_EVENTS)
        self._live: OrderedDict[int, dict[str, bytes]] = OrderedDict()
        self._defects: OrderedDict[int, tuple[dict[str, Any], dict[str, bytes]]] = OrderedDict()
        self._allowance = _Allowance(_BURST, _RATE)
        self._lock, self._encoding = threading.Lock(), threading.Lock()
        self.changes = self.skipped = self._pictured = 0

    def put(self, result: Result) -> None:
        """Take a result; only images of defects are encoded."""
        found = result.segmentation
        if self._thumbnails and found is not None and (found.defect or result.reject):
            if self._allowance.take():
                self._keep(result)
            else:
                self.skipped += 1
        self._newest = result
        self.changes += 1

    def note(self, event: Event) -> None:
        """Take an event."""
        with self._lock:
            self._events.append(event.as_dict())
        self.changes += 1

    def message(self) -> bytes:
        """Return the state as JSON, and have the layers of its frame ready."""
        state: dict[str, Any] = {}
        if (newest := self._newest) is not None:
            layers = self._layers(newest)
            state["frame"] = _line(newest) | {"layers": sorted(layers)}
        with self._lock:
            state |= {"events": list(self._events), "defects": self._pictured}
        state["status"] = self._status()
        return json.dumps(_finite(state), allow_nan=False).encode()

    def layer(self, index: int, name: str) -> bytes | None:
        """Return a layer of a recently shown frame."""
        with self._lock:
            return self._live.get(index, {}).get(name)

    def defects(self) -> list[dict[str, Any]]:
        """Return the last defects, the newest first."""
        with self._lock:
            return [line for line, _ in reversed(self._defects.values())]

    def defect_picture(self, index: int, name: str) -> bytes | None:
        """Return an image of one of the last defects."""
        with self._lock:
            return self._defects[index][1].get(name) if index in self._defects else None

    def _layers(self, result: Result) -> dict[str, bytes]:
        index = result.frame.index
        with self._encoding:
            layers = self._live.get(index)
            if layers is None:
                layers = live_layers(result, self._order)
                with self._lock:
                    self._live[index] = layers
                    while len(self._live) > _LIVE:
                        self._live.popitem(last=False)
        return layers

    def _keep(self, result: Result) -> None:
        entry = (_finite(_line(result)), defect_pictures(result, self._order))
        with self._lock:
            self._defects[result.frame.index] = entry
            self._pictured += 1
            while len(self._defects) > self._thumbnails:
                self._defects.popitem(last=False)


class _Allowance:
    """Allows a burst, and then a rate."""

    def __init__(self, burst: int, rate: float) -> None:
        self._burst, self._rate = burst, rate
        self._left, self._since = float(burst), time.monotonic()

    def take(self) -> bool:
        now = time.monotonic()
        self._left = min(self._burst, self._left + (now - self._since) * self._rate)
        self._since = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


def _line(result: Result) -> dict[str, Any]:
    """Return the line of a result, with few of its regions but their number, and its frame's id and size."""
    image = result.frame.image
    size = None if image is None else [image.shape[1], image.shape[0]]
    line = replace(result, regions=result.regions[:_REGIONS]).as_dict()
    return line | {"id": result.frame.index, "size": size}


def _finite(value: Any) -> Any:
    """Replace values that JSON cannot represent as a number with None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, list | tuple) else value
