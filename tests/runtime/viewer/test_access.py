"""Where the viewer listens, whom it lets in, and that nobody who looks holds up the line."""

from __future__ import annotations

import logging
import socket
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Any

import httpx
import psutil
import pytest

from lrp_edge.errors import LrpEdgeError
from lrp_edge.runtime.regions import find_regions
from lrp_edge.runtime.result import Result
from lrp_edge.runtime.viewer import Viewer, parse_address, server
from tests.support.programs import free_port
from tests.support.scripted import until
from tests.support.viewing import answers, client, drawn, events, port_of, seen

pytestmark = pytest.mark.usefixtures("leaves_nothing_behind")

TOKEN = "hunter2-tökén"
PATHS = ("/", "/static/viewer.js", "/events", "/live/0/frame.jpg", "/defects", "/defects/0/large.jpg", "/metrics")


# ------------------------------------------------------------------------------------------------------------ addresses


@pytest.mark.parametrize(
    ("text", "expected", "url"),
    [
        ("8080", ("127.0.0.1", 8080), "http://127.0.0.1:8080"),
        ("0.0.0.0:1", ("0.0.0.0", 1), "http://0.0.0.0:1"),
        ("line-3.local:65535", ("line-3.local", 65535), "http://line-3.local:65535"),
        ("[::1]:8080", ("::1", 8080), "http://[::1]:8080"),
    ],
)
def test_an_address_is_a_port_or_a_host_and_a_port(text: str, expected: tuple[str, int], url: str) -> None:
    assert parse_address(text) == expected
    assert Viewer(text, status=dict, order="BGR").url == url


@pytest.mark.parametrize(
    "text", ["", "eighty", "0", "65536", "80.5", ":8080", "::1:8080", "host:", "a b:80", "http://host:80", "-1"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(LrpEdgeError, match=r"^address .* is not understood; expected PORT or HOST:PORT"):
        parse_address(text)


def test_a_negative_number_of_thumbnails_is_refused() -> None:
    with pytest.raises(LrpEdgeError, match="thumbnails are -1; expected 0 or more"):
        Viewer("8080", status=dict, order="BGR", thumbnails=-1)


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]"])
def test_other_machines_may_look_with_a_token_only(host: str, opened: Any) -> None:
    address = f"{host}:{free_port()}"
    with pytest.raises(LrpEdgeError, match=r"^[^\n]*LRP_EDGE_VIEW_TOKEN[^\n]*--view-token-file[^\n]*$"):
        opened(address)
    viewer = opened(address, token=TOKEN)
    with client(viewer) as http:
        assert http.get("/healthz", headers={"Host": "line-3.local"}).status_code == 200


def test_a_port_that_is_taken_is_named(opened: Any) -> None:
    first = opened()
    port = port_of(first)
    with pytest.raises(LrpEdgeError, match=rf"^[^\n]*127.0.0.1, port {port}: the port is in use;"):
        opened(str(port))
    first.close()
    opened(str(port))


@pytest.mark.parametrize(
    ("host", "why"),
    [
        ("no-such-host.invalid", "this host is not known"),
        ("a..b", "this host is not known"),
        ("192.0.2.1", "does not have that address"),
    ],
)
def test_a_host_that_is_not_this_machine_is_named(host: str, why: str, opened: Any) -> None:
    with pytest.raises(LrpEdgeError, match=why):
        opened(f"{host}:{free_port()}", token=TOKEN)


# ------------------------------------------------------------------------------------------------------- who may look


def test_without_the_token_there_is_nothing_but_health(opened: Any) -> None:
    viewer = opened(token=TOKEN)
    viewer.write(drawn(0, defect=True))
    tries = [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer"},
        {"Authorization": f"Basic {TOKEN}".encode()},
        {"Cookie": "lrp_edge_view=; lrp_edge_view_1="},
        {"Cookie": f"lrp_edge_view_{port_of(viewer)}={TOKEN}".encode()},
    ]
    with client(viewer) as http:
        for headers in tries:
            for path in PATHS:
                answer = http.get(path, headers=headers)
                assert answer.status_code == 401, (path, headers)
                assert answer.headers["Content-Type"].startswith("text/plain")
        assert http.get("/", params={"token": "wrong"}).status_code == 401
        assert http.get("/defects", params={"token": TOKEN}).status_code == 401
        assert not http.cookies
        assert http.get("/healthz").status_code == 200


def test_the_token_lets_in_as_a_bearer_or_once_in_the_address(opened: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "lrp_edge")
    caplog.set_level(logging.DEBUG, "uvicorn")
    viewer = opened(token=TOKEN)
    viewer.write(drawn(0, defect=True))
    with client(viewer) as http:
        assert http.get("/defects", headers={"Authorization": f"Bearer {TOKEN}".encode()}).status_code == 200
        answer = http.get("/", params={"token": TOKEN})
        assert answer.status_code == 303
        assert http.base_url.join(answer.headers["Location"]).path == "/"
        assert "?" not in answer.headers["Location"]
        kept = answer.headers["Set-Cookie"].lower()
        assert "httponly" in kept
        assert "samesite=strict" in kept
        assert "hunter2" not in kept
        assert http.get("/").status_code == http.get("/defects/0/large.jpg").status_code == 200
        with events(http) as messages:
            assert next(messages)["defects"] == 1
    assert "hunter2" not in caplog.text + viewer.url


def test_a_token_may_end_with_what_latin_1_takes_for_a_blank(opened: Any) -> None:
    token = "voilà"
    with client(opened(token=token)) as http:
        for given in (token, f" {token}"):
            headers = {"Authorization": b"Bearer " + given.encode()}
            assert http.get("/defects", headers=headers).status_code == 200, given
        assert http.get("/defects", headers={"Authorization": b"Bearer voil\xc3"}).status_code == 401


def test_on_loopback_no_other_name_is_answered(opened: Any) -> None:
    viewer = opened()
    port = port_of(viewer)
    with client(viewer) as http:
        for host in (
            "evil.example",
            f"evil.example:{port}",
            "127.0.0.1.evil.example",
            "",
            "[",
            "localhost@evil.example:80",
        ):
            for path in (*PATHS, "/healthz"):
                assert http.get(path, headers={"Host": host}).status_code == 400, (host, path)
        for host in (f"127.0.0.1:{port}", "localhost", "LOCALHOST:9000", f"[::1]:{port}"):
            assert http.get("/healthz", headers={"Host": host}).status_code == 200, host


def test_browsers_are_told_to_take_nothing_from_elsewhere_and_keep_nothing(opened: Any) -> None:
    with client(opened()) as http:
        for path in ("/", "/static/style.css", "/static/none.js", "/live/0/frame.jpg", "/defects", "/healthz", "/none"):
            headers = http.get(path).headers
            policy = dict(each.strip().split(" ", 1) for each in headers["Content-Security-Policy"].split(";"))
            assert policy["default-src"] == "'self'"
            assert policy["frame-ancestors"] == "'none'"
            assert "unsafe" not in headers["Content-Security-Policy"]
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Cache-Control"] == "no-store"
        with http.stream("GET", "/events") as answer:
            assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/..%2fapp.py",
        "/static/%2e%2e/app.py",
        "/static//etc/passwd",
        "/static/__init__.py",
        "/live/0/../../app.py",
    ],
)
def test_no_other_file_is_given_away(path: str, opened: Any) -> None:
    # An HTTP client would normalise the path.
    with deaf(opened(), path) as asking:
        assert asking.recv(1000).startswith(b"HTTP/1.1 404 ")


