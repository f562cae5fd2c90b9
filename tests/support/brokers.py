"""What the network sinks talk to in the tests: a mosquitto broker, one who listens to it, and a small web server."""

from __future__ import annotations

import contextlib
import getpass
import json
import shutil
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from tests.support.programs import Program, free_port, listens


class Broker(Program):
    """A mosquitto on a port of its own, which it has again when it is started once more.

    It keeps sessions on disk from the moment that they change, so that a subscriber who is away misses nothing even
    when the broker is killed.
    """

    def __init__(self, folder: Path, options: Sequence[str] = ("allow_anonymous true",)) -> None:
        program = shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
        if not program:
            pytest.skip("mosquitto is not installed")
        folder.mkdir()
        self.port = free_port()
        settings = [
            f"listener {self.port} 127.0.0.1",
            f"user {getpass.getuser()}",
            "persistence true",
            f"persistence_location {folder}/",
            "autosave_interval 1",
            "autosave_on_changes true",
            "max_queued_messages 0",
            *options,
        ]
        (folder / "mosquitto.conf").write_text("\n".join(settings) + "\n")
        super().__init__([program, "-c", str(folder / "mosquitto.conf")], must_run=True)

    def _answers(self) -> bool:
        return listens(self.port)


@contextmanager
def broker(folder: Path, *options: str) -> Iterator[Broker]:
    """Start a broker with lines of its configuration file, and end it."""
    with contextlib.closing(Broker(folder, options or ("allow_anonymous true",))) as running:
        running.start()
        yield running


class Listener:
    """Keeps what a broker hands out, over all its interruptions.

    Attributes
    ----------
    messages : list of (topic, payload, retained)
        In the order of their coming.
    """

    def __init__(self, port: int, topic: str = "#") -> None:
        self.messages: list[tuple[str, bytes, bool]] = []
        self._ready = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2, "listener", clean_session=False)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: client.subscribe(topic, qos=1)
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_message = lambda client, data, message: self.messages.append(
            (message.topic, message.payload, message.retain)
        )
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert self._ready.wait(20)

    def close(self) -> None:
        """Go away."""
        self._client.disconnect()
        self._client.loop_stop()

    def payloads(self, topic: str) -> list[Any]:
        """Return what came on a topic, read as JSON."""
        return [json.loads(payload) for name, payload, _ in list(self.messages) if name == topic]

    def frames(self, topic: str = "lrp-edge/result") -> list[int]:
        """Return the ids of the frames that came, each once, in the order of their first coming."""
        return list(dict.fromkeys(line["frame"] for line in self.payloads(topic)))


@contextmanager
def listener(port: int, topic: str = "#") -> Iterator[Listener]:
    """Subscribe, and leave in the end."""
    with contextlib.closing(Listener(port, topic)) as listening:
        yield listening


@dataclass
class Post:
    """A request that the web server got."""

    path: str
    headers: dict[str, str]
    body: bytes
    moment: float = field(default_factory=time.monotonic)


class WebServer(ThreadingHTTPServer):
    """Answers each request with the next step of its script, and with 200 after the last one.

    A step is a status, ``"hang"`` (no answer), ``"drop"`` (the connection is closed), or an answer that does not end
    for half a minute: in its body (``"drip"``), its headers (``"drip headers"``), its first line (``"drip status"``),
    or because there is always another ``103 Early Hints`` before it (``"hints"``).

    Attributes
    ----------
    posts : list of Post
        What came.
    connections : list of socket
        Those that were made.
    """

    daemon_threads = False

    def __init__(self, script: Sequence[int | str] = ()) -> None:
        self.script, self.posts, self.connections = list(script), list[Post](), list[socket.socket]()
        self.closing = threading.Event()
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def address(self) -> str:
        """Its address, without a path."""
        return f"http://127.0.0.1:{self.server_port}"


#: How such an answer begins, and what comes over and over.
_DRIPS = {
    "drip": (b"HTTP/1.1 200 OK\r\n\r\n", b"."),
    "drip headers": (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
    "drip status": (b"HTTP/1.1 200 ", b"O"),
    "hints": (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
}


class _Handler(BaseHTTPRequestHandler):
    server: WebServer
    protocol_version = "HTTP/1.1"
    timeout = 30

    def setup(self) -> None:
        super().setup()
        self.server.connections.append(self.connection)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.posts.append(Post(self.path, dict(self.headers), body))
        step = self.server.script.pop(0) if self.server.script else 200
        if isinstance(step, int):
            self.send_response(step)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")
            return
        self.close_connection = True
        if step == "hang":
            self.server.closing.wait(30)
        elif step in _DRIPS:
            self._drip(*_DRIPS[step])

    def _drip(self, begin: bytes, more: bytes) -> None:
        end = time.monotonic() + 30
        with contextlib.suppress(OSError):
            self.wfile.write(begin)
            while not self.server.closing.wait(0.05) and time.monotonic() < end:
                self.wfile.write(more)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def web_server(*script: int | str) -> Iterator[WebServer]:
    """Serve in a thread, and end it and its connections."""
    with WebServer(script) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
            thread.join()
            for connection in server.connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
