"""The sink that serves the page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lrp_edge.errors import LrpEdgeError
from lrp_edge.runtime.result import Event, Result
from lrp_edge.runtime.sinks.base import Sink
from lrp_edge.runtime.viewer.app import Feed, make_app
from lrp_edge.runtime.viewer.board import Board
from lrp_edge.runtime.viewer.server import Server, listen, parse_address


class Viewer(Sink):
    """Serves a page with the newest result, rates and losses, and the last defects.

    Images are encoded only while a page is open, except those of defects.

    Parameters
    ----------
    address : str
        ``PORT`` or ``HOST:PORT``; loopback unless a host is given.
    status : callable
        Returns a snapshot of the line: that of :meth:`~lrp_edge.runtime.pipeline.Pipeline.status` with ``model`` and
        ``classes``. Called from several threads.
    order : {"BGR", "RGB", "GRAY"}
        Channel order of the frames.
    token : str, optional
        What visitors must present; needed where other machines have access.
    thumbnails : int
        Defects that are kept.

    Raises
    ------
    LrpEdgeError
        If the address is not valid, or the number of thumbnails negative.
    """

    name, newest, depth = "viewer", True, 4

    def __init__(
        self,
        address: str,
        *,
        status: Callable[[], dict[str, Any]],
        order: str,
        token: str | None = None,
        thumbnails: int = 24,
    ) -> None:
        if thumbnails < 0:
            raise LrpEdgeError(f"thumbnails are {thumbnails}; expected 0 or more")
        self._host, self._port = parse_address(address)
        self._status, self._token = status, token or None
        self._board = Board(status, order, thumbnails)
        self._server: Server | None = None

    @property
    def url(self) -> str:
        """Where the page is, without the token."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    def open(self) -> None:
        """Listen, and serve in a thread.

        Raises
        ------
        LrpEdgeError
            If the port is not available, or other machines could connect without a token.
        """
        listener, local = listen(self._host, self._port, secured=self._token is not None)
        feed = Feed(self._board)
        hosts = frozenset({"localhost", "127.0.0.1", "::1", self._host.lower()}) if local else None
        app = make_app(self._board, feed, self._status, token=self._token, hosts=hosts, port=self._port)
        self._server = Server(app, listener, feed.end)
        self._server.start()

    def write(self, result: Result) -> None:
        if self._server is not None and not self._server.running:
            raise LrpEdgeError("the viewer has stopped; restart the line")
        self._board.put(result)

    def event(self, event: Event) -> None:
        self._board.note(event)

    def counts(self) -> dict[str, int]:
        return {"pictures_skipped": self._board.skipped}

    def close(self) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None
