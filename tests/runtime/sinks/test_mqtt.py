"""What an MQTT subscriber gets, with a real broker that comes and goes."""

from __future__ import annotations

import json
import logging
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lrp_edge.errors import LrpEdgeError
from lrp_edge.runtime.config import is_topic
from lrp_edge.runtime.result import Event, Result
from lrp_edge.runtime.sinks import mqtt
from lrp_edge.runtime.sinks.mqtt import Mqtt
from tests.support.brokers import Broker, Listener, broker, listener
from tests.support.programs import free_port
from tests.support.scripted import result, unread, until

pytestmark = [
    pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning"),
    pytest.mark.usefixtures("leaves_nothing_behind"),
]

SECRET = "hunter2-pass"


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Broker]:
    with broker(tmp_path / "broker") as started:
        yield started


def connections(port: int | None = None) -> list[Any]:
    """Return this process's sockets, or the connections that it has to a port."""
    found = psutil.Process().net_connections("all")
    if port is None:
        return found
    return [each for each in found if each.status == psutil.CONN_ESTABLISHED and each.raddr.port == port]


def opened(port: int, **options: Any) -> Mqtt:
    sink = Mqtt(f"mqtt://127.0.0.1:{port}", **options)
    sink.open()
    return sink


def as_json(found: Result | Event) -> Any:
    return json.loads(json.dumps(found.as_dict()))


def statuses(heard: Listener) -> list[bytes]:
    return [payload for topic, payload, _ in list(heard.messages) if topic.endswith("/status")]


def close_with_losses(sink: Mqtt, lost: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mqtt, "_FLUSH", 0.3)
        with pytest.raises(LrpEdgeError, match=f"{lost} results and events were not acknowledged and are lost"):
            sink.close()


def accounted(sink: Mqtt) -> int:
    counts = sink.counts()
    return counts["published"] + counts["outbox_waiting"] + counts["outbox_dropped"]


def test_each_frame_and_event_arrives_as_its_line(running: Broker) -> None:
    results = [result(index) for index in range(5)]
    results.append(unread(5, "cut short: ä"))
    event = Event("lost", "source", "camera lost", 12.25, 3)
    with listener(running.port) as heard:
        sink = opened(running.port)
        for each in results:
            sink.write(each)
        sink.event(event)
        sink.close()
        until(lambda: b"offline" in statuses(heard))
        assert heard.payloads("lrp-edge/result") == [as_json(each) for each in results]
        assert heard.payloads("lrp-edge/event") == [as_json(event)]
        verdicts = heard.payloads("lrp-edge/verdict")
        assert statuses(heard) == [b"online", b"offline"]
        assert {topic for topic, _, retained in heard.messages if retained} == set()
    assert [line.keys() for line in verdicts[:5]] == [{"schema", "frame", "time", "reject", "name", "reason"}] * 5
    assert verdicts[5] == {"schema": 1, "frame": 5, "time": "1970-01-01T00:00:01.500Z", "error": "cut short: ä"}
    assert sink.counts() == {"published": 7, "outbox_waiting": 0, "outbox_dropped": 0, "reconnects": 0}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(topic=st.text(min_size=1, max_size=40).filter(is_topic))
@example(topic="a" * 65_527)
@example(topic="ä" * 32_763 + "a")
@example(topic="$line/3")
def test_a_broker_takes_every_topic_that_is_not_refused(topic: str, running: Broker) -> None:
    with listener(running.port, f"{topic}/#") as heard:
        sink = opened(running.port, topic=topic)
        sink.write(result(0))
        until(lambda: heard.frames(f"{topic}/result") == [0])
        sink.close()


def test_only_the_status_is_kept_for_those_who_come_late(running: Broker) -> None:
    sink = opened(running.port, topic="plant/line 1")
    sink.write(result(0))
    until(lambda: sink.counts()["published"] == 1)
    with listener(running.port) as late:
        until(lambda: late.messages)
        sink.close()
        until(lambda: len(late.messages) == 2)
    assert late.messages == [("plant/line 1/status", b"online", True), ("plant/line 1/status", b"offline", False)]


def test_a_broker_that_comes_later_gets_all_from_the_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with broker(tmp_path / "broker") as later, listener(later.port) as heard:
        later.stop()
        sink = opened(later.port)
        _write(sink, range(30))
        until(lambda: "cannot be reached" in caplog.text)
        assert sink.counts()["outbox_waiting"] == 30
        later.start()
        until(lambda: len(heard.frames()) == 30)
        sink.close()
        assert heard.frames() == list(range(30))
    assert sink.counts() == {"published": 30, "outbox_waiting": 0, "outbox_dropped": 0, "reconnects": 0}


