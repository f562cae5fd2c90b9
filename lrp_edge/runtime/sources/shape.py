"""Cropping, rotating, resizing, pacing and repeating the frames of any source."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrp_edge.errors import LrpEdgeError, needs_extra
from lrp_edge.runtime.pool import Pool
from lrp_edge.runtime.result import Frame
from lrp_edge.runtime.sources.base import Source, SourceOptions

with needs_extra("cpu"):
    import cv2

UInt8 = NDArray[np.uint8]

_TURNS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}


def to_order(image: Any, order: str, pool: Pool | None = None) -> UInt8:
    """Convert an 8-bit BGR or gray image to a channel order, with a channel axis.

    Parameters
    ----------
    image : uint8 [H, W, 3] (BGR), [H, W, 1] or [H, W] (gray)
        The image.
    order : {"BGR", "RGB", "GRAY"}
        The asked order.
    pool : Pool, optional
        Where a buffer for a converted image comes from.
    """
    gray = image.ndim == 2 or image.shape[2] == 1
    if gray == (order == "GRAY") and order != "RGB":
        return np.asarray(image[..., None] if image.ndim == 2 else image, np.uint8)
    code = {"GRAY": cv2.COLOR_BGR2GRAY, "RGB": cv2.COLOR_BGR2RGB}.get(order, cv2.COLOR_GRAY2BGR)
    if gray:
        code = cv2.COLOR_GRAY2BGR
    shape = (*image.shape[:2], 1) if order == "GRAY" else (*image.shape[:2], 3)
    target = pool.take(shape) if pool else np.empty(shape, np.uint8)
    cv2.cvtColor(image, code, dst=target)
    return target


class Shaped(Source):
    """Another source's frames with region of interest, rotation and size as the options ask."""

    def __init__(self, inner: Source, options: SourceOptions) -> None:
        super().__init__()
        self._inner, self._options, self._pool = inner, options, Pool()
        self.name, self.live, self.length = inner.name, inner.live, inner.length
        self.interrupted = inner.interrupted

    def faults(self) -> list[str]:
        return self._inner.faults()

    def __iter__(self) -> Iterator[Frame]:
        for frame in self._inner:
            if frame.image is None:
                yield frame
                continue
            try:
                yield dataclasses.replace(frame, image=self._shape(frame.image))
            except LrpEdgeError as error:
                yield dataclasses.replace(frame, image=None, error=str(error))

    def _shape(self, image: UInt8) -> UInt8:
        options = self._options
        if options.roi:
            image = self._cut(image, options.roi)
        if options.rotate:
            height, width, channels = image.shape
            turned = (height, width) if options.rotate == 180 else (width, height)
            target = self._pool.take((*turned, channels))
            cv2.rotate(image, _TURNS[options.rotate], dst=target)
            image = target
        if options.size and image.shape[:2] != options.size:
            target = self._pool.take((*options.size, image.shape[2]))
            shrinks = options.size[0] * options.size[1] < image.shape[0] * image.shape[1]
            method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
            cv2.resize(image, options.size[::-1], dst=target, interpolation=method)
            image = target
        return image

    def _cut(self, image: UInt8, roi: tuple[int, int, int, int]) -> UInt8:
        x, y, width, height = roi
        if y + height > image.shape[0] or x + width > image.shape[1]:
            raise LrpEdgeError(
                f"region of interest {x},{y},{width},{height} extends beyond the frame, which is "
                f"{image.shape[0]}x{image.shape[1]} (height x width)"
            )
        return image[y : y + height, x : x + width]


class Looped(Source):
    """A file or folder that restarts at its end."""

    def __init__(self, inner: Source) -> None:
        super().__init__()
        self._inner, self.name = inner, inner.name
        self.interrupted = inner.interrupted

    def faults(self) -> list[str]:
        return self._inner.faults()

    def __iter__(self) -> Iterator[Frame]:
        index = 0
        while not self.interrupted.is_set():
            first = index
            for frame in self._inner:
                yield dataclasses.replace(frame, index=index)
                index += 1
            if index == first:
                return


class Paced(Source):
    """A file or folder whose frames come at a camera's rate, whether or not anything is waiting for them."""

    def __init__(self, inner: Source, fps: float) -> None:
        super().__init__()
        self._inner, self._period = inner, 1 / fps
        self.name, self.length = inner.name, inner.length
        self.interrupted = inner.interrupted

    def faults(self) -> list[str]:
        return self._inner.faults()

    def __iter__(self) -> Iterator[Frame]:
        due = time.perf_counter()
        for frame in self._inner:
            wait = due - time.perf_counter()
            if wait > 0 and self.interrupted.wait(wait):
                return
            now = time.perf_counter()
            # After a pause of the consumer, pacing continues from now instead of catching up in a burst.
            due = max(due, now - self._period) + self._period
            yield dataclasses.replace(frame, captured=now, timestamp=time.time())
