"""The bounded queue between capture and engine, with its two policies."""

from __future__ import annotations

import threading
import time
from collections import deque

from lrp_edge.errors import LrpEdgeError
from lrp_edge.runtime.result import Frame

POLICIES = ("latest", "lossless")
#: Bytes of pixels that may wait in one queue, regardless of its depth: frames of line-scan cameras are large.
LARGEST = 2**28
#: Frames without pixels that may wait in one queue: they take little memory, and each is to have its line.
NOTES = 4096


class FrameQueue:
    """Frames on their way to the engine.

    A frame without pixels takes no place of one with pixels, and is never dropped.

    Parameters
    ----------
    policy : {"latest", "lossless"}
        What a full queue does: drop the frame that waits longest, or let the source wait.
    depth : int
        Frames with pixels that may wait; fewer where they have more than :data:`LARGEST` bytes together, but one.

    Raises
    ------
    LrpEdgeError
        If the policy is not known, or the depth less than 1.
    """

    def __init__(self, policy: str, depth: int) -> None:
        if policy not in POLICIES:
            raise LrpEdgeError(f"policy is {policy!r}; expected latest or lossless")
        if depth < 1:
            raise LrpEdgeError(f"queue is {depth} frames deep; expected 1 or more")
        self.lossless, self._depth = policy == "lossless", depth
        self._frames: deque[Frame] = deque()
        self._pictures = 0
        self._changed = threading.Condition()
        self._closed = False

    def __len__(self) -> int:
        return len(self._frames)

    def put(self, frame: Frame) -> Frame | None:
        """Add a frame; wait for room under ``lossless``. Return the frame that had to go for it under ``latest``.

        A frame that comes after :meth:`close` is returned itself.
        """
        with self._changed:
            if self.lossless or frame.image is None:
                self._changed.wait_for(lambda: self._has_room(frame) or self._closed)
            if self._closed:
                return frame
            gone = None if self._has_room(frame) else self._remove_oldest()
            self._frames.append(frame)
            self._pictures += frame.image is not None
            self._changed.notify_all()
            return gone

    def _remove_oldest(self) -> Frame:
        place = next(place for place, frame in enumerate(self._frames) if frame.image is not None)
        oldest = self._frames[place]
        del self._frames[place]
        self._pictures -= 1
        return oldest

    def wait(self, seconds: float) -> bool:
        """Wait for a frame or for the end, and say whether one of them has come."""
        with self._changed:
            return bool(self._changed.wait_for(lambda: self._frames or self._closed, seconds))

    def _has_room(self, frame: Frame) -> bool:
        waiting = self._pictures
        if frame.image is None:
            return len(self._frames) - waiting < NOTES
        return waiting == 0 or (waiting < self._depth and (waiting + 1) * frame.image.nbytes <= LARGEST)

    def take(self, most: int = 1, wait: float = 0.0) -> list[Frame]:
        """Take frames that the engine can run in one call: with pixels and of one size; or one without pixels.

        Parameters
        ----------
        most : int
            Their greatest number.
        wait : float
            Seconds that the first one waits for others.

        Returns
        -------
        list of Frame
            Empty once the queue is closed and there are none left.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._frames or self._closed)
            if not self._frames:
                return []
            deadline = time.monotonic() + wait
            # With one frame without pixels at the head there is nothing to wait for.
            while self._alike(most) == len(self._frames) < most and self._frames[0].image is not None:
                left = deadline - time.monotonic()
                if self._closed or left <= 0:
                    break
                self._changed.wait(left)
            taken = [self._frames.popleft() for _ in range(self._alike(most))]
            self._pictures -= sum(frame.image is not None for frame in taken)
            self._changed.notify_all()
            return taken

    def _alike(self, most: int) -> int:
        """Count the frames at the head that fit into one call."""
        count, shape = 0, None
        for frame in self._frames:
            if frame.image is None:
                return count or 1
            if count == most or (shape is not None and frame.image.shape != shape):
                return count
            count, shape = count + 1, frame.image.shape
        return count

    def close(self) -> None:
        """Take no more frames; those that wait can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def discard(self) -> list[Frame]:
        """Close, and return the frames that waited."""
        with self._changed:
            self._closed = True
            frames = list(self._frames)
            self._frames.clear()
            self._pictures = 0
            self._changed.notify_all()
            return frames
