"""Access control, and what browsers may do with what they receive."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Collection

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
_PAGE, _OPEN = "/", "/healthz"
_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~-]+)(:[0-9]{0,5})?")
#: What ``Sec-Fetch-Site`` says of requests of the page itself and of addresses that were typed.
_OWN = frozenset({"same-origin", "none"})


class Guard:
    """Lets nobody through without the token, from another site or under another machine's name, and adds headers.

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
        # The environment may hold bytes that are not UTF-8; a bearer sends them as they are.
        self._token = None if token is None else token.encode("utf-8", "surrogateescape")
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
        # The path that is served: request.url may be made of the Host header, which anybody may write.
        path, host = request.scope["path"], request.headers.get("host", "")
        if host and not _HOST.fullmatch(host):
            return PlainTextResponse("the header Host is not understood; expected HOST or HOST:PORT", 400)
        if self._hosts is not None and _name(host) not in self._hosts:
            return PlainTextResponse("this viewer is not known under that name", 400)
        if _is_foreign(request, host) and not (path == _PAGE and _is_link(request)):
            return PlainTextResponse("other sites may not ask; open the page itself", 403)
        if self._token is None or path == _OPEN:
            return None
        given = request.query_params.get("token")
        if path == _PAGE and given is not None and hmac.compare_digest(given.encode(), self._token):
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


def _name(host: str) -> str:
    match = _HOST.fullmatch(host)
    return match["name"].strip("[]").lower() if match else ""


def _is_foreign(request: Request, host: str) -> bool:
    """Say whether a page of another origin asks; only browsers say who asks."""
    origin = request.headers.get("origin")
    if origin is not None and origin.lower().partition("://")[2] != host.lower():
        return True
    return request.headers.get("sec-fetch-site", "none") not in _OWN


def _is_link(request: Request) -> bool:
    """Say whether somebody follows a link, rather than a page loading something into itself."""
    return request.headers.get("sec-fetch-mode") == "navigate" and request.headers.get("sec-fetch-dest") == "document"
