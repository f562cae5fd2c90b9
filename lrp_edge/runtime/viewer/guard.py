"""Access control, and what browsers may do with what they receive."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection
from urllib.parse import urlsplit

from lrp_edge.errors import needs_extra

with needs_extra("viewer"):
    from starlette.datastructures import MutableHeaders
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse, RedirectResponse, Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "object-src 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
_OPEN = "/healthz"


class Guard:
    """Lets nobody through without the token, nor under a name that is not this machine's, and adds headers.

    Parameters
    ----------
    app : ASGI application
        What is guarded.
    token : str, optional
        Asked for on all paths but ``/healthz``, as a bearer or a cookie; ``/?token=…`` sets the cookie.
    hosts : collection of str, optional
        Names under which it may be asked for, in lower case. Without them a page of elsewhere whose name is made to
        point here could read what is shown on this machine (DNS rebinding).
    port : int
        Its port: browsers give cookies to all ports of a host.
    """

    def __init__(self, app: ASGIApp, token: str | None, hosts: Collection[str] | None, port: int) -> None:
        self._app, self._hosts = app, hosts
        self._token = None if token is None else token.encode()
        self._cookie = f"lrp_edge_view_{port}"
        # Stealing the cookie does not reveal the token.
        self._pass = hmac.new(self._token or b"", b"lrp-edge viewer", hashlib.sha256).hexdigest()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        answer = self._refusal(Request(scope)) or self._app
        await answer(scope, receive, send_with_headers)

    def _refusal(self, request: Request) -> Response | None:
        """Return the response that replaces the requested one."""
        if self._hosts is not None and _host(request) not in self._hosts:
            return PlainTextResponse("this viewer is not known under that name", 400)
        if self._token is None or request.url.path == _OPEN:
            return None
        given = request.query_params.get("token")
        if request.url.path == "/" and given is not None and hmac.compare_digest(given.encode(), self._token):
            answer = RedirectResponse("./", 303)
            answer.set_cookie(self._cookie, self._pass, httponly=True, samesite="strict")
            return answer
        if self._has_cookie(request) or self._has_bearer(request):
            return None
        text = "a token is needed: open /?token=TOKEN once, or send the header Authorization: Bearer TOKEN"
        return PlainTextResponse(text, 401, {"WWW-Authenticate": "Bearer"})

    def _has_cookie(self, request: Request) -> bool:
        return hmac.compare_digest(request.cookies.get(self._cookie, "").encode(), self._pass.encode())

    def _has_bearer(self, request: Request) -> bool:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        assert self._token is not None
        # Headers arrive as Latin-1, regardless of their encoding.
        return scheme.lower() == "bearer" and hmac.compare_digest(given.strip(" \t").encode("latin-1"), self._token)


def _host(request: Request) -> str:
    try:
        return urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    except ValueError:
        return ""