# -------------------------------------------------------------------------------------------- clients that do no good


def deaf(viewer: Viewer, path: str = "/events", *headers: str, source: str = "127.0.0.1") -> socket.socket:
    """Return a connection that has asked and never reads, with as little room as the system gives."""
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    found.bind((source, 0))
    found.connect(("127.0.0.1", port_of(viewer)))
    found.sendall("\r\n".join([f"GET {path} HTTP/1.1", "Host: 127.0.0.1", *headers, "", ""]).encode())
    return found


def full(index: int) -> Result:
    """Return a result that makes a message of several kilobytes."""
    found = drawn(index, defect=False, size=(480, 640))
    found.regions = find_regions(drawn(1, defect=True).segmentation.mask) * 50
    return found


def test_clients_that_never_read_hold_up_nothing(opened: Any) -> None:
    viewer, process = opened(), psutil.Process()
    with ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(deaf(viewer))
        shown, slowest, memory = full(0), 0.0, []
        for index in range(900):
            frame = replace(shown.frame, index=index, image=shown.frame.image.copy())
            begin = time.perf_counter()
            viewer.write(replace(shown, frame=frame))
            slowest = max(slowest, time.perf_counter() - begin)
            time.sleep(0.005)
            if index in (300, 899):
                memory.append(process.memory_info().rss)
        assert slowest < 5
        # 600 frames are 530 MiB.
        assert memory[1] - memory[0] < 128 * 2**20
        with client(viewer) as http:
            assert http.get("/healthz").status_code == 200
        begin = time.monotonic()
        viewer.close()
        assert time.monotonic() - begin < 5
        assert not [thread for thread in threading.enumerate() if thread.name == "viewer"]
        port = port_of(viewer)
        assert not [each for each in process.net_connections() if each.laddr.port == port]


def test_little_waits_for_a_client_that_reads_late(opened: Any) -> None:
    viewer = opened()
    with deaf(viewer) as late:
        begin, shown = time.monotonic(), full(0)
        while time.monotonic() - begin < 5:
            viewer.write(shown)
            time.sleep(0.02)
        viewer.write(full(1))
        late.settimeout(30)
        read = b""
        while b'"id": 1,' not in read[-40_000:]:
            read += late.recv(2**16)
    size = len(read) / read.count(b"data: ")
    assert size > 5_000
    # Without a limit, five seconds are 75 messages.
    assert len(read) < 40 * size


