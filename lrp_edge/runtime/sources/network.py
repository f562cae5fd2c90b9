"""Network cameras, read with FFmpeg: RTSP, MJPEG over HTTP, and anything else FFmpeg reads from an address."""

from __future__ import annotations

import dataclasses
import functools
import logging
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, urldefrag

import numpy as np
from numpy.typing import NDArray

from lrp_edge.errors import LrpEdgeError, needs_extra
from lrp_edge.options import PictureOptions
from lrp_edge.pictures import decode
from lrp_edge.runtime.pool import Pool
from lrp_edge.runtime.result import Frame
from lrp_edge.runtime.sources.base import Source, SourceLost, SourceOptions
from lrp_edge.runtime.sources.uri import RAW_PASSWORD, Address, check_parameters, has_raw_password, with_credentials

with needs_extra("camera"):
    import av
    from av.codec.context import Flags
    from av.codec.hwaccel import HWAccel, hwdevices_available
    from av.error import ExitError, FFmpegError
    from av.video.reformatter import VideoReformatter

_FORMATS = {"BGR": "bgr24", "RGB": "rgb24", "GRAY": "gray"}
#: What FFmpeg calls a stream of JPEGs.
_JPEG = "mjpeg"
_TRANSPORTS = ("tcp", "udp")
# FFmpeg analyses frames to learn their rate, which is not needed; meanwhile others queue up behind them. Its flag
# "nobuffer" does not help: it discards the analysed frames, among them the key frame on which all others depend.
_PROBE = {"fpsprobesize": "0", "analyzeduration": "1000000"}
# An RTSP server describes its streams beforehand.
_RTSP_PROBE = {"probesize": "32", "allowed_media_types": "video"}

_log = logging.getLogger("lrp_edge.source")


class Network(Source):
    """A camera on the network.

    Parameters
    ----------
    address : Address
        ``rtsp://``, ``rtsps://``, ``http://`` or ``https://``; what is behind ``?`` is for the camera. For RTSP there
        may be ``transport=tcp`` (the default) or ``transport=udp`` behind ``#``.
    order : {"BGR", "RGB", "GRAY"}
        Channel order of the frames.
    options : SourceOptions
        ``hardware``, ``timeout`` and ``credentials`` are heeded here.

    Raises
    ------
    LrpEdgeError
        If a parameter is not known, or the file with the credentials cannot be used.
    """

    live = True

    def __init__(self, address: Address, order: str, options: SourceOptions) -> None:
        super().__init__()
        self.name = address.name
        self._order, self._options, self._pool = order, options, Pool()
        url, transport = _split(address)
        self._url = with_credentials(url, options.credentials)
        # A password 12/3 looks like a port and a path.
        self._hint = f"; {RAW_PASSWORD}, if it has any" if has_raw_password(url.text) else ""
        self._settings = _PROBE | (_RTSP_PROBE | {"rtsp_transport": transport} if _is_rtsp(address) else {})
        self._told = not options.hardware

    def __iter__(self) -> Iterator[Frame]:
        container = self._open()
        try:
            stream = next(iter(container.streams.video), None)
            if stream is None or stream.codec_context is None:
                raise SourceLost(f"{self.name} has no video that can be decoded")
            self._tell_decoder(stream.codec_context)
            decoder = self._decoder(stream.codec_context)
            index = 0
            for packet, captured, timestamp in self._packets(container, stream.index, decoder):
                for image, error in decoder.decode(packet):
                    yield Frame(index, self.name, image, timestamp, captured, error)
                    index += 1
        finally:
            container.close()

    def _open(self) -> Any:
        limit = self._options.timeout
        device = _decoding_device() if self._options.hardware else None
        accelerator = HWAccel(device) if device else None
        try:
            return av.open(self._url, options=self._settings, timeout=(limit, limit), hwaccel=accelerator)
        except ExitError as error:
            raise SourceLost(f"{self.name} does not answer within {limit:g} s") from error
        except FFmpegError as error:
            raise SourceLost(f"{self.name} cannot be opened: {error.strerror}{self._hint}") from error

    def _decoder(self, context: Any) -> _Decoder | _JpegDecoder:
        if context.name == _JPEG:
            return _JpegDecoder(self._order, self._options)
        return _Decoder(context, self._order, self._pool)

    def _packets(
        self, container: Any, stream: int, decoder: _Decoder | _JpegDecoder
    ) -> Iterator[tuple[Any, float, float]]:
        """Yield a stream's packets with their time of arrival, as long as they become frames."""
        limit = self._options.timeout
        asked = since = time.monotonic()
        before = decoder.frames
        try:
            for packet in container.demux():
                captured, timestamp, now = time.perf_counter(), time.time(), time.monotonic()
                if self.interrupted.is_set():
                    return
                if packet.stream.index == stream:
                    yield packet, captured, timestamp
                if decoder.frames > before:
                    since, before = now, decoder.frames
                # FFmpeg holds a packet back until the next one begins, and hands it out when it has waited in vain.
                if now - asked >= limit or now - since >= limit:
                    raise SourceLost(f"{self.name}: no {decoder.awaited} for {limit:g} s")
                asked = time.monotonic()
        except ExitError as error:
            raise SourceLost(f"{self.name}: no {decoder.awaited} for {limit:g} s") from error
        except FFmpegError as error:
            raise SourceLost(f"{self.name} is lost: {error.strerror}") from error
        raise SourceLost(f"{self.name}: the connection was closed")

    def _tell_decoder(self, context: Any) -> None:
        if self._told:
            return
        self._told = True
        if context.is_hwaccel and context.name != _JPEG:
            _log.info("%s: %s is decoded by %s", self.name, context.name, _decoding_device())
        else:
            _log.warning("%s: no hardware here decodes %s; it is decoded on the CPU", self.name, context.name)


