"""A file may be named by any bytes but NUL and a slash: its name goes out as text that everybody can read."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrp_edge.errors import as_text
from lrp_edge.runtime.result import Event, Frame, Result
from lrp_edge.runtime.sinks.mqtt import Mqtt
from lrp_edge.runtime.sinks.results import Results
from lrp_edge.runtime.sinks.webhook import Webhook
from lrp_edge.runtime.viewer import Viewer
from tests.support.brokers import broker, listener, web_server
from tests.support.programs import free_port
from tests.support.scripted import lines, result, until
from tests.support.viewing import STATUS, client, drawn, events, seen

#: As Python has names of files: what is not UTF-8 are halves of surrogate pairs.
names = st.binary(min_size=1, max_size=12).filter(lambda name: not {0, 47} & set(name)).map(os.fsdecode)
LATIN = os.fsdecode("Prüfung\n\x1b.png".encode("latin-1"))


@given(name=names)
def test_a_name_that_is_utf_8_stays_and_any_other_can_be_encoded(name: str) -> None:
    shown = as_text(name)
    shown.encode()
    if all(not "\ud800" <= sign <= "\udfff" for sign in name):
        assert shown == name


@settings(max_examples=40, deadline=None)
@given(name=names, error=names)
def test_results_and_events_are_lines_of_json(tmp_path_factory: pytest.TempPathFactory, name: str, error: str) -> None:
    folder = tmp_path_factory.mktemp("results")
    sink = Results(folder)
    sink.open()
    found = result(0, name)
    found.files["mask"] = name
    sink.write(found)
    sink.write(Result(Frame(1, name, None, 1.5, 2.5, error), error=error))
    sink.event(Event("lost", "source", f"{name} is lost", 1.5))
    sink.close()
    first, second = lines(folder)
    assert (first["source"], first["mask"], second["error"]) == (as_text(name), as_text(name), as_text(error))
    (event,) = map(json.loads, (folder / "events.jsonl").read_bytes().splitlines())
    assert event["message"] == f"{as_text(name)} is lost"


def test_a_web_service_gets_the_name() -> None:
    with web_server() as server:
        sink = Webhook(server.address, only="all")
        sink.open()
        sink.write(result(0, LATIN))
        sink.close()
        assert json.loads(server.posts[0].body)["source"] == as_text(LATIN)


def test_a_subscriber_gets_the_name(tmp_path: Path) -> None:
    with broker(tmp_path / "broker") as running, listener(running.port, "lrp-edge/result") as heard:
        sink = Mqtt(f"mqtt://127.0.0.1:{running.port}")
        sink.open()
        sink.write(result(0, LATIN))
        until(lambda: heard.messages)
        sink.close()
        assert json.loads(heard.messages[0][1])["source"] == as_text(LATIN)


def test_a_page_shows_the_name(leaves_nothing_behind: None) -> None:
    status: dict[str, Any] = {**STATUS, "source": as_text(LATIN)}
    viewer = Viewer(str(free_port()), status=lambda: status, order="BGR")
    viewer.open()
    try:
        found = drawn(0, defect=True)
        viewer.write(replace(found, frame=replace(found.frame, source=LATIN)))
        with client(viewer) as http, events(http) as messages:
            assert seen(messages, 0)["frame"]["source"] == as_text(LATIN)
            assert http.get("/defects").json()[0]["source"] == as_text(LATIN)
            assert http.get("/metrics").status_code == 200
    finally:
        viewer.close()