def test_an_outage_that_the_outbox_outlasts_loses_nothing(running: Broker) -> None:
    with listener(running.port) as heard:
        sink = opened(running.port)
        _write(sink, range(20))
        until(lambda: sink.counts()["published"] == 20 and len(heard.frames()) == 20)
        running.stop(signal.SIGKILL)
        end, index = time.monotonic() + 2, 20
        while time.monotonic() < end:
            sink.write(result(index))
            index += 1
            time.sleep(0.01)
        assert sink.counts()["published"] == 20
        running.start()
        _write(sink, range(index, index + 20))
        until(lambda: len(heard.frames()) == len(heard.frames("lrp-edge/verdict")) == index + 20, 60)
        sink.close()
        assert heard.frames() == heard.frames("lrp-edge/verdict") == list(range(index + 20))
    assert sink.counts() == {"published": index + 20, "outbox_waiting": 0, "outbox_dropped": 0, "reconnects": 1}


def test_the_order_is_kept_whenever_the_connection_is_lost_and_comes_back(running: Broker) -> None:
    with listener(running.port) as heard:
        sink = opened(running.port)
        sink.write(result(0))
        until(lambda: heard.frames() == [0] and sink.counts()["published"] == 1)
        running.freeze()
        _write(sink, range(1, 6))
        running.stop(signal.SIGKILL)
        until(lambda: not connections(running.port))
        _write(sink, range(6, 11))
        running.start()
        # Listener and sink are connected, but have no answer yet.
        running.freeze()
        until(lambda: len(connections(running.port)) == 2)
        _write(sink, range(11, 16))
        time.sleep(0.3)
        running.thaw()
        until(lambda: len(heard.frames()) == len(heard.frames("lrp-edge/verdict")) == 16)
        sink.close()
        assert heard.frames() == heard.frames("lrp-edge/verdict") == list(range(16))
    assert sink.counts() == {"published": 16, "outbox_waiting": 0, "outbox_dropped": 0, "reconnects": 1}


def _write(sink: Mqtt, frames: range) -> None:
    for index in frames:
        sink.write(result(index))


def test_a_broker_that_restarts_in_full_flow_gets_all_in_order(running: Broker) -> None:
    with listener(running.port) as heard:
        sink = opened(running.port, outbox=10_000)
        first = _write_over_a_restart(sink, running, 0)
        until(lambda: sink.counts()["published"] == first, 60)
        total = _write_over_a_restart(sink, running, first)
        until(lambda: len(heard.frames()) == total, 60)
        sink.close()
        assert heard.frames() == list(range(total))
    assert sink.counts() == {"published": total, "outbox_waiting": 0, "outbox_dropped": 0, "reconnects": 2}


def _write_over_a_restart(sink: Mqtt, running: Broker, index: int) -> int:
    def restart() -> None:
        time.sleep(0.3)
        running.stop()
        running.start()

    restarting = threading.Thread(target=restart)
    restarting.start()
    end = time.monotonic() + 2
    while restarting.is_alive() or time.monotonic() < end:
        sink.write(result(index))
        index += 1
        time.sleep(0.001)
    restarting.join()
    return index


def test_what_a_full_outbox_refuses_is_counted_and_the_rest_arrives(running: Broker) -> None:
    with listener(running.port) as heard:
        sink = opened(running.port, outbox=50)
        sink.write(result(0))
        until(lambda: sink.counts()["published"] == 1)
        running.stop()
        refused = []
        for index in range(1, 201):
            try:
                sink.write(result(index))
            except LrpEdgeError:
                refused.append(index)
        with pytest.raises(LrpEdgeError, match="has not acknowledged 50 results"):
            sink.event(Event("lost", "source", "away", 0.0))
        assert refused == list(range(51, 201))
        assert sink.counts() == {"published": 1, "outbox_waiting": 50, "outbox_dropped": 151, "reconnects": 0}
        running.start()
        until(lambda: sink.counts()["published"] == 51, 60)
        sink.write(result(201))
        sink.close()
        until(lambda: len(heard.frames()) == 52)
        assert heard.frames() == [*range(51), 201]
    assert sink.counts() == {"published": 52, "outbox_waiting": 0, "outbox_dropped": 151, "reconnects": 1}