def test_seventeen_pages_are_too_many_until_one_closes(opened: Any) -> None:
    viewer = opened()
    with client(viewer, limits=httpx.Limits(max_connections=None)) as http, ExitStack() as stack:
        first = stack.enter_context(ExitStack())
        pages = [stream.enter_context(events(http)) for stream in (first, *[stack] * 15)]
        assert all(next(each) for each in pages)
        with http.stream("GET", "/events") as answer:
            assert answer.status_code == 503
            assert "16 pages" in next(answer.iter_text())
        first.close()
        until(lambda: opens(http))


def opens(http: httpx.Client) -> bool:
    with http.stream("GET", "/events") as answer:
        return answer.status_code == 200


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="this system has no limit for unsent data")
def test_pages_that_take_nothing_any_more_make_room(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_PATIENCE", 1)
    viewer = opened()
    with client(viewer) as http, ExitStack() as stack:
        for _ in range(16):
            stack.enter_context(deaf(viewer))
        until(lambda: not opens(http))

        def makes_room() -> bool:
            viewer.write(full(0))
            return opens(http)

        until(makes_room, 60)


def test_connections_do_not_eat_up_the_handles_of_the_line(opened: Any) -> None:
    viewer, process = opened(), psutil.Process()
    port = port_of(viewer)
    with ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        until(lambda: len([each for each in process.net_connections() if each.laddr.port == port]) <= 129)
    with client(viewer) as http:
        until(lambda: answers(http))


def test_a_client_with_many_pages_does_not_lock_out_another(opened: Any) -> None:
    viewer = opened(f"0.0.0.0:{free_port()}", token=TOKEN)
    allowed = f"Authorization: Bearer {TOKEN}"
    with ExitStack() as stack:

        def listen(source: str, says: str) -> tuple[socket.socket, bytes]:
            found = stack.enter_context(deaf(viewer, "/events", allowed, f"X-Forwarded-For: {says}", source=source))
            found.settimeout(30)
            return found, found.recv(12)

        # What a client says of its address makes it no other one.
        first = [listen("127.0.0.1", f"10.0.0.{index}") for index in range(16)]
        assert {status for _, status in first} == {b"HTTP/1.1 200"}
        # All of 127.0.0.0/8 is this machine.
        others = [listen("127.0.0.2", "127.0.0.1") for _ in range(10)]
        assert [status for _, status in others] == [b"HTTP/1.1 200"] * 8 + [b"HTTP/1.1 503"] * 2
        assert [ended(each) for each, _ in first] == [True] * 8 + [False] * 8


def ended(stream: socket.socket) -> bool:
    """Say whether the other end has closed a connection, after all that is on its way; a message comes each second."""
    stream.settimeout(3)
    end = time.monotonic() + 3
    try:
        while time.monotonic() < end:
            if not stream.recv(2**16):
                return True
    except ConnectionResetError:
        return True
    return False


@pytest.mark.parametrize("sent", [b"", b"GET /healthz HTTP/1.1\r\nHost: 127"], ids=["nothing", "half a request"])
def test_those_who_never_ask_do_not_lock_out_others(sent: bytes, opened: Any) -> None:
    viewer = opened()
    with client(viewer) as http, events(http) as messages, ExitStack() as stack:
        for _ in range(130):
            idle = stack.enter_context(socket.create_connection(("127.0.0.1", port_of(viewer))))
            with suppress(OSError):
                idle.sendall(sent)
        with client(viewer) as other:
            assert answers(other)
        # Who listens is not idle.
        viewer.write(drawn(1, defect=False))
        assert seen(messages, 1)


def test_a_viewer_that_has_ended_says_so(
    opened: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fails(self: Any) -> None:
        raise OSError("too many files")

    monkeypatch.setattr(server.uvicorn.Server, "main_loop", fails)
    viewer = opened()
    until(lambda: "the viewer has ended: too many files" in caplog.text)
    until(lambda: not [thread for thread in threading.enumerate() if thread.name == "viewer"])
    with pytest.raises(LrpEdgeError, match="the viewer has stopped"):
        viewer.write(drawn(0, defect=False))


def test_a_viewer_that_does_not_end_is_told_of(
    opened: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gate = threading.Event()

    async def hangs(self: Any, sockets: Any = None) -> None:
        gate.wait()

    viewer = opened()
    with client(viewer) as http:
        until(lambda: answers(http))
    monkeypatch.setattr(server.uvicorn.Server, "shutdown", hangs)
    viewer.close()
    gate.set()
    assert "the viewer did not end in 4 s" in caplog.text
    until(lambda: not [thread for thread in threading.enumerate() if thread.name == "viewer"])