class _JpegDecoder:
    """Decodes packets that are each a JPEG; FFmpeg would take most damaged ones for whole."""

    awaited = "frame"

    def __init__(self, order: str, options: PictureOptions) -> None:
        self._order, self._options = order, options
        self.frames = 0

    def decode(self, packet: Any) -> Iterator[tuple[NDArray[np.uint8] | None, str]]:
        """Yield image and error of the frame, of which one is empty."""
        if not packet.size:
            return
        self.frames += 1
        try:
            yield decode(bytes(packet), "the JPEG", self._order, self._options), ""
        except LrpEdgeError as error:
            yield None, str(error)


class _Decoder:
    """Decodes packets to images, except what is damaged or depends on something damaged.

    FFmpeg fills in what it lacks of a frame, and only marks that one: those that follow, up to the next key frame, look
    whole to it and are not.

    Attributes
    ----------
    frames : int
        Frames that came, damaged ones too.
    """

    def __init__(self, context: Any, order: str, pool: Pool) -> None:
        self._format, self._channels, self._pool = _FORMATS[order], 1 if order == "GRAY" else 3, pool
        self._reformatter = VideoReformatter()
        # With several threads FFmpeg holds frames back, or does not notice that parts of them are missing.
        context.thread_count = 1
        context.flags |= Flags.output_corrupt
        # A stream that is joined in its middle begins with its first key frame.
        self._begun, self._whole, self._damaged = False, True, False
        self.frames = 0

    @property
    def awaited(self) -> str:
        """What is waited for."""
        return "frame" if self._begun else "key frame"

    def decode(self, packet: Any) -> Iterator[tuple[NDArray[np.uint8] | None, str]]:
        """Yield image and error of each frame, of which one is empty."""
        for frame, error in self._frames(packet):
            self.frames += 1
            yield (self._image(frame), "") if not error else (None, error)

    def _frames(self, packet: Any) -> Iterator[tuple[Any, str]]:
        try:
            frames = packet.decode()
        except FFmpegError as error:
            self._whole = False
            if self._begun:
                yield None, f"the frame cannot be decoded: {error.strerror}"
            return
        for frame in frames:
            self._begun = self._begun or frame.key_frame
            if not self._begun:
                continue
            damaged = packet.is_corrupt or frame.is_corrupt
            # What is lost where two frames meet may be of the second, and only the first is marked.
            self._whole = not damaged and (self._whole or (frame.key_frame and not self._damaged))
            self._damaged = damaged
            if damaged:
                yield None, "the frame was damaged on its way"
            else:
                yield frame, "" if self._whole else "the frame builds on one that was damaged on its way"

    def _image(self, frame: Any) -> NDArray[np.uint8]:
        converted: Any = self._reformatter.reformat(frame, format=self._format)
        plane, width = converted.planes[0], converted.width * self._channels
        rows = np.frombuffer(plane, np.uint8, plane.line_size * converted.height).reshape(converted.height, -1)
        image = self._pool.take((converted.height, converted.width, self._channels))
        np.copyto(image.reshape(converted.height, width), rows[:, :width])
        return image


def _is_rtsp(address: Address) -> bool:
    return address.scheme in ("rtsp", "rtsps")


def _split(address: Address) -> tuple[Address, str]:
    """Return the address as the camera knows it, and the transport."""
    url, fragment = urldefrag(address.text)
    ours = dataclasses.replace(address, parameters=dict(parse_qsl(fragment, keep_blank_values=True)))
    if fragment and not _is_rtsp(address):
        raise LrpEdgeError(f"source {address.name}: expected nothing after #; write %23 for a # of the camera's own")
    check_parameters(ours, ("transport",))
    transport = ours.parameters.get("transport", "tcp")
    if transport not in _TRANSPORTS:
        raise LrpEdgeError(f"source {address.name}: transport is {transport!r}; expected tcp or udp")
    return dataclasses.replace(address, text=url), transport


@functools.cache
def _decoding_device() -> str | None:
    """Return the first kind of device that decodes video here; None if there is none."""
    for name in hwdevices_available():
        try:
            if av.CodecContext.create("h264", "r", hwaccel=HWAccel(name)).is_hwaccel:
                return str(name)
        except FFmpegError:
            continue
    return None