def test_writing_never_waits_for_a_broker_that_does_not_answer(running: Broker) -> None:
    sink = opened(running.port, outbox=300)
    sink.write(result(0))
    until(lambda: sink.counts()["published"] == 1)
    running.freeze()
    start = time.monotonic()
    for index in range(1, 501):
        try:
            sink.write(result(index))
        except LrpEdgeError:
            assert accounted(sink) == index + 1
    # 500 answers of the broker would never come.
    assert time.monotonic() - start < 10
    assert sink.counts()["outbox_waiting"] == 300
    start = time.monotonic()
    close_with_losses(sink, 300)
    assert time.monotonic() - start < 15
    assert sink.counts() == {"published": 1, "outbox_waiting": 0, "outbox_dropped": 500, "reconnects": 0}


def test_what_waits_when_no_broker_ever_came_is_counted_at_the_end() -> None:
    before = connections()
    sink = opened(free_port())
    _write(sink, range(7))
    close_with_losses(sink, 7)
    assert connections() == before
    assert sink.counts() == {"published": 0, "outbox_waiting": 0, "outbox_dropped": 7, "reconnects": 0}


def test_the_last_will_says_that_a_killed_line_is_gone(running: Broker) -> None:
    program = (
        "import sys, time\n"
        "from lrp_edge.runtime.sinks.mqtt import Mqtt\n"
        "sink = Mqtt(sys.argv[1])\n"
        "sink.open()\n"
        "time.sleep(60)\n"
    )
    with listener(running.port) as heard:
        line = subprocess.Popen([sys.executable, "-c", program, f"mqtt://127.0.0.1:{running.port}"])
        try:
            until(lambda: statuses(heard) == [b"online"], 60)
        finally:
            line.kill()
            line.wait()
        until(lambda: statuses(heard) == [b"online", b"offline"])
    with listener(running.port, "lrp-edge/status") as late:
        until(lambda: late.messages)
    assert late.messages == [("lrp-edge/status", b"offline", True)]


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Broker]:
    passwords = tmp_path / "passwords"
    if not shutil.which("mosquitto_passwd"):
        pytest.skip("mosquitto_passwd is not installed")
    subprocess.run(["mosquitto_passwd", "-b", "-c", passwords, "line", SECRET], check=True, capture_output=True)
    with broker(tmp_path / "broker", "allow_anonymous false", f"password_file {passwords}") as started:
        yield started


