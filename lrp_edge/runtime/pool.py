"""Buffers for frames, used over and over."""

from __future__ import annotations

import math
import weakref
from collections import deque

import numpy as np
from numpy.typing import NDArray


class Pool:
    """Lends arrays, and takes their memory back by itself when the last array over it is gone.

    A frame of some size takes fresh pages from the system each time otherwise, which costs as much as decoding it.
    Any thread may borrow, and any may drop.

    Parameters
    ----------
    keep : int
        Buffers that wait for their next use; more than that are freed.
    """

    def __init__(self, keep: int = 16) -> None:
        self._free: deque[bytearray] = deque(maxlen=keep)
        self._size = 0
        self.made = 0

    def take(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """Lend an array, uint8 of `shape`, with arbitrary content."""
        size = math.prod(shape)
        if size != self._size:
            self._free.clear()
            self._size = size
        try:
            buffer = self._free.pop()
        except IndexError:
            buffer = bytearray(size)
            self.made += 1
        # Views of this array keep it alive, since its own base is not an array; the buffer outlives them all.
        array = np.frombuffer(buffer, np.uint8)
        weakref.finalize(array, self._back, buffer).atexit = False
        return array.reshape(shape)

    def _back(self, buffer: bytearray) -> None:
        if len(buffer) == self._size:
            self._free.append(buffer)
