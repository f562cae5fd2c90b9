"""Where a source is: its scheme, place and parameters, and the secrets that no log may show."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlsplit, urlunsplit

from lrp_edge.errors import LrpEdgeError, did_you_mean, nearest
from lrp_edge.runtime.redaction import redact

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://(.*)", re.DOTALL)
_AUTHORITY = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://(?P<login>[^/?#]*@)?(?P<host>[^/?#@]*)(?P<behind>.*)", re.DOTALL)
#: What to do about a password that ends too early.
RAW_PASSWORD = "/ ? # @ and blanks of its password must be written as %2F %3F %23 %40 %20"
_HOST = re.compile(r"(\[[^\]]*\]|[^:]*)(:\d+)?")


@dataclass(frozen=True)
class Address:
    """A source's address.

    Attributes
    ----------
    scheme : str
        In lower case; empty for a path.
    place : str
        What is behind ``://``, without parameters.
    parameters : dict of str to str
        What is behind ``?``.
    text : str
        All of it, as given, including any secrets.
    """

    scheme: str
    place: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    text: str = ""

    @property
    def name(self) -> str:
        """The address as logs may show it."""
        return redact(self.text)

    @property
    def has_password(self) -> bool:
        """Whether the address contains a password."""
        return self.scheme not in ("", "gst") and bool(urlsplit(self.text).password)


def parse(text: str, schemes: Collection[str]) -> Address:
    """Split an address; ``0`` is the first camera of the system.

    Parameters
    ----------
    text : str
        A path, or ``SCHEME://PLACE?PARAMETER=VALUE``.
    schemes : collection of str
        Those that are known.

    Raises
    ------
    LrpEdgeError
        If the scheme is not known (the nearest one is suggested), the host's brackets are not in pairs, or the password
        has characters that end it.
    """
    if text.isdecimal():
        return Address("v4l2", f"/dev/video{text}", {}, f"v4l2:///dev/video{text}")
    match = _SCHEME.fullmatch(text)
    if not match:
        return Address("", text, {}, text)
    scheme, rest = match[1].lower(), match[2]
    if scheme not in schemes:
        near = nearest(scheme, schemes)
        hint = f"did you mean {near}://?" if near else f"expected a path or one of {', '.join(sorted(schemes))}"
        raise LrpEdgeError(f"source {redact(text)}: scheme {scheme}:// is not known; {hint}")
    if scheme == "gst":
        return Address(scheme, rest, {}, text)
    if scheme != "file" and has_raw_password(text, surely=True):
        raise LrpEdgeError(f"source {redact(text)} is not an address: {RAW_PASSWORD}, or given with --credentials FILE")
    try:
        urlsplit(text)
    except ValueError as error:
        raise LrpEdgeError(f"source {redact(text)} is not an address: {error}") from error
    place, _, query = rest.partition("?")
    return Address(scheme, place, dict(parse_qsl(query, keep_blank_values=True)), text)


def has_raw_password(text: str, *, surely: bool = False) -> bool:
    """Say whether an address has a password with characters that end it, or that no address has.

    Of a password ``12/3`` the beginning looks like a port, and the end like a path with an @: maybe, but not surely.
    """
    match = _AUTHORITY.match(text)
    if match is None or re.search(r"\s", match["login"] or ""):
        return match is not None
    is_address = _HOST.fullmatch(match["host"]) and "@" not in match["behind"].partition("#")[2]
    return "@" in match["behind"] and not (surely and is_address)


def check_parameters(address: Address, known: Collection[str]) -> None:
    """Refuse parameters that a source does not have.

    Raises
    ------
    LrpEdgeError
        If there is one; the nearest is suggested.
    """
    for name in address.parameters:
        if name not in known:
            hint = did_you_mean(name, known) or f"expected one of {', '.join(known)}"
            raise LrpEdgeError(f"source {address.name}: parameter {name!r} is not known; {hint}")


def with_credentials(address: Address, file: Path | None) -> str:
    """Return the address with user and password from a file or the environment, to open it with.

    Raises
    ------
    LrpEdgeError
        If the file cannot be read or has no ``user:password``.
    """
    parts = urlsplit(address.text)
    found = _credentials(file)
    if found is None or parts.password:
        return address.text
    user, password = (quote(part, safe="") for part in found)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{user}:{password}@{host}"))


def credentials(address: Address, file: Path | None) -> tuple[str, str] | None:
    """Return user and password of an address, else of a file or the environment; errors as for the address."""
    parts = urlsplit(address.text)
    if parts.password:
        return unquote(parts.username or ""), unquote(parts.password)
    return _credentials(file)


def _credentials(file: Path | None) -> tuple[str, str] | None:
    if file is None:
        user = os.environ.get("LRP_EDGE_SOURCE_USER")
        return (user, os.environ.get("LRP_EDGE_SOURCE_PASSWORD", "")) if user else None
    try:
        line = (file.read_text(encoding="utf-8").splitlines() or [""])[0]
    except (OSError, UnicodeDecodeError) as error:
        raise LrpEdgeError(f"{file}: credentials cannot be read ({error}); expected a line user:password") from error
    user, colon, password = line.strip().partition(":")
    if not colon or not user:
        raise LrpEdgeError(f"{file}: its first line is not user:password; put user and password there")
    return user, password


def number(address: Address, name: str) -> float | None:
    """Return a parameter that is a number of 0 or more; None where it is not given.

    Raises
    ------
    LrpEdgeError
        If it is not such a number.
    """
    text = address.parameters.get(name)
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise LrpEdgeError(f"source {address.name}: {name} is {text!r}; expected a number of 0 or more")
    return value