@pytest.mark.parametrize("way", ["url", "file", "environment", "environment and user in the url"])
def test_user_and_password_come_from_where_they_are_given(
    guarded: Broker, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, file = f"mqtt://127.0.0.1:{guarded.port}", None
    if way == "url":
        url = url.replace("//", f"//line:{SECRET}@")
    elif way == "file":
        file = tmp_path / "credentials"
        file.write_text(f"line:{SECRET}\n")
    else:
        monkeypatch.setenv("LRP_EDGE_MQTT_PASSWORD", SECRET)
        monkeypatch.setenv("LRP_EDGE_MQTT_USER", "line" if way == "environment" else "another")
        url = url if way == "environment" else url.replace("//", "//line@")
    sink = Mqtt(url, credentials=file)
    sink.open()
    sink.write(result(0))
    until(lambda: sink.counts()["published"] == 1)
    sink.close()


def test_a_wrong_password_is_said_once_and_never_shown(guarded: Broker, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    sink = Mqtt(f"mqtt://line:not-{SECRET}@127.0.0.1:{guarded.port}")
    sink.open()
    sink.write(result(0))
    until(lambda: "Not authorized" in caplog.text)
    time.sleep(1.5)
    close_with_losses(sink, 1)
    assert caplog.text.count("Not authorized") == 1
    assert SECRET not in caplog.text
    assert sink.counts()["outbox_dropped"] == 1


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an authority, a certificate of the broker and one of the line, and another authority."""
    folder = tmp_path_factory.mktemp("certificates")
    for name in ("ca", "other"):
        _openssl(folder, "req", "-x509", *_key(name), "-subj", f"/CN={name}", "-days", "2", "-out", f"{name}.pem")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    for name in ("server", "line"):
        _openssl(folder, "req", "-new", *_key(name), "-subj", f"/CN={name}", "-out", f"{name}.csr")
        signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
        _openssl(folder, "x509", "-req", "-in", f"{name}.csr", *signed, "-out", f"{name}.pem")
    (folder / "both.pem").write_text((folder / "line.pem").read_text() + (folder / "line.key").read_text())
    return folder


def _key(name: str) -> tuple[str, ...]:
    return "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key"


def _openssl(folder: Path, *arguments: str) -> None:
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def secure(certificates: Path, tmp_path: Path) -> Iterator[Broker]:
    options = (
        "allow_anonymous true",
        f"cafile {certificates}/ca.pem",
        f"certfile {certificates}/server.pem",
        f"keyfile {certificates}/server.key",
        "require_certificate true",
    )
    with broker(tmp_path / "broker", *options) as started:
        yield started


def test_tls_with_a_certificate_of_its_own(secure: Broker, certificates: Path) -> None:
    sink = Mqtt(f"mqtts://127.0.0.1:{secure.port}", ca=certificates / "ca.pem", cert=certificates / "both.pem")
    sink.open()
    sink.write(result(0))
    until(lambda: sink.counts()["published"] == 1)
    sink.close()


def test_a_broker_of_another_authority_gets_nothing(
    secure: Broker, certificates: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sink = Mqtt(f"mqtts://127.0.0.1:{secure.port}", ca=certificates / "other.pem", cert=certificates / "both.pem")
    sink.open()
    sink.write(result(0))
    until(lambda: "CERTIFICATE_VERIFY_FAILED" in caplog.text)
    close_with_losses(sink, 1)
    assert sink.counts() == {"published": 0, "outbox_waiting": 0, "outbox_dropped": 1, "reconnects": 0}


@pytest.mark.parametrize(
    ("url", "options", "message"),
    [
        ("http://host", {}, "expected mqtt://HOST"),
        ("mqtt://", {}, "expected mqtt://HOST"),
        ("mqtt://host:port", {}, "expected mqtt://HOST"),
        (f"mqtt://line:{SECRET}@host/topic", {}, "expected mqtt://HOST"),
        (f"mqtt://line:a/{SECRET}@host", {}, r"broker mqtt://\*\*\*@host .*must be written as %2F"),
        (f"mqtt://line:a#{SECRET}@host", {}, r"broker mqtt://\*\*\*@host .*must be written as %2F"),
        (f"mqtt://line:1/{SECRET}@host", {}, r"broker mqtt://\*\*\*@host .*must be written as %2F"),
        ("mqtt://" + 70 * "a", {}, "expected mqtt://HOST"),
        *[
            ("mqtt://host", {"topic": topic}, "topic is .*; expected e.g. plant/line-1: up to 65527 bytes, without")
            for topic in (
                *("line/#", "line/+/3", "line/", "/line", "", "li\0ne", "li\nne", "line\ufffe", "\ud800", "$SYS/line"),
                *("a" * 65_528, "ä" * 32_764),
            )
        ],
        ("mqtt://host", {"client_id": "a" * 65_536}, "client_id is 'a+...; expected 1 to 65535 bytes"),
        ("mqtt://host", {"client_id": ""}, "client_id is ''; expected 1 to"),
        (f"mqtt://line:{'a' * 65_536}@host", {}, "user or password of the broker cannot be sent"),
        ("mqtt://li%00ne:a@host", {}, "user or password of the broker cannot be sent"),
        ("mqtt://host", {"outbox": 0}, "room for 0 results; expected 1 or more"),
        ("mqtt://host", {"only": "some"}, "'some'; expected all or defects"),
        ("mqtt://host", {"ca": Path("ca.pem")}, "expected mqtts://"),
        ("mqtts://host", {"ca": Path("nowhere.pem")}, "nowhere.pem: these certificates cannot be used"),
        ("mqtt://host", {"credentials": Path("nowhere")}, "credentials cannot be read"),
    ],
)
def test_what_cannot_be_used_is_refused_at_once(url: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(LrpEdgeError, match=message) as refused:
        Mqtt(url, **options)
    assert SECRET not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_key_with_a_password_is_refused_and_not_asked_for(certificates: Path, tmp_path: Path) -> None:
    key = tmp_path / "locked.pem"
    _openssl(certificates, "rsa", "-aes256", "-passout", "pass:x", "-in", "line.key", "-out", str(key))
    key.write_text((certificates / "line.pem").read_text() + key.read_text())
    with pytest.raises(LrpEdgeError, match=r"locked\.pem: these certificates cannot be used"):
        Mqtt("mqtts://host", cert=key)
