"""The socket of the viewer, and the thread that serves it."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import re
import socket
import threading
from collections.abc import Callable

from lrp_edge.errors import LrpEdgeError, needs_extra

with needs_extra("viewer"):
    import uvicorn
    from starlette.types import ASGIApp
    from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

_LOOPBACK = "127.0.0.1"
_ADDRESS = re.compile(r"(?:(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+):)?(?P<port>[0-9]{1,5})")
# File handles are the line's: a camera that comes back needs one.
_MOST_CONNECTIONS = 128
#: Seconds that the system keeps trying to send to somebody who does not take it.
_PATIENCE = 20
#: Bytes that the system holds for a connection besides what is in transit.
_UNSENT = 2**15
#: Seconds after which a connection is closed on which nobody asks for anything.
_IDLE = 20.0
#: Seconds that requests under way get at the end.
_GRACE = 1

_log = logging.getLogger("lrp_edge.viewer")


def parse_address(text: str) -> tuple[str, int]:
    """Return host and port of ``PORT``, ``HOST:PORT`` or ``[IPV6]:PORT``; without a host it is loopback.

    Raises
    ------
    LrpEdgeError
        If it is not one of these.
    """
    match = _ADDRESS.fullmatch(text.strip())
    if not match or not 0 < int(match["port"]) < 2**16:
        raise LrpEdgeError(f"address {text!r} is not understood; expected PORT or HOST:PORT, e.g. 8080 or [::1]:8080")
    return (match["host"] or _LOOPBACK).strip("[]"), int(match["port"])


def listen(host: str, port: int, *, secured: bool) -> tuple[socket.socket, bool]:
    """Return a socket that listens, and whether only this machine can reach it.

    Raises
    ------
    LrpEdgeError
        If host or port is not available, or others could reach it though it is not secured.
    """
    try:
        family, _, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        local = ipaddress.ip_address(str(place[0]).partition("%")[0]).is_loopback
        if not local and not secured:
            raise LrpEdgeError(
                f"the viewer at {host} can be seen from other machines; set a token in LRP_EDGE_VIEW_TOKEN or with "
                "--view-token-file, or leave the host out"
            )
        listener = socket.create_server(place, family=family, backlog=_MOST_CONNECTIONS)
    # A name with an empty part is not Unicode that a name server accepts.
    except (OSError, UnicodeError) as error:
        raise LrpEdgeError(f"the viewer cannot listen on {host}, port {port}: {_trouble(error, port)}") from error
    # Connections take them over. Otherwise a page whose machine has gone to sleep counts for a quarter of an hour, and
    # megabytes of old messages wait for slow readers.
    for option, value in (("TCP_USER_TIMEOUT", _PATIENCE * 1000), ("TCP_NOTSENT_LOWAT", _UNSENT)):
        if hasattr(socket, option):
            listener.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    return listener, local


def _trouble(error: OSError | UnicodeError, port: int) -> str:
    if isinstance(error, socket.gaierror | UnicodeError):
        return "this host is not known; give an address of this machine"
    if error.errno == errno.EADDRINUSE:
        return f"the port is in use; choose a port other than {port}, or stop the program that is listening there"
    if error.errno == errno.EACCES:
        return "the system does not permit it; choose a port of 1024 or more"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine does not have that address; give one that it has, or 0.0.0.0 for all"
    return error.strerror or str(error)


class Server:
    """Serves an application in a thread.

    Parameters
    ----------
    app : ASGI application
        What is served.
    listener : socket
        Where; closed at the end.
    end : callable
        Called in the server's thread at the end, so that streams come to theirs.
    """

    def __init__(self, app: ASGIApp, listener: socket.socket, end: Callable[[], None]) -> None:
        config = uvicorn.Config(
            app,
            http=_Protocol,
            loop="asyncio",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level=logging.ERROR,
            # It would show tokens.
            access_log=False,
            server_header=False,
            # Who asks would be whoever they say they are.
            proxy_headers=False,
            timeout_graceful_shutdown=_GRACE,
        )
        self._listener, self._server = listener, _Uvicorn(config, end)
        self._thread = threading.Thread(target=self._run, name="viewer", daemon=True)

    def start(self) -> None:
        """Serve from now on."""
        self._thread.start()

    def stop(self) -> None:
        """End all connections, whether somebody reads from them or not."""
        self._server.should_exit = True
        self._thread.join(4 * _GRACE)
        if self.running:
            _log.warning("the viewer did not end in %d s", 4 * _GRACE)

    @property
    def running(self) -> bool:
        """Whether anybody is answered."""
        return self._thread.is_alive()

    def _run(self) -> None:
        try:
            asyncio.run(self._server.serve([self._listener]))
        except OSError as error:
            _log.error("the viewer has ended: %s", error)
        finally:
            self._listener.close()


class _Uvicorn(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, end: Callable[[], None]) -> None:
        super().__init__(config)
        self._end = end

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        self._end()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _GRACE
        while self.server_state.tasks and loop.time() < deadline:
            await asyncio.sleep(0.02)
        # Closing would wait until all is sent, which never happens with a client that never reads.
        for connection in tuple(self.server_state.connections):
            connection.transport.abort()
        await super().shutdown(sockets)


class _Protocol(H11Protocol):
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # Messages should wait where they can still be replaced by newer ones.
        transport.set_write_buffer_limits(0)
        self.app_state = {**self.app_state, "cut": transport.abort}
        self._since = self.loop.time()
        if len(self.connections) > _MOST_CONNECTIONS:
            self._make_room()
        self._timer = self.loop.call_later(_IDLE, self._end_if_idle, True, None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        super().connection_lost(exc)

    @property
    def _idle(self) -> bool:
        """Whether nobody waits for an answer on it."""
        # An answer is complete as soon as it is handed to the transport, which may send it for long.
        sent = self.transport.get_write_buffer_size() == 0
        return self.cycle is None or (self.cycle.response_complete and sent)

    def _make_room(self) -> None:
        """End the oldest of the idle connections, maybe this one: many that never ask would lock out all others."""
        idle = (each for each in self.connections if isinstance(each, _Protocol) and each._idle)
        oldest = min(idle, key=lambda each: each._since)
        oldest.transport.abort()
        # Otherwise the next to come would find it here, before the loop has come to its end.
        self.connections.discard(oldest)

    def _end_if_idle(self, was_idle: bool, before: RequestResponseCycle | None) -> None:
        """Close it if nothing has happened since the last check; their handles are the line's."""
        idle = self._idle
        if idle and was_idle and self.cycle is before:
            self.transport.abort()
        else:
            self._timer = self.loop.call_later(_IDLE, self._end_if_idle, idle, self.cycle)
