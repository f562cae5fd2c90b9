"""Where frames come from, by address: files, cameras, streams."""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Callable
from pathlib import Path

from lrp_edge.errors import LrpEdgeError
from lrp_edge.pictures.folders import OUTPUT, Left, is_output, pictures_in
from lrp_edge.runtime.redaction import redact
from lrp_edge.runtime.result import Frame
from lrp_edge.runtime.sources.base import Source, SourceLost, SourceOptions
from lrp_edge.runtime.sources.files import VIDEOS, Images, Video
from lrp_edge.runtime.sources.shape import Looped, Paced, Shaped
from lrp_edge.runtime.sources.uri import Address, parse

__all__ = ["Frame", "Images", "Source", "SourceLost", "SourceOptions", "Video", "open_source", "redact"]

_log = logging.getLogger("lrp_edge.source")


def open_source(text: str, order: str = "BGR", options: SourceOptions = SourceOptions()) -> Source:
    """Open a source by its address.

    Parameters
    ----------
    text : str
        An image file, a directory (searched deeply, sorted), a glob, a video file, or one of

        - ``0`` or ``v4l2:///dev/video0``, a camera of the system;
        - ``csi://0``, a camera on a Jetson's CSI connector;
        - ``rtsp://HOST/PATH``, ``rtsps://``, ``http://`` and ``https://`` (MJPEG or whatever FFmpeg reads);
        - ``gst://PIPELINE``, a GStreamer pipeline without its sink;
        - ``aravis://`` or ``aravis://NAME``, a GigE Vision or USB3 Vision camera.
    order : {"BGR", "RGB", "GRAY"}
        Channel order of the frames.
    options : SourceOptions
        What is asked of it.

    Raises
    ------
    LrpEdgeError
        If the scheme is not known, there is nothing by that name, no image in the directory, or the video has no
        frame. Whether a camera is there shows when its frames are asked for.
    """
    address = parse(text, _SCHEMES)
    if address.has_password:
        _log.warning("%s: the password in the address can be seen by others; use --credentials FILE", address.name)
    source = _SCHEMES[address.scheme](address, order, options) if address.scheme else _file(text, order, options)
    if options.loop and not source.live:
        source = Looped(source)
    if options.fps and not source.live:
        source = Paced(source, options.fps)
    return Shaped(source, options) if options.roi or options.rotate or options.size else source


def _file(text: str, order: str, options: SourceOptions) -> Source:
    path, left = Path(text), Left()
    # A path that is too long for the system is an error to pathlib, and nothing there to these functions.
    if os.path.isfile(path) and path.suffix.lower() in VIDEOS:
        return Video(path, order, hardware=options.hardware)
    if os.path.isfile(path):
        return Images([path], order, text, options)
    files = pictures_in(path, left) if os.path.isdir(path) else _matching(text, left)
    if left:
        _log.warning("source %s: left out: %s", text, left)
    if not files:
        what = "has no images" if os.path.isdir(path) else "matches no file"
        raise LrpEdgeError(
            f"source {redact(text)} {what}; expected an image, a folder of images, a glob, a video or a camera"
        )
    return Images(files, order, text, options)


def _matching(pattern: str, left: Left) -> list[Path]:
    """Return the files that a pattern matches, without what a run wrote unless the pattern names its folder."""
    found = sorted(Path(file) for file in glob.glob(pattern, recursive=True) if os.path.isfile(file))
    written = [file for file in found if is_output(file) and file.parent.name not in Path(pattern).parts]
    if written:
        left[OUTPUT] += len(written)
    return [file for file in found if file not in set(written)]


def _file_address(address: Address, order: str, options: SourceOptions) -> Source:
    return _file(address.place, order, options)


def _network(address: Address, order: str, options: SourceOptions) -> Source:
    from lrp_edge.runtime.sources.network import Network

    return Network(address, order, options)


def _v4l2(address: Address, order: str, options: SourceOptions) -> Source:
    from lrp_edge.runtime.sources.v4l2 import Video4Linux

    return Video4Linux(address, order, options)


def _gstreamer(address: Address, order: str, options: SourceOptions) -> Source:
    from lrp_edge.runtime.sources.gstreamer import GStreamer

    return GStreamer(address, order, options)


def _csi(address: Address, order: str, options: SourceOptions) -> Source:
    from lrp_edge.runtime.sources.gstreamer import open_csi

    return open_csi(address, order, options)


def _aravis(address: Address, order: str, options: SourceOptions) -> Source:
    from lrp_edge.runtime.sources.aravis import Aravis

    return Aravis(address, order, options)


_SCHEMES: dict[str, Callable[[Address, str, SourceOptions], Source]] = {
    "file": _file_address,
    "v4l2": _v4l2,
    "csi": _csi,
    "rtsp": _network,
    "rtsps": _network,
    "http": _network,
    "https": _network,
    "gst": _gstreamer,
    "aravis": _aravis,
}
