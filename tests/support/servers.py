"""Cameras for the tests: an RTSP server, an HTTP server of MJPEG or any stream, and Aravis' fake GigE camera.

Each can be killed, and started again where it was. At the end, what takes their frames.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import itertools
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from lrp_edge.runtime.result import Frame
from lrp_edge.runtime.sources import SourceLost, SourceOptions, open_source
from tests.support.programs import Program, free_port, listens

RTSP_PROGRAM = Path(__file__).with_name("rtsp_server.py")
# What a GigE camera is found by: the command DISCOVERY, to which an answer is asked for.
GIGE_PORT, GIGE_DISCOVERY = 3956, bytes.fromhex("4201000200000001")


class RtspServer(Program):
    """Serves a pipeline whose payloader is named ``pay0``; see :func:`rtsp_server`."""

    def __init__(self, pipeline: str, login: str = "") -> None:
        self.port, self.login = free_port(), login
        super().__init__([sys.executable, str(RTSP_PROGRAM), str(self.port), pipeline, *([login] if login else [])])

    @property
    def address(self) -> str:
        """Its address, without user and password."""
        return f"rtsp://127.0.0.1:{self.port}/stream"

    def _answers(self) -> bool:
        return listens(self.port)


def drawn(pattern: str, size: tuple[int, int], fps: int) -> str:
    """Return the beginning of a pipeline that draws a pattern of videotestsrc; `size` is height and width."""
    caps = f"video/x-raw,format=I420,width={size[1]},height={size[0]},framerate={fps}/1"
    return f"videotestsrc is-live=true pattern={pattern} ! {caps}"


H264 = "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=10 ! rtph264pay name=pay0 pt=96"
JPEG = "jpegenc ! rtpjpegpay name=pay0 pt=26"


@contextmanager
def rtsp_server(
    pattern: str = "smpte", size: tuple[int, int] = (240, 320), fps: int = 20, *, coding: str = H264, login: str = ""
) -> Iterator[RtspServer]:
    """Start an RTSP camera whose image is a pattern of videotestsrc; `size` is height and width.

    `coding` is the rest of its pipeline, `login` the ``user:password`` that it asks for.
    """
    pytest.importorskip("gi", reason="PyGObject is not installed")
    with contextlib.closing(RtspServer(f"( {drawn(pattern, size, fps)} ! {coding} )", login)) as server:
        server.start()
        yield server


class FakeCamera(Program):
    """Aravis' GigE Vision camera without a camera; all of them listen on the same port."""

    address = "127.0.0.1"

    def __init__(self, serial: str, options: Sequence[str] = ()) -> None:
        program = shutil.which("arv-fake-gv-camera-0.8")
        if not program:
            pytest.skip("arv-fake-gv-camera-0.8 (package aravis-tools) is not installed")
        super().__init__([program, "-i", self.address, "-s", serial, *options])

    @contextmanager
    def other(self, *options: str) -> Iterator[None]:
        """Be a camera with other options for a while."""
        usual, self._command = self._command, [*self._command, *options]
        try:
            self.kill()
            self.start()
            yield
        finally:
            self._command = usual
            self.kill()
            self.start()

    def _answers(self) -> bool:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.settimeout(0.2)
            probe.connect((self.address, GIGE_PORT))
            with contextlib.suppress(OSError):
                probe.send(GIGE_DISCOVERY)
                return len(probe.recv(1000)) > 200
        return False


@contextmanager
def fake_camera(serial: str = "LRP01", *options: str) -> Iterator[FakeCamera]:
    """Start a GigE camera; waits where another test on this machine has one."""
    with (
        (Path(tempfile.gettempdir()) / "lrp-edge-fake-camera.lock").open("w") as lock,
        contextlib.closing(FakeCamera(serial, options)) as camera,
    ):
        fcntl.flock(lock, fcntl.LOCK_EX)
        camera.start()
        yield camera


def jpeg(image: np.ndarray) -> bytes:
    """Return an image as JPEG."""
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


