"""Industrial cameras on GigE Vision and USB3 Vision, through Aravis."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrp_edge.errors import LrpEdgeError, needs_extra
from lrp_edge.runtime.pool import Pool
from lrp_edge.runtime.result import Frame
from lrp_edge.runtime.sources.base import Source, SourceLost, SourceOptions
from lrp_edge.runtime.sources.gobject import load
from lrp_edge.runtime.sources.shape import to_order
from lrp_edge.runtime.sources.uri import Address, check_parameters, number

with needs_extra("cpu"):
    import cv2

GLib = load("GLib", "2.0")
Arv = load("Aravis", "0.8")

_PARAMETERS = ("exposure", "gain", "pixel-format", "region", "trigger")
_BUFFERS, _POLL = 8, 0.2
# Channels of each pixel format that is taken, and what makes BGR of it.
_FORMATS: dict[str, tuple[int, int | None]] = {
    "Mono8": (1, None),
    "BGR8": (3, None),
    "RGB8": (3, cv2.COLOR_RGB2BGR),
    "BayerRG8": (1, cv2.COLOR_BayerRGGB2BGR),
    "BayerGR8": (1, cv2.COLOR_BayerGRBG2BGR),
    "BayerGB8": (1, cv2.COLOR_BayerGBRG2BGR),
    "BayerBG8": (1, cv2.COLOR_BayerBGGR2BGR),
}
# GigE Vision numbers frames from 1 to this, and then from 1 again.
_LAST_NUMBER = 0xFFFF
# Aravis waits for a frame's packets for a fifth of a second, and meanwhile may hand out those behind it.
_PATIENCE = 1.0


class Aravis(Source):
    """An industrial camera.

    Parameters
    ----------
    address : Address
        ``aravis://`` for the first camera, or ``aravis://NAME`` with its identifier, serial number or IP address.
        ``exposure`` (microseconds), ``gain`` (in the camera's unit, mostly dB), ``pixel-format`` and ``region``
        (``x,y,width,height`` on the sensor) are set where they are given. ``trigger`` is ``off`` (the default),
        ``software`` (a frame is taken whenever the line wants the next one), or an input such as ``line0``.
    order : {"BGR", "RGB", "GRAY"}
        Channel order of the frames.
    options : SourceOptions
        ``fps`` is asked of the camera. It counts as lost after ``timeout`` without a frame, or, where it waits for a
        trigger from outside, when it no longer answers.

    Raises
    ------
    LrpEdgeError
        If a parameter is not known or not understood. While it runs: if the camera does not have what is asked of it.
    """

    live = True

    def __init__(self, address: Address, order: str, options: SourceOptions) -> None:
        super().__init__()
        check_parameters(address, _PARAMETERS)
        self.name, self._order, self._timeout, self._pool = address.name, order, options.timeout, Pool()
        self._place, self._settings = address.place, _Settings.of(address, options.fps)
        self._closing = threading.Thread()

    def __iter__(self) -> Iterator[Frame]:
        while self._closing.is_alive() and not self.interrupted.is_set():
            self._closing.join(_POLL)
        camera = _Camera(self._find(), self._settings)
        # Aravis takes some ten seconds to close a camera that does not answer; its loss is reported before that.
        self._closing = threading.Thread(target=camera.close, name="aravis-close", daemon=True)
        try:
            yield from self._frames(camera)
        except GLib.Error as error:
            raise SourceLost(f"{self.name} is lost: {error.message}") from error
        finally:
            self._closing.start()
            if not camera.silent:
                self._closing.join()

    def _find(self) -> Any:
        Arv.update_device_list()
        devices = [_names(index) for index in range(Arv.get_n_devices())]
        known = [names[0] for names in devices if self._place in ("", *names)]
        # A camera behind a router does not hear the broadcast that others are found by.
        wanted = known[0] if known else self._place
        problem = "no camera answers"
        if wanted:
            try:
                return Arv.Camera.new(wanted)
            except GLib.Error as error:
                problem = error.message
        answering = ", ".join(f"{names[0]} at {names[2]}" for names in devices) or "none"
        raise SourceLost(f"{self.name} cannot be opened: {problem}; cameras that answer: {answering}")

    def _frames(self, camera: _Camera) -> Iterator[Frame]:
        index, numbers, since = 0, FrameNumbers(), time.monotonic()
        while not self.interrupted.is_set():
            shot = camera.take()
            now = time.monotonic()
            # When packets of a frame come twice, Aravis makes a broken second frame of them.
            ghost = shot is not None and numbers.note(shot.number, now) and shot.error
            for _ in range(numbers.given_up(now)):
                error = "the frame did not arrive: network or line were too slow for it"
                yield Frame(index, self.name, None, time.time(), time.perf_counter(), error)
                index += 1
            if shot is None:
                camera.check(now - since, self._timeout)
            elif not ghost:
                yield self._frame(index, shot, camera.pixel_format)
                index, since = index + 1, time.monotonic()

    def _frame(self, index: int, shot: _Shot, pixel_format: str) -> Frame:
        image = None if shot.error else to_image(shot.data, shot.size, pixel_format, self._order, self._pool)
        return Frame(index, self.name, image, shot.timestamp, shot.captured, shot.error)


class _Camera:
    """A camera that is open and gives frames; `silent` when it does so no more."""

    def __init__(self, camera: Any, settings: _Settings) -> None:
        self._name, self._camera = settings.name, camera
        self._stream: Any = None
        self._lost, self._asked, self.silent = threading.Event(), False, False
        try:
            settings.apply(camera)
            self._start()
        except GLib.Error as error:
            self.close()
            raise SourceLost(f"{self._name} cannot be set up: {error.message}") from error
        except LrpEdgeError:
            self.close()
            raise
        self._trigger = settings.trigger
        self.pixel_format = camera.get_pixel_format_as_string()

    def _start(self) -> None:
        lost = self._lost
        self._camera.get_device().connect("control-lost", lambda device: lost.set())
        self._stream = self._camera.create_stream(None, None)
        size = self._camera.get_payload()
        for _ in range(_BUFFERS):
            self._stream.push_buffer(Arv.Buffer.new_allocate(size))
        self._camera.start_acquisition()

    def take(self) -> _Shot | None:
        """Return the next frame, or None where none comes within the time between two checks of what else happens."""
        if self._trigger == "software" and not self._asked:
            self._camera.software_trigger()
            self._asked = True
        buffer = self._stream.timeout_pop_buffer(int(_POLL * 1e6))
        if buffer is None:
            return None
        self._asked = False
        try:
            return _shot(buffer, _FORMATS[self.pixel_format][0])
        finally:
            self._stream.push_buffer(buffer)

    def check(self, waited: float, limit: float) -> None:
        """Raise :class:`SourceLost` if no more frames can be expected."""
        overdue = waited > limit and self._trigger in ("off", "software")
        self.silent = overdue or self._lost.is_set()
        if self.silent:
            raise SourceLost(f"{self._name}: " + (f"no frame for {limit:g} s" if overdue else "it does not answer"))

    def close(self) -> None:
        """Stop and release it."""
        if not self._lost.is_set():
            with contextlib.suppress(GLib.Error):
                self._camera.stop_acquisition()
        # Without these references the device is closed, and others may open it.
        self._camera = self._stream = None


@dataclass(frozen=True)
class _Shot:
    """What a buffer held: a frame's number and bytes, when it began to arrive, and what it lacks."""

    number: int
    captured: float
    timestamp: float
    size: tuple[int, int]
    data: bytes
    error: str


def to_image(data: bytes, size: tuple[int, int], pixel_format: str, order: str, pool: Pool) -> NDArray[np.uint8]:
    """Make an image of a camera's pixels.

    Parameters
    ----------
    data : bytes
        The pixels, row by row; what is behind them does not count.
    size : (height, width)
        Of the image.
    pixel_format : str
        By its name in the Pixel Format Naming Convention of GenICam, such as ``BayerRG8``.
    order : {"BGR", "RGB", "GRAY"}
        Channel order of the image.
    pool : Pool
        Where its buffer comes from.
    """
    channels, code = _FORMATS[pixel_format]
    raw = np.frombuffer(data, np.uint8, size[0] * size[1] * channels).reshape(*size, channels)
    image = pool.take((*size, channels if code is None else 3))
    if code is None:
        np.copyto(image, raw)
    else:
        cv2.cvtColor(raw, code, dst=image)
    return to_order(image, order, pool)


def _shot(buffer: Any, channels: int) -> _Shot:
    began = buffer.get_system_timestamp() / 1e9 or time.time()
    captured, timestamp = time.perf_counter() - max(0.0, time.time() - began), began
    number, status = buffer.get_frame_id(), buffer.get_status()
    if status != Arv.BufferStatus.SUCCESS:
        error = f"the frame arrived incomplete ({status.value_nick})"
        return _Shot(number, captured, timestamp, (0, 0), b"", error)
    size, data = (buffer.get_image_height(), buffer.get_image_width()), buffer.get_data()
    expected = size[0] * size[1] * channels
    error = "" if len(data) >= expected else f"the frame has {len(data)} bytes, expected {expected}"
    return _Shot(number, captured, timestamp, size, data, error)


class FrameNumbers:
    """The numbers of a camera's frames: which were left out, and do not come late either.

    Times are by a monotonic clock, in seconds.
    """

    def __init__(self) -> None:
        self._newest = 0
        self._awaited: dict[int, float] = {}

    def note(self, number: int, now: float) -> bool:
        """Note the number of a frame that came, 0 if it is not known; return whether it came before."""
        if not number or not self._newest:
            self._newest = self._newest or number
            return False
        ahead = (number - self._newest) % _LAST_NUMBER
        if ahead == 0 or ahead > _LAST_NUMBER // 2:
            return self._awaited.pop(self._newest + ahead - _LAST_NUMBER, None) is None
        self._awaited.update(dict.fromkeys(range(self._newest + 1, self._newest + ahead), now))
        self._newest += ahead
        return False

    def given_up(self, now: float) -> int:
        """Return how many frames are given up as lost."""
        before = len(self._awaited)
        self._awaited = {left: since for left, since in self._awaited.items() if now - since <= _PATIENCE}
        return before - len(self._awaited)


def _names(index: int) -> tuple[str, ...]:
    """Return what a camera may be called: identifier, serial number, address, physical address."""
    parts = (Arv.get_device_id, Arv.get_device_serial_nbr, Arv.get_device_address, Arv.get_device_physical_id)
    return tuple(str(part(index) or "") for part in parts)


@dataclass(frozen=True)
class _Settings:
    """Settings for a camera; None for those that are not changed."""

    name: str
    exposure: float | None
    gain: float | None
    pixel_format: str | None
    region: tuple[int, ...] | None
    trigger: str
    fps: float | None

    @classmethod
    def of(cls, address: Address, fps: float | None) -> _Settings:
        """Read the parameters of an address."""
        return cls(
            address.name,
            number(address, "exposure"),
            number(address, "gain"),
            address.parameters.get("pixel-format"),
            _region(address),
            address.parameters.get("trigger", "off").lower(),
            fps,
        )

    def apply(self, camera: Any) -> None:
        """Set up a camera.

        Raises
        ------
        LrpEdgeError
            If it does not have what is asked of it.
        """
        self._set_pixel_format(camera)
        if self.region:
            self._set_region(camera, *self.region)
        if self.exposure is not None:
            self._check("exposure", self.exposure, camera.get_exposure_time_bounds())
            if camera.is_exposure_auto_available():
                camera.set_exposure_time_auto(Arv.Auto.OFF)
            camera.set_exposure_time(self.exposure)
        if self.gain is not None:
            self._check("gain", self.gain, camera.get_gain_bounds())
            if camera.is_gain_auto_available():
                camera.set_gain_auto(Arv.Auto.OFF)
            camera.set_gain(self.gain)
        if self.fps is not None:
            self._check("fps", self.fps, camera.get_frame_rate_bounds())
            camera.set_frame_rate(self.fps)
        self._set_trigger(camera)

    def _set_pixel_format(self, camera: Any) -> None:
        offered = camera.dup_available_pixel_formats_as_strings()
        wanted = self.pixel_format or camera.get_pixel_format_as_string()
        usable = [name for name in offered if name in _FORMATS]
        if wanted not in usable:
            choice = ", ".join(usable) or "none"
            raise LrpEdgeError(f"{self.name}: pixel format {wanted} cannot be used; choose pixel-format of {choice}")
        camera.set_pixel_format_from_string(wanted)

    def _set_region(self, camera: Any, x: int, y: int, width: int, height: int) -> None:
        widest, highest = camera.get_sensor_size()
        if x + width <= widest and y + height <= highest:
            camera.set_region(x, y, width, height)
            now = camera.get_region()
            if (now.x, now.y, now.width, now.height) == self.region:
                return
        raise LrpEdgeError(
            f"{self.name}: the camera does not take this region; its sensor is {widest},{highest} (width, height) "
            f"and widths go in steps of {camera.get_width_increment()}"
        )

    def _set_trigger(self, camera: Any) -> None:
        camera.clear_triggers()
        if self.trigger == "off":
            return
        sources = {name.lower(): name for name in camera.dup_available_trigger_sources()}
        if self.trigger not in sources:
            raise LrpEdgeError(f"{self.name}: trigger is {self.trigger}; expected off, {', '.join(sorted(sources))}")
        camera.set_trigger(sources[self.trigger])

    def _check(self, what: str, value: float, bounds: Any) -> None:
        if not bounds.min <= value <= bounds.max:
            raise LrpEdgeError(f"{self.name}: {what} is {value:g}; the camera takes {bounds.min:g} to {bounds.max:g}")


def _region(address: Address) -> tuple[int, ...] | None:
    text = address.parameters.get("region")
    if text is None:
        return None
    values = text.split(",")
    if len(values) != 4 or not all(value.isdecimal() for value in values):
        raise LrpEdgeError(f"source {address.name}: region is {text!r}; expected x,y,width,height in pixels")
    return tuple(int(value) for value in values)
