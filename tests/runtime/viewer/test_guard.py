"""Whatever somebody writes into a request, it opens nothing that is not theirs to see."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrp_edge.runtime.viewer import Viewer
from tests.support.programs import free_port
from tests.support.viewing import STATUS, drawn, port_of

TOKEN = "hunter2"
GUARDED = ("/", "/static/viewer.js", "/events", "/live/0/frame.jpg", "/defects", "/defects/0/large.jpg", "/metrics")
#: What nobody may see without the token: a class, a file of the model, a counter, the page itself.
SECRETS = (b"line.onnx", b"lrp_edge_frames", b'"odd"', b"<html", b"JFIF", b"data:", b"getElementById")


@pytest.fixture(scope="module", params=["127.0.0.1", "0.0.0.0"])
def guarded(request: pytest.FixtureRequest) -> Iterator[Viewer]:
    viewer = Viewer(f"{request.param}:{free_port()}", status=lambda: STATUS, order="BGR", token=TOKEN)
    viewer.open()
    viewer.write(drawn(0, defect=True))
    yield viewer
    viewer.close()


def ask(viewer: Viewer, target: str, *headers: str, host: str | None = "127.0.0.1") -> tuple[int, bytes]:
    """Return status and all bytes of the answer to what no HTTP client would send."""
    lines = [f"GET {target} HTTP/1.1", *([] if host is None else [f"Host: {host}"]), *headers, "Connection: close"]
    with socket.create_connection(("127.0.0.1", port_of(viewer)), timeout=30) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape"))
        answer = b""
        # A stream never ends by itself, and has begun by then.
        while len(answer) < 2**16 and (received := connection.recv(2**14)):
            answer += received
            if b"text/event-stream" in answer:
                break
    return int(answer[9:12]), answer


hosts = st.sampled_from(["localhost", "127.0.0.1", "[::1]", "line-3.local", "evil.example", "healthz"])
joints = st.sampled_from(
    ["", "/healthz?", "/healthz#", "/healthz?x=", ":8080/healthz?", "@", "\\healthz?", ":8080", ","]
)
# What a header may hold at all; others are refused by the server's parser.
visible = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=20)
steps = st.sampled_from(
    ["healthz", "..", ".", "", "defects", "metrics", "static", "%2e%2e", ";", "%2f", "%00", "%0a", "?"]
)
paths = st.sampled_from(GUARDED) | st.lists(steps | visible.map(quote), min_size=1, max_size=5).map("/".join)


@settings(max_examples=150, deadline=None)
@given(host=st.builds("".join, st.tuples(hosts, joints, visible)) | visible, path=paths)
def test_no_host_and_no_path_opens_anything_without_the_token(guarded: Viewer, host: str, path: str) -> None:
    status, answer = ask(guarded, "/" + path.lstrip("/"), host=host)
    healthy = status == 200 and b'{"status":"ok"}' in answer
    assert healthy or status in (400, 401, 403), (host, path, answer)
    assert not any(secret in answer for secret in SECRETS), (host, path)


@pytest.mark.parametrize(
    "host", ["localhost/healthz?", "localhost/healthz#", "x/healthz?", "localhost:8080/healthz?x="]
)
@pytest.mark.parametrize("path", GUARDED)
def test_the_path_that_is_served_is_the_path_that_is_judged(guarded: Viewer, host: str, path: str) -> None:
    assert ask(guarded, path, host=host)[0] == 400


@pytest.mark.parametrize(
    "host",
    [
        "a b",
        "a@localhost",
        "localhost:port",
        "localhost:123456",
        "local\u00e9",
        "[::1",
        "::1",
        "a/b",
        "a?b",
        "a#b",
        "a,b",
        "a\tb",
    ],
)
def test_what_is_no_host_is_refused_even_for_health(guarded: Viewer, host: str) -> None:
    assert ask(guarded, "/healthz", f"Authorization: Bearer {TOKEN}", host=host)[0] == 400


@settings(max_examples=60, deadline=None)
@given(
    site=st.sampled_from(["cross-site", "same-site", "Cross-Site", ""]) | visible.filter(str.strip),
    mode=st.sampled_from(["cors", "no-cors", "navigate", "websocket"]),
    dest=st.sampled_from(["empty", "image", "iframe", "document", "script", "object"]),
    path=st.sampled_from(GUARDED),
)
def test_no_other_site_may_ask(guarded: Viewer, site: str, mode: str, dest: str, path: str) -> None:
    if site in ("same-origin", "none"):
        return
    words = [f"Sec-Fetch-Site: {site}", f"Sec-Fetch-Mode: {mode}", f"Sec-Fetch-Dest: {dest}"]
    is_link = path == "/" and (mode, dest) == ("navigate", "document")
    status, _ = ask(guarded, path, *words, f"Authorization: Bearer {TOKEN}")
    assert status == (200 if is_link else 403)


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:1", "http://127.0.0.1.evil.example", ""]
)
def test_no_other_origin_may_ask(guarded: Viewer, origin: str) -> None:
    allowed = f"Authorization: Bearer {TOKEN}"
    assert ask(guarded, "/events", allowed, f"Origin: {origin}")[0] == 403
    assert ask(guarded, "/defects", allowed, "Origin: http://127.0.0.1")[0] == 200
    assert ask(guarded, "/defects", allowed, "Origin: https://LOCALHOST:80", host="localhost:80")[0] == 200


@settings(max_examples=60, deadline=None)
@given(index=st.integers(0, 10**30).map(str) | st.integers(1, 6000).map(lambda digits: "9" * digits))
def test_an_index_that_nothing_has_is_not_found(guarded: Viewer, index: str) -> None:
    for path in (f"/live/{index}/frame.jpg", f"/defects/{index}/large.jpg"):
        if index != "0":
            assert ask(guarded, path, f"Authorization: Bearer {TOKEN}")[0] == 404
