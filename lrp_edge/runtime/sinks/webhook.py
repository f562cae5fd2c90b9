"""Results posted to a web address."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import logging
import os
import re
import socket
import ssl
import threading
import uuid

from lrp_edge.errors import LrpEdgeError, first_line, needs_extra
from lrp_edge.options import accepted
from lrp_edge.runtime.backoff import Backoff
from lrp_edge.runtime.config import WebhookTable
from lrp_edge.runtime.overlay import draw_result
from lrp_edge.runtime.redaction import redact
from lrp_edge.runtime.result import Result
from lrp_edge.runtime.sinks.base import ChosenSink, Which
from lrp_edge.runtime.sources.uri import RAW_PASSWORD, has_raw_password

with needs_extra("webhook"):
    import httpx

with needs_extra("cpu"):
    import cv2

_FIRST_DELAY, _LONGEST_DELAY = 0.5, 5.0


class Webhook(ChosenSink):
    """Posts each result as JSON, and retries for a while if the receiver cannot take it.

    Tried again are connections that fail, answers that do not come in time, and the statuses 429 and 5xx. All requests
    of one result have the same ``Idempotency-Key``, so that a receiver which got it already can tell.

    Parameters
    ----------
    url : str
        ``http://`` or ``https://``; no message shows more of it than the host.
    order : {"BGR", "RGB", "GRAY"}
        Channel order of the frames.
    only : {"all", "defects"}
        Which results are sent.
    timeout : float
        Seconds for a whole request: connecting, sending, and waiting for the answer's status. A body that comes slowly
        is not waited for any longer either, but the status counts.
    retries : int
        Number of retries for one result.
    secret : str, optional
        Key of the signature ``X-Lrp-Edge-Signature: sha256=…``, the HMAC of the body.
    image : bool
        Send the overlay too, as a JPEG in base64 under ``image``.

    Raises
    ------
    LrpEdgeError
        If the address is not valid, or a figure is out of range.
    """

    name = "webhook"

    def __init__(
        self,
        url: str,
        order: str = "BGR",
        *,
        only: Which = "defects",
        timeout: float = 5.0,
        retries: int = 3,
        secret: str | None = None,
        image: bool = False,
    ) -> None:
        super().__init__(only)
        accepted(WebhookTable, timeout=timeout, retries=retries)
        self._url, self._login = _address(url)
        self._label = f"webhook {_shown(url)}"
        self._order, self._timeout, self._retries, self._image = order, timeout, retries, image
        self._secret = secret.encode() if secret else None
        self._run = uuid.uuid4().hex
        self._ended = threading.Event()
        # Of httpx's clients only this one can be told to give up as a whole: the other has a limit for each step.
        self._client: httpx.AsyncClient | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._retried = 0

    def open(self) -> None:
        # httpx logs whole addresses, and for many services the address is the secret.
        log = logging.getLogger("httpx")
        if log.level == logging.NOTSET:
            log.setLevel(logging.WARNING)
        self._loop = asyncio.new_event_loop()
        self._client = httpx.AsyncClient(auth=self._login, timeout=None)

    def write(self, result: Result) -> None:
        body = self._body(result)
        headers = {"Content-Type": "application/json", "Idempotency-Key": f"{self._run}-{result.frame.index}"}
        if self._secret:
            headers["X-Lrp-Edge-Signature"] = f"sha256={hmac.new(self._secret, body, hashlib.sha256).hexdigest()}"
        backoff = Backoff(_FIRST_DELAY, _LONGEST_DELAY)
        for number in range(1, self._retries + 2):
            trouble, again = self._post(body, headers)
            if not trouble:
                return
            if not again or number > self._retries or self._ended.wait(backoff.next()):
                requests = f"{number} request{'s' * (number > 1)}"
                raise LrpEdgeError(f"{self._label} {trouble}; frame {result.frame.index} is lost after {requests}")
            self._retried += 1

    def counts(self) -> dict[str, int]:
        return {"retries": self._retried}

    def close(self) -> None:
        if self._client is not None and self._loop is not None:
            self._loop.run_until_complete(self._client.aclose())
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
            self._loop.close()

    def interrupt(self) -> None:
        self._ended.set()

    def _body(self, result: Result) -> bytes:
        line = result.as_dict()
        if self._image and result.segmentation is not None:
            jpeg = cv2.imencode(".jpg", draw_result(result, self._order))[1].tobytes()
            line["image"] = base64.b64encode(jpeg).decode()
        return json.dumps(line, ensure_ascii=False).encode()

    def _post(self, body: bytes, headers: dict[str, str]) -> tuple[str, bool]:
        """Return what went wrong, empty if nothing, and whether another request may help."""
        assert self._loop is not None
        try:
            status = self._loop.run_until_complete(self._status(body, headers))
        except httpx.TransportError as error:
            return f"cannot be reached ({_cause(error)})", True
        if status is None:
            return f"did not answer in {self._timeout:g} s", True
        return ("" if 200 <= status < 300 else f"answered {status}"), status == 429 or status >= 500

    async def _status(self, body: bytes, headers: dict[str, str]) -> int | None:
        """Make one request; return the status of its answer, None where that does not come in time."""
        status = None

        async def ask() -> None:
            nonlocal status
            assert self._client is not None
            async with self._client.stream("POST", self._url, content=body, headers=headers) as answer:
                status = answer.status_code
                # A connection whose response was read can be reused; nobody needs the body, however long.
                async for _ in answer.aiter_raw():
                    pass

        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(ask(), self._timeout)
        return status


def _cause(error: BaseException) -> str:
    """Return why there is no connection, which stands below what the libraries make of it."""
    while isinstance(deeper := error.__cause__ or error.__context__, Exception):
        error = deeper
    # One for each address that a name stands for.
    error = getattr(error, "exceptions", (error,))[0]
    if isinstance(error, OSError) and not isinstance(error, (ssl.SSLError, socket.gaierror)) and error.errno:
        return os.strerror(error.errno)
    return first_line(error)


def _address(url: str) -> tuple[httpx.URL, tuple[str, str] | None]:
    """Return an address without user and password, and these."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        parsed = httpx.URL()
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raw = f"; {RAW_PASSWORD}" if has_raw_password(url) else ""
        raise LrpEdgeError(f"the webhook's address is not understood; expected http://… or https://…{raw}")
    login = (parsed.username, parsed.password) if parsed.username else None
    return parsed.copy_with(username=None, password=None), login


def _shown(url: str) -> str:
    """Return scheme, host and port: with many services the rest is the secret."""
    scheme, _, rest = redact(url).partition("://")
    return f"{scheme}://{re.split('[/?#]', rest.removeprefix('***@'), maxsplit=1)[0]}"
