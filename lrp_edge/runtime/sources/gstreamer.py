"""Cameras that GStreamer reads: a custom pipeline, or the camera connector of a Jetson."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrp_edge.errors import LrpEdgeError
from lrp_edge.pictures import decode
from lrp_edge.runtime.pool import Pool
from lrp_edge.runtime.redaction import redact_within
from lrp_edge.runtime.result import Frame
from lrp_edge.runtime.sources.base import Source, SourceLost, SourceOptions
from lrp_edge.runtime.sources.gobject import load
from lrp_edge.runtime.sources.shape import to_order
from lrp_edge.runtime.sources.uri import Address, check_parameters, number

GLib = load("GLib", "2.0")
Gst = load("Gst", "1.0")
GstVideo = load("GstVideo", "1.0")

# videoconvert makes gray of YUV by taking its luma as it is, 16 to 235; it passes on what is gray already.
_FORMATS = {"BGR": "BGR", "RGB": "RGB", "GRAY": "(string){BGR,GRAY8}"}
_SINK = "lrp_edge_sink"
_POLL = 0.2


class GStreamer(Source):
    """The frames of a pipeline.

    Parameters
    ----------
    address : Address
        ``gst://PIPELINE``, without a sink. It may end in JPEG: GStreamer's decoder shows what there is of a JPEG that
        was cut short, while here it is a frame that cannot be read.
    order : {"BGR", "RGB", "GRAY"}
        Channel order of the frames.
    options : SourceOptions
        ``timeout`` is heeded here; size and rate are matters of the pipeline.

    Raises
    ------
    LrpEdgeError
        If the pipeline is not one, or an element is not installed.
    """

    live = True

    def __init__(self, address: Address, order: str, options: SourceOptions) -> None:
        super().__init__()
        self.name, self._text, self._address = address.name, address.place, address.text
        self._order, self._options, self._pool = order, options, Pool()
        Gst.init(None)
        self._parse()

    def _parse(self) -> Any:
        # What waits in the sink holds up the pipeline, so that a source that can wait does, and none is lost unseen.
        sink = f"appsink name={_SINK} max-buffers=1 sync=false"
        raw = f"videoconvert ! video/x-raw,format={_FORMATS[self._order]}"
        try:
            return Gst.parse_launch(f"{self._text} ! {raw} ! {sink}")
        except GLib.Error as error:
            with contextlib.suppress(GLib.Error):
                return Gst.parse_launch(f"{self._text} ! {sink} caps=image/jpeg")
            raise LrpEdgeError(
                f"{self.name} is not a pipeline: {redact_within(error.message, self._address)}; expected e.g. "
                "gst://v4l2src ! image/jpeg"
            ) from error

    def __iter__(self) -> Iterator[Frame]:
        pipeline = self._parse()
        sink, bus = pipeline.get_by_name(_SINK), pipeline.get_bus()
        index = 0
        try:
            pipeline.set_state(Gst.State.PLAYING)
            since = time.monotonic()
            while not self.interrupted.is_set():
                sample = sink.emit("try-pull-sample", int(_POLL * Gst.SECOND))
                if sample is not None:
                    yield self._frame(index, sample)
                    index, since = index + 1, time.monotonic()
                    continue
                self._check(bus)
                if time.monotonic() - since > self._options.timeout:
                    raise SourceLost(f"{self.name}: no frame for {self._options.timeout:g} s")
        finally:
            pipeline.set_state(Gst.State.NULL)

    def _check(self, bus: Any) -> None:
        message = bus.pop_filtered(Gst.MessageType.ERROR | Gst.MessageType.EOS)
        if message is None:
            return
        if message.type == Gst.MessageType.EOS:
            raise SourceLost(f"{self.name} ended")
        error, _ = message.parse_error()
        said = redact_within(error.message, self._address)
        raise SourceLost(f"{self.name} is lost: {message.src.get_name()}: {said}")

    def _frame(self, index: int, sample: Any) -> Frame:
        captured, timestamp = time.perf_counter(), time.time()
        image, error = None, ""
        try:
            image = self._image(sample.get_buffer(), sample.get_caps())
        except LrpEdgeError as problem:
            error = str(problem)
        return Frame(index, self.name, image, timestamp, captured, error)

    def _image(self, buffer: Any, caps: Any) -> NDArray[np.uint8]:
        if buffer.has_flags(Gst.BufferFlags.CORRUPTED):
            raise LrpEdgeError("the frame was damaged on its way")
        data = buffer.extract_dup(0, buffer.get_size())
        if caps.get_structure(0).get_name() == "image/jpeg":
            return decode(data, "the JPEG", self._order, self._options)
        info = GstVideo.VideoInfo.new_from_caps(caps)
        # Where rows are padded otherwise than by default, the buffer itself says so.
        layout = GstVideo.buffer_get_video_meta(buffer) or info
        channels = info.finfo.n_components
        shape, strides = (info.height, info.width * channels), (layout.stride[0], 1)
        rows = np.ndarray(shape, np.uint8, data, layout.offset[0], strides)
        image = self._pool.take((info.height, info.width, channels))
        np.copyto(image.reshape(shape), rows)
        return to_order(image, "GRAY", self._pool) if self._order == "GRAY" else image


def open_csi(address: Address, order: str, options: SourceOptions) -> GStreamer:
    """Open a camera on a Jetson's CSI connector, ``csi://NUMBER``; see :func:`csi_pipeline`.

    Raises
    ------
    LrpEdgeError
        As there, or if this machine is not a Jetson.
    """
    pipeline = csi_pipeline(address, options)
    Gst.init(None)
    if Gst.ElementFactory.find("nvarguscamerasrc") is None:
        raise LrpEdgeError(f"source {address.name}: GStreamer has no nvarguscamerasrc here; it comes with a Jetson")
    return GStreamer(dataclasses.replace(address, place=pipeline), order, options)


def csi_pipeline(address: Address, options: SourceOptions) -> str:
    """Return the pipeline of a camera on a Jetson's CSI connector.

    Parameters
    ----------
    address : Address
        ``csi://NUMBER``, with ``exposure`` (microseconds) and ``gain`` (a factor) fixed where they are given.
    options : SourceOptions
        ``size`` and ``fps`` are asked of the camera.

    Raises
    ------
    LrpEdgeError
        If the camera is not named by its number, or a parameter is not known or not a number.
    """
    check_parameters(address, ("exposure", "gain"))
    if not address.place.isdecimal():
        raise LrpEdgeError(f"source {address.name}: expected the camera's number, e.g. csi://0")
    source = f"nvarguscamerasrc sensor-id={address.place}"
    if (exposure := number(address, "exposure")) is not None:
        source += f' exposuretimerange="{exposure * 1000:.0f} {exposure * 1000:.0f}"'
    if (gain := number(address, "gain")) is not None:
        source += f' gainrange="{gain:g} {gain:g}"'
    caps = "video/x-raw(memory:NVMM)"
    if options.size:
        caps += f",width={options.size[1]},height={options.size[0]}"
    if options.fps:
        rate = Fraction(options.fps).limit_denominator(1001)
        caps += f",framerate={rate.numerator}/{rate.denominator}"
    return f"{source} ! {caps} ! nvvidconv ! video/x-raw,format=BGRx"