def cut(data: bytes) -> bytes:
    """Return the first half of a JPEG."""
    return data[: len(data) // 2]


class StreamServer:
    """Answers each request with the same pieces of a stream, at a pace; see :func:`mjpeg_server`.

    Attributes
    ----------
    pieces : sequence of bytes
        What is sent.
    sent : int
        Pieces sent so far, to whomever.
    paths : list of str
        What was asked for.
    """

    def __init__(self, pieces: Sequence[bytes], content_type: str, fps: float, end: str, login: str) -> None:
        self.pieces, self.content_type, self.period, self.end = pieces, content_type, 1 / fps, end
        self.login, self.port = login, free_port()
        self.sent, self.paths = 0, list[str]()
        self.closing = threading.Event()
        self._server: _Http | None = None

    @property
    def address(self) -> str:
        """Its address, without user and password."""
        return f"http://127.0.0.1:{self.port}/stream"

    def start(self) -> None:
        """Serve in a thread."""
        self.closing.clear()
        self._server = _Http(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def kill(self) -> None:
        """Close all connections, and take no more."""
        if self._server is not None:
            self.closing.set()
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
            self._server = None

    close = kill


class _Http(ThreadingHTTPServer):
    daemon_threads = False

    def __init__(self, stream: StreamServer) -> None:
        self.stream = stream
        super().__init__(("127.0.0.1", stream.port), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: _Http
    timeout = 30

    def do_GET(self) -> None:
        stream = self.server.stream
        stream.paths.append(self.path)
        if self.path.partition("?")[0] != "/stream":
            self.send_error(404)
            return
        wanted = "Basic " + base64.b64encode(stream.login.encode()).decode()
        if stream.login and self.headers.get("Authorization") != wanted:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="camera"')
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Type", stream.content_type)
        self.end_headers()
        with contextlib.suppress(OSError):
            self._send(stream)

    def _send(self, stream: StreamServer) -> None:
        while True:
            for piece in stream.pieces:
                self.wfile.write(piece)
                stream.sent += 1
                if stream.closing.wait(stream.period):
                    return
            if stream.end == "hang":
                stream.closing.wait()
            if stream.end != "repeat":
                return

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def stream_server(
    pieces: Sequence[bytes], content_type: str, *, fps: float = 50.0, end: str = "close", login: str = ""
) -> Iterator[StreamServer]:
    """Serve a stream; after its last piece the server closes the connection, hangs, or starts over (``"repeat"``)."""
    with contextlib.closing(StreamServer(pieces, content_type, fps, end, login)) as server:
        server.start()
        yield server


def part(data: bytes, *, length: bool = True) -> bytes:
    """Return a JPEG as a part of an MJPEG stream, with or without its length."""
    said = f"Content-Length: {len(data)}\r\n" if length else ""
    return f"--frame\r\nContent-Type: image/jpeg\r\n{said}\r\n".encode() + data + b"\r\n"


@contextmanager
def mjpeg_server(
    jpegs: Sequence[bytes], *, fps: float = 50.0, end: str = "close", login: str = "", length: bool = True
) -> Iterator[StreamServer]:
    """Serve JPEGs as cameras do; see :func:`stream_server`."""
    parts = [part(data, length=length) for data in jpegs]
    with stream_server(parts, "multipart/x-mixed-replace; boundary=frame", fps=fps, end=end, login=login) as server:
        yield server


def take(address: str, count: int, order: str = "BGR", **options: Any) -> list[Frame]:
    """Return the first frames of a source."""
    with contextlib.closing(iter(open_source(address, order, SourceOptions(**options)))) as frames:
        return list(itertools.islice(frames, count))


def drain(frames: Iterator[Frame]) -> tuple[list[Frame], str, float]:
    """Take frames until the source is lost; return them, why it is lost, and the seconds that it took."""
    taken, began = [], time.monotonic()
    try:
        for frame in frames:
            taken.append(frame)
    except SourceLost as error:
        return taken, str(error), time.monotonic() - began
    raise AssertionError("the source ended without being lost")


def loss(address: str, **options: Any) -> str:
    """Return why a source that gives no frame is lost."""
    taken, why, _ = drain(iter(open_source(address, "BGR", SourceOptions(**options))))
    assert not taken
    return why


def noise(*size: int, seed: int = 0) -> np.ndarray:
    """Return smooth noise in colour, which JPEG keeps well; `size` is height and width."""
    image = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    return cv2.GaussianBlur(image, (21, 21), 0)
