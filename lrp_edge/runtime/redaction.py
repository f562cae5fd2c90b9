"""What logs, errors, results and pages may show of an address: what is known to be harmless, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator

_HIDDEN = "***"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
#: ``user:password@`` without a scheme, or behind one that lacks a slash; the letter of a drive is no user.
_LOGIN = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]+:/?)?[^\s/@:]{2,}:.*@", re.DOTALL)
#: Names whose values are shown: of this project's own parameters, and of common cameras.
_HARMLESS = """
action audio cam camera cameraid ch chan channel channelid codec compression exposure format fps framerate gain height
mirror multicast packet-size pixel-format profile proto protocol quality region res resolution rotation size stream
streamtype substream subtype transport trigger unicast video videocodec width
"""
#: Names that are shown without their values. Any other name may be a piece of a secret that was not escaped.
_TELLING = """
access_token api_key apikey auth authorization credentials jwt key login loginpas loginuse pass passwd password pw pwd
secret session sid sig signature streamid token user userid username usr
"""
#: Properties of GStreamer's elements, and fields of its caps, whose values are shown.
_HARMLESS_PROPERTIES = """
async block buffer-mode buffer-size caps channels colorimetry connect-timeout device do-retransmission do-timestamp drop
drop-on-latency emit-signals encoding-name exposuretimerange flip-method gainrange host index io-mode is-live latency
leaky location max-buffers max-size-buffers max-size-bytes max-size-time media method mode name num-buffers pattern
payload port protocols rate retry sensor-id sensor-mode start-index stop-index sync timeout typefind uri wait-on-eos
"""
_TELLING_PROPERTIES = "cookies extra-headers passphrase proxy proxy-id proxy-pw streamid user-agent user-id user-pw"
_SHOWN, _NAMED = frozenset(_HARMLESS.split()), frozenset(_TELLING.split())
_PROPERTIES, _NAMED_PROPERTIES = _SHOWN.union(_HARMLESS_PROPERTIES.split()), frozenset(_TELLING_PROPERTIES.split())
_VALUE = re.compile(r"[A-Za-z0-9.:,+*/-]{0,32}")
_PROPERTY = re.compile(r"([A-Za-z][\w:-]*)\s*=\s*")
_QUOTED = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'", re.DOTALL)
_UNQUOTED = re.compile(r"(?:[^\s\\,]|\\.)+|\\", re.DOTALL)
_BETWEEN = re.compile(r"[\s,]+|!(?=\s|\Z)")
_NEXT_ELEMENT = re.compile(r"\s!\s|\Z")

#: Text, and whether it is hidden.
_Piece = tuple[str, bool]


def redact(address: str) -> str:
    """Return an address with ``***`` in place of whatever may be secret.

    Hidden is all up to the last ``@``, so that passwords may hold any character; in query, fragment, and a path from
    its first ``name=value`` on, all but the values of names that are known to be harmless; in a pipeline (``gst://``)
    the values of all properties but such ones. Any other path is shown as it is.
    """
    return "".join(_HIDDEN if hidden else text for text, hidden in _joined(_pieces(address)))


def redact_within(message: str, address: str) -> str:
    """Return what a library says, with ``***`` in place of what may be secret in the addresses that it repeats.

    Parameters
    ----------
    message : str
        Its words.
    address : str
        The address that it was given, of which it may repeat any piece.
    """
    message = message.replace(address, redact(address)) if address else message
    for text, hidden in _joined(_pieces(address)):
        words = {text, *re.split(r"[\s\"'=:@/?#&;,!\\]+", text)} if hidden else set()
        for word in sorted(words, key=len, reverse=True):
            # Shorter ones would tear apart the message's own words, and a secret is not.
            message = message.replace(word, _HIDDEN) if len(word) > 3 else message
    return re.sub(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s\"']*", lambda match: redact(match[0]), message)


def _joined(pieces: Iterator[_Piece]) -> Iterator[_Piece]:
    """Yield pieces with neighbours of which all are hidden as one."""
    before = ""
    for text, hidden in pieces:
        if hidden:
            before += text
        elif text:
            if before:
                yield before, True
            yield text, False
            before = ""
    if before:
        yield before, True


def _pieces(address: str) -> Iterator[_Piece]:
    scheme = _SCHEME.match(address)
    start = scheme.end() if scheme else 0
    yield address[:start], False
    if scheme and scheme[1].lower() == "gst":
        yield from _of_pipeline(address[start:])
    elif scheme and scheme[1].lower() != "file":
        login, at, rest = address[start:].rpartition("@")
        yield login, True
        if re.search("[/?#].*=", login, re.DOTALL):
            # The @ may be of a value in the path, and what follows it too.
            yield from _of_pairs(f"{at}{rest}", "/?#&;_,")
            return
        yield at, False
        path, *parameters = re.split(r"(?=[?#])", rest)
        yield from _of_path(path)
        for each in parameters:
            # Signs behind one another are of a password rather than of an address.
            yield each[0], not each[1:]
            yield from _of_pairs(each[1:], "&;")
    else:
        login = match[0][:-1] if (match := _LOGIN.match(address, start)) else ""
        yield login, True
        yield address[start + len(login) :], False


def _of_path(text: str) -> Iterator[_Piece]:
    pair = re.search(r"[A-Za-z0-9-]*=", text)
    start = pair.start() if pair else len(text)
    yield text[:start], False
    # As in user=…_password=…_channel=1_stream=0.sdp.
    yield from _of_pairs(text[start:], "/&;_,")


def _of_pairs(text: str, separators: str) -> Iterator[_Piece]:
    separator = ""
    for part in re.split(rf"([{separators}])", text):
        if len(part) == 1 and part in separators:
            separator = part
            continue
        name, sign, value = part.partition("=")
        known = bool(sign) and name.lower() in _SHOWN | _NAMED
        yield f"{separator}{name}{sign}", not known
        yield value, not (known and name.lower() in _SHOWN and _VALUE.fullmatch(value))


def _of_pipeline(text: str) -> Iterator[_Piece]:
    at, hiding = 0, False
    while at < len(text):
        if between := _BETWEEN.match(text, at):
            yield between[0], False
            # What follows a hidden value may still be of it, if nobody has put it in quotes.
            hiding, at = hiding and between[0] != "!", between.end()
            continue
        if name := _PROPERTY.match(text, at):
            shown = name[1].lower() in _PROPERTIES
            yield name[0], hiding and not shown and name[1].lower() not in _NAMED_PROPERTIES
            hiding, at = not shown, name.end()
        end = _end_of_value(text, at)
        yield from [(text[at:end], True)] if hiding else _of_value(text[at:end])
        at = end


def _end_of_value(text: str, at: int) -> int:
    """Return where a value ends: with its quotes, at a blank, or, of an address with blanks in it, after its login."""
    if match := _QUOTED.match(text, at):
        return match.end()
    if text[at : at + 1] in ("'", '"'):
        return len(text)
    end = match.end() if (match := _UNQUOTED.match(text, at)) else at
    if _SCHEME.match(text, at) and (element := _NEXT_ELEMENT.search(text, at)):
        login = text.rfind("@", at, element.start())
        return max(end, match.end() if login > 0 and (match := _UNQUOTED.match(text, login)) else 0)
    return end


def _of_value(text: str) -> Iterator[_Piece]:
    quote = text[0] if text[:1] in ("'", '"') else ""
    inner = text[len(quote) : len(text) - len(quote)]
    if quote and not _QUOTED.fullmatch(text):
        yield text, True
        return
    yield quote, False
    if _SCHEME.match(inner):
        yield from _pieces(inner)
    elif quote and ("=" in inner or "!" in inner):
        yield from _of_pipeline(inner)
    else:
        # A login without a scheme.
        yield inner, "@" in inner
    yield quote, False
