"""What a web server gets from the webhook when it answers, refuses, and does not answer."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import math
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest

from lrp_edge.errors import LrpEdgeError
from lrp_edge.runtime.overlay import draw_result
from lrp_edge.runtime.sinks import webhook
from lrp_edge.runtime.sinks.webhook import Webhook
from tests.support.brokers import WebServer, web_server
from tests.support.programs import free_port
from tests.support.scripted import result, unread, until

pytestmark = pytest.mark.usefixtures("leaves_nothing_behind")

KEY = "hunter2-key"


@pytest.fixture(autouse=True)
def _short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "_FIRST_DELAY", 0.05)


@pytest.fixture
def opened() -> Iterator[Any]:
    sinks: list[Webhook] = []

    def make(url: str, **options: Any) -> Webhook:
        sinks.append(Webhook(url, **options))
        sinks[-1].open()
        return sinks[-1]

    yield make
    for sink in sinks:
        sink.close()


def bodies(server: WebServer) -> list[Any]:
    return [json.loads(post.body) for post in server.posts]


def test_each_result_arrives_as_its_line_over_one_connection(opened: Any) -> None:
    results = [result(index) for index in range(4)]
    results.append(unread(4, "cut short: ä"))
    with web_server() as server:
        sink = opened(f"{server.address}/hook?line=1", only="all")
        for each in results:
            sink.write(each)
        assert bodies(server) == [json.loads(json.dumps(each.as_dict())) for each in results]
        assert {post.path for post in server.posts} == {"/hook?line=1"}
        assert {post.headers["Content-Type"] for post in server.posts} == {"application/json"}
        assert not any("X-Lrp-Edge-Signature" in post.headers for post in server.posts)
        assert len(server.connections) == 1
        assert sink.counts() == {"retries": 0}


def test_the_signature_is_the_hmac_of_the_body(opened: Any) -> None:
    with web_server(503) as server:
        opened(server.address, secret=KEY).write(result(1))
        assert len(server.posts) == 2
        for post in server.posts:
            expected = hmac.new(KEY.encode(), post.body, hashlib.sha256).hexdigest()
            assert post.headers["X-Lrp-Edge-Signature"] == f"sha256={expected}"


def test_user_and_password_of_the_address_are_sent_and_not_shown(opened: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with web_server(200, 400) as server:
        sink = opened(server.address.replace("//", f"//line:{KEY}@") + "/hidden-path?token=hidden-token", only="all")
        sink.write(result(0))
        with pytest.raises(LrpEdgeError, match=rf"http://127.0.0.1:{server.server_port} answered 400") as refused:
            sink.write(result(1))
        assert server.posts[0].headers["Authorization"] == f"Basic {base64.b64encode(f'line:{KEY}'.encode()).decode()}"
        assert server.posts[0].path == "/hidden-path?token=hidden-token"
    for secret in (KEY, "hidden"):
        assert secret not in caplog.text + str(refused.value)


def test_the_overlay_comes_along_as_a_jpeg(opened: Any) -> None:
    found = result(1)
    with web_server() as server:
        opened(server.address, order="RGB", image=True).write(found)
        (body,) = bodies(server)
    image = cv2.imdecode(np.frombuffer(base64.b64decode(body.pop("image")), np.uint8), cv2.IMREAD_COLOR)
    drawn = draw_result(found, "RGB")
    assert image.shape == drawn.shape
    assert cv2.absdiff(image, drawn).mean() < 5
    assert body == json.loads(json.dumps(found.as_dict()))


def test_a_server_that_fails_twice_gets_it_the_third_time_with_the_same_key(opened: Any) -> None:
    with web_server(500, 429) as server:
        sink = opened(server.address, only="all")
        sink.write(result(0))
        sink.write(result(1))
        assert [body["frame"] for body in bodies(server)] == [0, 0, 0, 1]
        keys = [post.headers["Idempotency-Key"] for post in server.posts]
        assert len(set(keys[:3])) == 1
        assert len(set(keys)) == 2
        opened(server.address, only="all").write(result(0))
        assert server.posts[-1].headers["Idempotency-Key"] not in keys
        assert sink.counts() == {"retries": 2}


def test_a_server_that_keeps_failing_is_given_up_and_the_next_result_is_tried(opened: Any) -> None:
    with web_server(500, "drop", 503) as server:
        sink = opened(server.address, retries=2)
        with pytest.raises(LrpEdgeError, match="answered 503; frame 1 is lost after 3 requests"):
            sink.write(result(1))
        moments = [post.moment for post in server.posts]
        # Delays of 0.05 s and of 0.1 s, each shortened to no less than half.
        assert moments[1] - moments[0] >= 0.025
        assert moments[2] - moments[1] >= 0.05
        sink.write(result(3))
        assert [body["frame"] for body in bodies(server)] == [1, 1, 1, 3]


@pytest.mark.parametrize("status", [301, 400, 401, 404, 413])
def test_what_another_request_would_not_fix_is_not_retried(opened: Any, status: int) -> None:
    with web_server(status) as server:
        with pytest.raises(LrpEdgeError, match=f"answered {status}; frame 1 is lost after 1 request$"):
            opened(server.address).write(result(1))
        assert len(server.posts) == 1


def test_an_answer_whose_body_does_not_end_is_not_waited_for(opened: Any) -> None:
    with web_server("drip") as server:
        start = time.monotonic()
        sink = opened(server.address, timeout=0.5)
        sink.write(result(1))
        # It would end after 30 s.
        assert 0.5 <= time.monotonic() - start < 20
        sink.write(result(3))
        assert [body["frame"] for body in bodies(server)] == [1, 3]


@pytest.mark.parametrize("step", ["drip headers", "drip status", "hints", "hang"])
def test_an_answer_that_never_gets_to_its_status_has_one_deadline(opened: Any, step: str) -> None:
    with web_server(step, step) as server:
        sink, start = opened(server.address, timeout=0.4, retries=1), time.monotonic()
        with pytest.raises(LrpEdgeError, match=r"did not answer in 0\.4 s; frame 1 is lost after 2 requests"):
            sink.write(result(1))
        # Each would end after 30 s.
        assert 0.8 <= time.monotonic() - start < 20
        sink.write(result(3))
        assert [body["frame"] for body in bodies(server)] == [1, 1, 3]


def test_a_request_that_nobody_reads_has_the_same_deadline(opened: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        sink = opened(f"http://127.0.0.1:{listening.getsockname()[1]}", timeout=0.4, retries=0)
        large = result(1)
        large.reason = "x" * 50_000_000
        with pytest.raises(LrpEdgeError, match=r"did not answer in 0\.4 s; frame 1 is lost after 1 request$"):
            sink.write(large)


def test_a_server_that_is_not_there_is_said_to_be(opened: Any) -> None:
    with pytest.raises(LrpEdgeError, match=r"cannot be reached .*refused.*; frame 1 is lost after 3 requests"):
        opened(f"http://127.0.0.1:{free_port()}/", retries=2).write(result(1))


def test_an_interruption_ends_the_waiting_between_requests(monkeypatch: pytest.MonkeyPatch, opened: Any) -> None:
    monkeypatch.setattr(webhook, "_FIRST_DELAY", 60.0)
    monkeypatch.setattr(webhook, "_LONGEST_DELAY", 60.0)
    errors: list[LrpEdgeError] = []

    def write(sink: Webhook) -> None:
        try:
            sink.write(result(1))
        except LrpEdgeError as error:
            errors.append(error)

    with web_server(500) as server:
        sink = opened(server.address)
        writing = threading.Thread(target=write, args=(sink,))
        writing.start()
        until(lambda: server.posts)
        sink.interrupt()
        writing.join(20)
        assert not writing.is_alive()
    assert "answered 500; frame 1 is lost after 1 request" in str(errors[0])


@pytest.mark.parametrize(
    ("url", "options", "message"),
    [
        ("ftp://host/hidden", {}, "expected http://"),
        ("http://", {}, "expected http://"),
        ("hidden", {}, "expected http://"),
        ("http://host:port/hidden", {}, "expected http://"),
        ("http://user:a/hidden@host/x", {}, "expected http://.*must be written as %2F"),
        ("http://user:a#hidden@host/x", {}, "expected http://.*must be written as %2F"),
        ("http://host", {"timeout": 0}, "timeout is 0; expected more than 0, up to 3600"),
        ("http://host", {"timeout": math.nan}, "timeout is nan; expected a number"),
        ("http://host", {"retries": -1}, "retries is -1; expected 0 to 1000"),
        ("http://host", {"only": "some"}, "'some'; expected all or defects"),
    ],
)
def test_what_cannot_be_used_is_refused_at_once(url: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(LrpEdgeError, match=message) as refused:
        Webhook(url, **options)
    assert "hidden" not in str(refused.value)


def test_of_a_password_that_looks_like_a_port_nothing_is_shown() -> None:
    with web_server() as server:
        sink = Webhook(f"http://hidden:{server.server_port}/hidden@host:8080/hidden?hidden", timeout=1, retries=0)
        sink.open()
        with pytest.raises(LrpEdgeError, match=r"^webhook http://host:8080 ") as refused:
            sink.write(result(1))
        sink.close()
    assert "hidden" not in str(refused.value)
