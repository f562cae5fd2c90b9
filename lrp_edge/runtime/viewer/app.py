"""The viewer's web application."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection
from importlib.resources import files
from typing import Any

from lrp_edge.errors import needs_extra
from lrp_edge.runtime.viewer.board import Board
from lrp_edge.runtime.viewer.guard import Guard
from lrp_edge.runtime.viewer.metrics import registry

with needs_extra("viewer"):
    from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
    from starlette.applications import Starlette
    from starlette.convertors import IntegerConvertor, register_url_convertor
    from starlette.requests import Request
    from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
    from starlette.routing import Route
    from starlette.types import ASGIApp, Receive, Scope, Send

#: Seconds between messages: where something has changed, and otherwise.
_INTERVAL, _HEARTBEAT = 1 / 15, 1.0
_MOST_STREAMS = 16
_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_PICTURES = {"jpg": "image/jpeg", "png": "image/png"}


def make_app(
    board: Board,
    feed: Feed,
    status: Callable[[], dict[str, Any]],
    *,
    token: str | None,
    hosts: Collection[str] | None,
    port: int,
) -> ASGIApp:
    """Return the application.

    Parameters
    ----------
    board : Board
        Holds what is shown.
    feed : Feed
        Its messages.
    status : callable
        Returns a snapshot of the line.
    token, hosts, port
        See :class:`~lrp_edge.runtime.viewer.guard.Guard`.
    """
    register_url_convertor("frame", _Index())
    answers = _Answers(board, feed, status)
    routes = [
        Route("/", answers.page),
        Route("/static/{name}", answers.static),
        Route("/events", answers.events),
        Route("/live/{index:frame}/{name}", answers.layer),
        Route("/defects", answers.defects),
        Route("/defects/{index:frame}/{name}", answers.defect_picture),
        Route("/healthz", answers.health),
        Route("/metrics", answers.metrics),
    ]
    return Guard(Starlette(routes=routes), token, hosts, port)


class _Index(IntegerConvertor):
    # int() refuses thousands of digits; no line comes to as many frames as this.
    regex = "[0-9]{1,18}"


class Feed:
    """Messages with the newest state, made once for all who listen.

    Parameters
    ----------
    board : Board
        Where the state is.
    """

    def __init__(self, board: Board) -> None:
        self._board, self._lock = board, asyncio.Lock()
        self._message, self._made, self._changes = b"", 0.0, -1
        self._ended = False
        self._streams: list[_Stream] = []

    def admit(self, stream: _Stream) -> bool:
        """Say whether one more may listen; where all places are taken, whoever has most of them gives one up.

        Taking from somebody with just one more would only exchange the two, again and again.
        """
        if len(self._streams) >= _MOST_STREAMS:
            places = Counter(each.client for each in self._streams)
            client, most = places.most_common(1)[0]
            if most < places[stream.client] + 2:
                return False
            oldest = next(each for each in self._streams if each.client == client)
            self._streams.remove(oldest)
            oldest.cut()
        self._streams.append(stream)
        return True

    def leave(self, stream: _Stream) -> None:
        """Free the place of one who has listened."""
        if stream in self._streams:
            self._streams.remove(stream)

    async def messages(self) -> AsyncIterator[bytes]:
        """Yield messages until the end; slow readers get fewer."""
        yield b"retry: 1000\n\n"
        sent = b""
        while not self._ended:
            message = await self._newest()
            if message is not sent:
                yield message
                sent = message
            await asyncio.sleep(_INTERVAL)
        yield await self._make()

    def end(self) -> None:
        """Let each stream end with a last message."""
        self._ended = True

    async def _newest(self) -> bytes:
        async with self._lock:
            changes = self._board.changes
            if time.monotonic() - self._made >= (_HEARTBEAT if changes == self._changes else _INTERVAL):
                self._message = await self._make()
                self._made, self._changes = time.monotonic(), changes
            return self._message

    async def _make(self) -> bytes:
        return b"data: " + await asyncio.to_thread(self._board.message) + b"\n\n"


class _Stream(StreamingResponse):
    media_type = "text/event-stream"

    def __init__(self, feed: Feed, request: Request) -> None:
        super().__init__(feed.messages())
        self._feed = feed
        self.client = request.client.host if request.client else ""
        #: Ends its connection, also one whose other end never reads.
        self.cut: Callable[[], None] = request.state.cut

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._feed.leave(self)


class _Answers:
    def __init__(self, board: Board, feed: Feed, status: Callable[[], dict[str, Any]]) -> None:
        self._board, self._feed, self._status = board, feed, status
        self._registry = registry(status)
        assets = files("lrp_edge.runtime.viewer") / "assets"
        self._assets = {asset.name: asset.read_bytes() for asset in assets.iterdir() if _ending(asset.name) in _TYPES}

    async def page(self, request: Request) -> Response:
        return self._asset("index.html")

    async def static(self, request: Request) -> Response:
        return self._asset(request.path_params["name"])

    async def events(self, request: Request) -> Response:
        stream = _Stream(self._feed, request)
        if not self._feed.admit(stream):
            return PlainTextResponse(f"{_MOST_STREAMS} pages are open, which is the limit; close one", 503)
        return stream

    async def layer(self, request: Request) -> Response:
        index, name = request.path_params["index"], request.path_params["name"]
        return _picture(self._board.layer(index, name), name)

    async def defects(self, request: Request) -> Response:
        return await asyncio.to_thread(JSONResponse, self._board.defects())

    async def defect_picture(self, request: Request) -> Response:
        index, name = request.path_params["index"], request.path_params["name"]
        return _picture(self._board.defect_picture(index, name), name)

    async def health(self, request: Request) -> Response:
        status = await asyncio.to_thread(self._status)
        if status["running"] and not status["stalled"]:
            return JSONResponse({"status": "ok"})
        what = "stalled" if status["running"] else "stopped"
        return JSONResponse({"status": what, "stalled": status["stalled"]}, 503)

    async def metrics(self, request: Request) -> Response:
        text = await asyncio.to_thread(generate_latest, self._registry)
        return Response(text, media_type=CONTENT_TYPE_LATEST)

    def _asset(self, name: str) -> Response:
        if name not in self._assets:
            return PlainTextResponse("not found", 404)
        return Response(self._assets[name], media_type=_TYPES[_ending(name)])


def _picture(data: bytes | None, name: str) -> Response:
    if data is None:
        return PlainTextResponse("not found", 404)
    return Response(data, media_type=_PICTURES[_ending(name)])


def _ending(name: str) -> str:
    return name.rpartition(".")[2]
