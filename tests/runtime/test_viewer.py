"""What the viewer serves, to whom, and that nobody who looks holds up the line: real servers, clients, a browser."""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import psutil
import pytest
from brokers import free_port
from prometheus_client.parser import text_string_to_metric_families
from scripted import Engine, Script, result, until

from lrp_edge.errors import LrpEdgeError
from lrp_edge.runtime.frame import Frame
from lrp_edge.runtime.overlay import draw_relevance, draw_result, to_bgr
from lrp_edge.runtime.pipeline import Pipeline
from lrp_edge.runtime.regions import find_regions
from lrp_edge.runtime.result import Event, Result
from lrp_edge.runtime.segmentation import Segmentation
from lrp_edge.runtime.viewer import Viewer, parse_address, server
from lrp_edge.runtime.viewer.app import Feed
from lrp_edge.runtime.viewer.board import Board

TOKEN = "hunter2-tökén"
PATHS = ("/", "/static/viewer.js", "/events", "/live/0/frame.jpg", "/defects", "/defects/0/large.jpg", "/metrics")
BUSY = {"delivered": 11, "dropped": 12, "failed": 13, "waiting": 14}
STATUS: dict[str, Any] = {
    "model": "line.onnx",
    "classes": ["ok", "odd"],
    "source": "rtsp://***@camera/stream",
    "policy": "latest",
    "running": True,
    "uptime_s": 4000.5,
    "fps": 24.5,
    "stalled": [],
    "mm_per_px": 0.5,
    "counters": {
        "captured": 1109,
        "dropped": 2,
        "unreadable": 3,
        "segmented": 1100,
        "failed": 4,
        "defects": 50,
        "rejected": 60,
        "reconnects": 7,
        "stalls": 8,
    },
    "latency_ms": {
        "queue": {"p50": 1.5, "p99": 2.5},
        "engine": {"p50": 20.0, "p99": 30.0},
        "total": {"p50": 22.0, "p99": 33.0},
    },
    "sinks": {"results": BUSY, "mqtt": BUSY | {"published": 9, "outbox_waiting": 5}},
}


@pytest.fixture(autouse=True)
def _leaves_nothing_behind() -> Iterator[None]:
    threads, sockets = set(threading.enumerate()), len(psutil.Process().net_connections())
    yield
    assert set(threading.enumerate()) <= threads
    assert len(psutil.Process().net_connections()) <= sockets


@pytest.fixture
def status() -> dict[str, Any]:
    """What the viewer is told of the line; a test may change it."""
    return copy.deepcopy(STATUS)


@pytest.fixture
def opened(status: dict[str, Any]) -> Iterator[Callable[..., Viewer]]:
    """Return a function that opens a viewer, on a free port of loopback unless it is told otherwise."""
    viewers: list[Viewer] = []

    def make(address: str = "", order: str = "BGR", **options: Any) -> Viewer:
        viewers.append(Viewer(address or str(free_port()), status=lambda: status, order=order, **options))
        viewers[-1].open()
        return viewers[-1]

    yield make
    for viewer in viewers:
        viewer.close()


@contextmanager
def client(viewer: Viewer, **options: Any) -> Iterator[httpx.Client]:
    """Return a client of a viewer that asks this machine, whatever the viewer listens on."""
    address = viewer.url.replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]")
    with httpx.Client(base_url=address, timeout=30, **options) as found:
        yield found


@contextmanager
def events(http: httpx.Client) -> Iterator[Iterator[Any]]:
    """Yield messages as they come."""
    with http.stream("GET", "/events") as answer:
        assert answer.status_code == 200
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        yield (json.loads(line[5:], parse_constant=pytest.fail) for line in answer.iter_lines() if line[:5] == "data:")


def seen(messages: Iterator[Any], index: int) -> Any:
    """Return the first message with a frame."""
    return next(each for each in messages if each.get("frame", {}).get("id") == index)


def drawn(index: int, *, defect: bool, order: str = "BGR", size: tuple[int, int] = (96, 128)) -> Result:
    """Return a result of a smooth frame; a defect has a square as mask and relevance of both signs."""
    rows, columns = np.mgrid[0.0 : 1.0 : size[0] * 1j, 0.0 : 1.0 : size[1] * 1j]
    planes = [60 + 120 * rows, 200 - 100 * columns, 100 + 10 * (index % 10) + 0 * rows]
    image = np.stack(planes[: 1 if order == "GRAY" else 3], -1).astype(np.uint8)
    mask = np.zeros(size, np.uint8)
    if defect:
        mask[size[0] // 4 : size[0] // 2, size[1] // 4 : size[1] // 2] = 255
    relevance = (mask / 255 - 0.25 * columns).astype(np.float32)
    scores = np.array([0.125, 0.875] if defect else [0.75, 0.25], np.float32)
    found = Segmentation(int(defect), ("ok", "odd")[defect], defect, scores, mask, relevance, 2.0)
    frame = Frame(index, STATUS["source"], image, 1_700_000_000.25 + index, 12.5)
    reason = "any region 192 mm² > 2.5 mm²" if defect else ""
    return Result(frame, found, find_regions(mask, relevance), defect, reason, "", 1.0, 2.0, 3.5, 0.5)


def decode(answer: httpx.Response, kind: str) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == kind
    return cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_UNCHANGED)


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
    port = first.url.rpartition(":")[2]
    with pytest.raises(LrpEdgeError, match=rf"^[^\n]*127.0.0.1, port {port}: the port is in use;"):
        opened(port)
    first.close()
    opened(port)


@pytest.mark.parametrize(
    ("host", "why"), [("no-such-host.invalid", "this host is not known"), ("192.0.2.1", "does not have that address")]
)
def test_a_host_that_is_not_this_machine_is_named(host: str, why: str, opened: Any) -> None:
    with pytest.raises(LrpEdgeError, match=why):
        opened(f"{host}:{free_port()}", token=TOKEN)


# ------------------------------------------------------------------------------------------------------------ the state


def test_the_newest_frame_comes_as_its_line_with_status_and_events(opened: Any, status: dict[str, Any]) -> None:
    viewer = opened()
    shown = drawn(7, defect=True)
    viewer.event(Event("lost", "source", "camera: no frame for 5 s", 1_700_000_000.5))
    with client(viewer) as http, events(http) as messages:
        assert "frame" not in next(messages)
        viewer.write(drawn(6, defect=False))
        viewer.write(shown)
        found = seen(messages, 7)
    line = found.pop("frame")
    assert (line.pop("id"), line.pop("size"), line.pop("regions_found")) == (7, [128, 96], 1)
    assert line.pop("layers") == ["frame.jpg", "mask.png", "relevance.png"]
    assert line == json.loads(json.dumps(shown.as_dict()))
    assert line["regions"][0]["area_mm2"] == 24 * 32 / 4
    assert found["status"] == status
    assert [(each["kind"], each["message"]) for each in found["events"]] == [("lost", "camera: no frame for 5 s")]
    assert found["defects"] == 1


def test_a_page_that_opens_later_gets_the_last_frame_at_once(opened: Any) -> None:
    viewer = opened()
    viewer.write(drawn(3, defect=False))
    with client(viewer) as http:
        assert http.get("/live/3/frame.jpg").status_code == 404  # Nobody looks: nothing is encoded.
        with events(http) as messages:
            assert next(messages)["frame"]["id"] == 3
            assert http.get("/live/3/frame.jpg").status_code == 200


def test_messages_are_few_when_frames_are_many_and_go_on_when_there_are_none(opened: Any) -> None:
    viewer, counts = opened(), [0, 0]
    with client(viewer) as http, events(http) as messages:
        begin = time.monotonic()
        for index in range(400):
            viewer.write(result(2 * index))
            time.sleep(0.005)
        seconds = time.monotonic() - begin
        for counts[0], message in enumerate(messages, 1):
            if message.get("frame", {}).get("id") == 798:
                break
        begin = time.monotonic()
        while time.monotonic() - begin < 3:
            next(messages)
            counts[1] += 1
    assert 5 < counts[0] <= 16 * seconds + 3
    assert 2 <= counts[1] <= 5


def test_who_takes_messages_slowly_gets_the_newest(status: dict[str, Any]) -> None:
    board = Board(lambda: status, "BGR", 0)
    feed = Feed(board)

    async def look() -> list[int]:
        messages, ids = feed.messages(), []
        await anext(messages)
        for last in (4, 90, 234):
            for index in range(last + 1):
                board.put(result(index))
            await asyncio.sleep(0.2)
            ids.append(json.loads((await anext(messages))[5:])["frame"]["id"])
        feed.end()
        await anext(messages)
        return [*ids, *[len(each) async for each in messages]]

    assert asyncio.run(look()) == [4, 90, 234]


def test_values_that_json_has_not_are_null(opened: Any) -> None:
    viewer = opened()
    shown = drawn(1, defect=True)
    shown.segmentation.scores[:] = np.nan, np.inf
    shown.segmentation.relevance[0] = np.nan, *[np.inf] * 127
    viewer.write(shown)
    with client(viewer) as http, events(http) as messages:
        assert next(messages)["frame"]["scores"] == [None, None]
        assert http.get("/defects").json()[0]["scores"] == [None, None]
        alpha = decode(http.get("/live/1/relevance.png"), "image/png")[..., 3]
    assert not alpha[0].any()
    assert alpha[30, 40] == 255


def test_many_regions_are_cut_to_the_largest_with_their_number(opened: Any) -> None:
    viewer = opened()
    shown = drawn(2, defect=True)
    shown.segmentation.mask[:] = 0
    shown.segmentation.mask[::4, ::4] = 255
    shown.regions = find_regions(shown.segmentation.mask)
    viewer.write(shown)
    with client(viewer) as http, events(http) as messages:
        frame = next(messages)["frame"]
    assert (len(frame["regions"]), frame["regions_found"]) == (50, 24 * 32)


def test_frames_without_pixels_or_result_say_why(opened: Any) -> None:
    viewer = opened()
    with client(viewer) as http, events(http) as messages:
        viewer.write(Result(Frame(8, "camera", None, 1.5, 2.5, "cut"), error="JPEG is cut short"))
        frame = seen(messages, 8)["frame"]
        assert (frame["error"], frame["layers"], frame["size"]) == ("JPEG is cut short", [], None)
        viewer.write(Result(drawn(9, defect=False).frame, error="device error"))
        frame = seen(messages, 9)["frame"]
        assert (frame["error"], frame["layers"], frame["size"]) == ("device error", ["frame.jpg"], [128, 96])
        assert http.get("/live/9/mask.png").status_code == 404


def test_the_last_message_says_that_the_line_has_stopped(opened: Any, status: dict[str, Any]) -> None:
    viewer = opened()
    with client(viewer) as http, events(http) as messages:
        assert next(messages)["status"]["running"]
        status["running"] = False
        viewer.close()
        assert not list(messages)[-1]["status"]["running"]


# ----------------------------------------------------------------------------------------------------------- pictures


@pytest.mark.parametrize("order", ["BGR", "RGB", "GRAY"])
def test_layers_are_those_of_the_frame(order: str, opened: Any) -> None:
    viewer = opened(order=order)
    shown = drawn(5, defect=True, order=order)
    viewer.write(shown)
    with client(viewer) as http, events(http) as messages:
        next(messages)
        picture = decode(http.get("/live/5/frame.jpg"), "image/jpeg")
        relevance = decode(http.get("/live/5/relevance.png"), "image/png")
        mask = decode(http.get("/live/5/mask.png"), "image/png")
        assert http.get("/live/5/other.png").status_code == http.get("/live/4/frame.jpg").status_code == 404
    assert cv2.absdiff(picture, to_bgr(shown.frame.image, order)).mean() < 2
    alpha = relevance[..., 3:] / 255
    over_white = alpha * relevance[..., :3] + (1 - alpha) * 255
    # One of 31 levels of alpha is at most 8 of 255.
    assert np.abs(over_white - draw_relevance(shown.segmentation)).max() < 6
    np.testing.assert_array_equal(mask[..., 3] > 0, shown.segmentation.mask > 0)
    assert (mask[24, 32:64] == (40, 40, 255, 255)).all()
    assert 0 < mask[36, 48, 3] < 128


def test_large_frames_are_shown_small_with_all_their_regions(opened: Any) -> None:
    viewer = opened(order="GRAY")
    shown = drawn(1, defect=False, order="GRAY", size=(2001, 3003))
    shown.segmentation.mask[1000, 1500] = 255
    viewer.write(shown)
    with client(viewer) as http, events(http) as messages:
        assert next(messages)["frame"]["size"] == [3003, 2001]
        layers = [decode(http.get(f"/live/1/{name}"), f"image/{name[-3:].replace('jpg', 'jpeg')}") for name in
                  ("frame.jpg", "mask.png", "relevance.png")]  # fmt: skip
    picture, mask, relevance = layers
    assert picture.shape == (667, 1001, 3)
    assert max(relevance.shape) <= 640
    rows, columns = np.nonzero(mask[..., 3])
    assert np.abs(rows - 1000 / 3).max() < 4
    assert np.abs(columns - 1500 / 3).max() < 4
    whole = cv2.resize(to_bgr(shown.frame.image, "GRAY"), (1001, 667), interpolation=cv2.INTER_AREA)
    assert cv2.absdiff(picture, whole).mean() < 2


def test_the_last_defects_are_kept_with_their_pictures(opened: Any) -> None:
    viewer = opened(thumbnails=3)
    results = [drawn(index, defect=index % 2 == 1) for index in range(10)]
    for each in results:
        viewer.write(each)
    # Decided to be a defect, and accepted by a rule.
    results[9].reject, results[9].reason = False, ""
    viewer.write(results[9])
    with client(viewer) as http:
        lines = http.get("/defects").json()
        assert [line["id"] for line in lines] == [9, 7, 5]
        assert lines[1] | json.loads(json.dumps(results[7].as_dict())) == lines[1]
        assert not lines[0]["reject"]
        large = decode(http.get("/defects/7/large.jpg"), "image/jpeg")
        thumbnail = decode(http.get("/defects/7/thumbnail.jpg"), "image/jpeg")
        assert http.get("/defects/3/large.jpg").status_code == 404
    expected = draw_result(results[7])
    assert cv2.absdiff(large, expected).mean() < 4
    # The header is not in the thumbnail.
    assert thumbnail.shape == (288 // 2, 384 // 2, 3)
    assert cv2.absdiff(thumbnail, cv2.resize(expected[-288:], (192, 144), interpolation=cv2.INTER_AREA)).mean() < 6


def test_a_flood_of_defects_costs_little_and_is_counted(opened: Any) -> None:
    viewer = opened(thumbnails=4)
    for index in range(300):
        viewer.write(drawn(index, defect=True))
    skipped = viewer.counts()["pictures_skipped"]
    with client(viewer) as http:
        assert len(http.get("/defects").json()) == 4
        with events(http) as messages:
            assert next(messages)["defects"] == 300 - skipped
    assert skipped > 200


def test_without_thumbnails_no_defect_is_kept(opened: Any) -> None:
    viewer = opened(thumbnails=0)
    viewer.write(drawn(1, defect=True))
    with client(viewer) as http:
        assert http.get("/defects").json() == []
    assert viewer.counts() == {"pictures_skipped": 0}


# --------------------------------------------------------------------------------------------------- health and metrics


def test_health_is_that_of_the_line(opened: Any, status: dict[str, Any]) -> None:
    viewer = opened(token=TOKEN)
    with client(viewer) as http:
        assert (http.get("/healthz").status_code, http.get("/healthz").json()) == (200, {"status": "ok"})
        status["stalled"] = ["engine", "mqtt"]
        answer = http.get("/healthz")
        assert (answer.status_code, answer.json()) == (503, {"status": "stalled", "stalled": ["engine", "mqtt"]})
        status["running"], status["stalled"] = False, []
        answer = http.get("/healthz")
        assert (answer.status_code, answer.json()) == (503, {"status": "stopped", "stalled": []})


def scraped(http: httpx.Client) -> tuple[dict[tuple[str, ...], float], dict[str, str]]:
    """Return samples by name and values of their labels in order, and types by name of the family."""
    answer = http.get("/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    families = list(text_string_to_metric_families(answer.text))
    samples = [sample for family in families for sample in family.samples]
    found = {(each.name, *dict(sorted(each.labels.items())).values()): each.value for each in samples}
    assert len(found) == len(samples)
    return found, {family.name: family.type for family in families}


def test_metrics_are_the_status_in_base_units(opened: Any, status: dict[str, Any]) -> None:
    status["stalled"] = ["mqtt"]
    with client(opened()) as http:
        found, types = scraped(http)
    expected: dict[tuple[str, ...], float] = {
        ("lrp_edge_line_info", "line.onnx", "latest", "rtsp://***@camera/stream"): 1,
        ("lrp_edge_running",): 1,
        ("lrp_edge_uptime_seconds",): 4000.5,
        ("lrp_edge_frames_per_second",): 24.5,
        ("lrp_edge_frames_captured_total",): 1109,
        ("lrp_edge_frames_dropped_total",): 2,
        ("lrp_edge_frames_unreadable_total",): 3,
        ("lrp_edge_frames_segmented_total",): 1100,
        ("lrp_edge_frames_failed_total",): 4,
        ("lrp_edge_defects_total",): 50,
        ("lrp_edge_rejected_total",): 60,
        ("lrp_edge_reconnects_total",): 7,
        ("lrp_edge_stalls_total",): 8,
        ("lrp_edge_sink_published_total", "mqtt"): 9,
        ("lrp_edge_sink_outbox_waiting", "mqtt"): 5,
    }
    for stage, values in status["latency_ms"].items():
        for quantile, key in (("0.5", "p50"), ("0.99", "p99")):
            expected["lrp_edge_latency_seconds", quantile, stage] = values[key] / 1000
    for stage in ("source", "engine", "results", "mqtt"):
        expected["lrp_edge_stalled", stage] = stage == "mqtt"
    for sink in ("results", "mqtt"):
        for name, value in (("delivered_total", 11), ("dropped_total", 12), ("failed_total", 13), ("waiting", 14)):
            expected[f"lrp_edge_sink_{name}", sink] = value
    assert found == expected
    assert types["lrp_edge_frames_captured"] == types["lrp_edge_sink_published"] == "counter"
    assert types["lrp_edge_latency_seconds"] == types["lrp_edge_sink_outbox_waiting"] == "gauge"


def test_a_pipeline_with_a_viewer_is_seen_while_it_runs() -> None:
    gate, steps = threading.Event(), ["frame"] * 6
    source = Script([*steps, gate.wait, "frame"], period=0.05)
    viewer = Viewer(
        str(free_port()), order="BGR", status=lambda: {"model": "m", "classes": ["ok", "odd"]} | line.status()
    )
    line = Pipeline(Engine(), source, [viewer])
    run = threading.Thread(target=line.run)
    run.start()
    try:
        with client(viewer) as http:
            until(lambda: answers(http) and scraped(http)[0]["lrp_edge_sink_delivered_total", "viewer"] == 6)
            assert scraped(http)[0]["lrp_edge_defects_total",] == 3
            assert [line["id"] for line in http.get("/defects").json()] == [5, 3, 1]
            with events(http) as messages:
                message = next(messages)
            assert message["frame"]["name"] == "odd"
            assert message["status"]["counters"]["segmented"] == 6
            assert [event["kind"] for event in message["events"]] == ["started"]
    finally:
        gate.set()
        run.join()


def answers(http: httpx.Client) -> bool:
    try:
        return http.get("/healthz").status_code == 200
    except httpx.TransportError:
        return False


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
        {"Cookie": f"lrp_edge_view_{viewer.url.rpartition(':')[2]}={TOKEN}".encode()},
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


def test_on_loopback_no_other_name_is_answered(opened: Any) -> None:
    viewer = opened()
    port = viewer.url.rpartition(":")[2]
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
        for path in ("/static/..%2fapp.py", "/static/../app.py", "/static/__init__.py"):
            assert http.get(path).status_code == 404


# -------------------------------------------------------------------------------------------- clients that do no good


def deaf(viewer: Viewer, path: str = "/events") -> socket.socket:
    """Return a connection that has asked and never reads, with as little room as the system gives."""
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    port = int(viewer.url.rpartition(":")[2])
    found.connect(("127.0.0.1", port))
    found.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
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
        assert slowest < 0.5
        # 600 frames are 530 MiB.
        assert memory[1] - memory[0] < 32 * 2**20
        with client(viewer) as http:
            assert http.get("/healthz").status_code == 200
        begin = time.monotonic()
        viewer.close()
        assert time.monotonic() - begin < 5
        assert not [thread for thread in threading.enumerate() if thread.name == "viewer"]
        port = int(viewer.url.rpartition(":")[2])
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
    port = int(viewer.url.rpartition(":")[2])
    with ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        until(lambda: len([each for each in process.net_connections() if each.laddr.port == port]) <= 129)
    with client(viewer) as http:
        until(lambda: answers(http))


# ---------------------------------------------------------------------------------------------------------- the page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SWITCHES = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM:
        pytest.skip("chromium is not installed")
    with playwright.sync_playwright() as tools:
        found = tools.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        yield found
        found.close()


class Page:
    """A page of the viewer in a browser, with what it asked for and complained of."""

    def __init__(self, browser: Any, url: str, **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda message: message.type == "error" and self.complaints.append(message.text))
        self.page.goto(url)

    def text(self, name: str) -> str:
        """Return the text of an element by its id."""
        return str(self.page.locator(f"#{name}").inner_text()).replace("\u00a0", " ")

    def until(self, condition: Callable[[], object]) -> None:
        """Wait until something holds, while the page goes on."""
        end = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < end, (self.page.locator("body").inner_text(), self.complaints)
            self.page.wait_for_timeout(30)

    def pixels(self) -> np.ndarray:
        """Return the canvas as int [H, W, 3], red first."""
        size, values = self.page.evaluate(
            """() => {
                const { width, height } = document.getElementById("picture");
                const { data } = document.getElementById("picture").getContext("2d").getImageData(0, 0, width, height);
                return [[height, width], Array.from(data)];
            }"""
        )
        return np.array(values).reshape(*size, 4)[..., :3]

    def picture(self, path: Path) -> None:
        """Save what it looks like."""
        # Playwright itself would write it in a thread that stays.
        path.write_bytes(self.page.screenshot(full_page=True))

    def slide(self, name: str, value: int) -> None:
        """Move a slider."""
        self.page.locator(f"#{name}-opacity").fill(str(value))


@pytest.fixture
def page(browser: Any) -> Iterator[Callable[..., Page]]:
    pages: list[Page] = []

    def make(viewer: Viewer, **options: Any) -> Page:
        pages.append(Page(browser, viewer.url, **options))
        return pages[-1]

    yield make
    for each in pages:
        each.context.close()


def test_the_page_shows_verdict_scores_regions_and_figures(opened: Any, page: Any, tmp_path: Path) -> None:
    viewer = opened()
    viewer.event(Event("lost", "source", "<b>camera</b> is gone", 1_700_000_000.0))
    for index in range(4):
        viewer.write(drawn(index, defect=index == 1))
    with client(viewer) as http:
        shown = page(viewer, viewport={"width": 1600, "height": 1000})
        shown.until(lambda: shown.text("frame") == "Frame 3")
        assert (shown.text("word"), shown.text("reason")) == ("ACCEPT", "class ok, 75.0 %")
        shown.picture(tmp_path / "accept.png")
        viewer.write(drawn(5, defect=True))
        shown.until(lambda: shown.text("frame") == "Frame 5")
        assert (shown.text("word"), shown.text("reason")) == ("REJECT", "any region 192 mm² > 2.5 mm²")
        assert shown.text("scores").split("\n") == ["ok", "12.5 %", "odd", "87.5 %"]
        assert shown.text("regions").split() == ["1", "192", "mm²", "19.7", "mm", "32,", "24"]
        assert shown.page.locator("#boxes rect").count() == 1
        shown.until(lambda: shown.page.locator("#defects button").count() == 2)
        assert "<b>camera</b> is gone" in shown.text("events")
        assert (shown.text("model"), shown.text("fps"), shown.text("policy")) == ("line.onnx", "24.5", "latest")
        assert shown.text("counter-captured") == "1,109"
        assert "mqtt\t11\t14\t12\t13\npublished 9 · outbox waiting 5" in shown.text("sinks")
        shown.picture(tmp_path / "reject.png")
        assert http.get("/").status_code == 200
    assert not shown.complaints
    assert all(url.startswith(f"{viewer.url}/") for url in shown.requests)


def test_the_canvas_has_the_pixels_of_the_frame_and_its_layers_as_the_sliders_say(opened: Any, page: Any) -> None:
    viewer, expected = opened(), drawn(5, defect=True)
    viewer.write(expected)
    shown = page(viewer)
    frame = expected.frame.image[..., ::-1].astype(int)
    inside = cv2.erode(expected.segmentation.mask, np.ones((5, 5), np.uint8)) > 0
    shown.until(lambda: shown.text("frame") == "Frame 5")
    shown.slide("relevance", 0)
    shown.slide("mask", 0)
    plain = shown.pixels()
    assert plain.shape == frame.shape
    assert np.abs(plain - frame).mean() < 2
    shown.slide("mask", 100)
    tinted = shown.pixels()
    assert np.abs(tinted - (plain * (1 - 89 / 255) + np.array([255, 40, 40]) * 89 / 255))[inside].mean() < 2
    outside = cv2.dilate(expected.segmentation.mask, np.ones((5, 5), np.uint8)) == 0
    assert np.abs(tinted - plain)[outside].max() <= 1
    shown.slide("mask", 0)
    shown.slide("relevance", 50)
    shown.until(lambda: np.abs(shown.pixels() - plain).max() > 20)
    colours = draw_relevance(expected.segmentation)[..., ::-1].astype(int)
    speaks = expected.segmentation.relevance > 0.9 * expected.segmentation.relevance.max()
    # Where relevance is greatest its colour is opaque, and the slider mixes in half of it.
    assert np.abs(shown.pixels() - (plain + colours) / 2)[speaks].mean() < 8
    assert not shown.complaints


def test_a_frozen_page_keeps_its_frame_and_goes_on_with_the_newest(opened: Any, page: Any) -> None:
    viewer = opened()
    viewer.write(drawn(1, defect=True))
    shown = page(viewer)
    shown.until(lambda: shown.text("frame") == "Frame 1")
    shown.page.get_by_role("button", name="Freeze").click()
    viewer.write(drawn(2, defect=False))
    viewer.event(Event("stalled", "source", "stands still", 1.0))
    shown.until(lambda: "stands still" in shown.text("events"))
    assert (shown.text("frame"), shown.text("word")) == ("Frame 1", "REJECT")
    shown.page.get_by_role("button", name="Freeze").click()
    shown.until(lambda: shown.text("frame") == "Frame 2")
    assert shown.text("word") == "ACCEPT"


def test_a_thumbnail_opens_large_by_keyboard_too(opened: Any, page: Any, tmp_path: Path) -> None:
    viewer = opened()
    for index in (1, 3, 5):
        viewer.write(drawn(index, defect=True))
    shown = page(viewer)
    shown.until(lambda: shown.page.locator("#defects button").count() == 3)
    thumbnails, large = shown.page.locator("#defects button"), shown.page.locator("#large")

    def shows(index: int) -> bool:
        picture = shown.page.locator("#large-picture")
        source, width = picture.evaluate("(image) => [image.currentSrc, image.complete && image.naturalWidth]")
        return f"/defects/{index}/large.jpg" in source and width == 384 and f"frame {index}" in shown.text("large-text")

    thumbnails.nth(1).click()
    shown.until(lambda: shows(3))
    shown.picture(tmp_path / "large.png")
    shown.page.get_by_role("button", name="Close").click()
    assert not large.is_visible()
    thumbnails.nth(0).focus()
    shown.page.keyboard.press("Enter")
    shown.until(lambda: shows(5))
    shown.page.keyboard.press("ArrowRight")
    shown.until(lambda: shows(3))
    viewer.write(drawn(7, defect=True))
    shown.until(lambda: thumbnails.count() == 4)
    assert shows(3)
    shown.page.keyboard.press("Escape")
    shown.until(lambda: not large.is_visible())
    assert not shown.complaints


def test_frames_without_result_show_no_picture_of_another(opened: Any, page: Any) -> None:
    viewer = opened()
    viewer.write(drawn(1, defect=True))
    shown = page(viewer)
    shown.until(lambda: shown.page.locator("#picture").is_visible())
    viewer.write(Result(Frame(2, "camera", None, 1.5, 2.5, "cut"), error="JPEG is cut short"))
    shown.until(lambda: shown.text("word") == "NO RESULT")
    assert not shown.page.locator("#picture").is_visible()
    assert shown.text("nothing") == "No picture: JPEG is cut short"
    assert shown.page.locator("#boxes rect").count() == 0
    assert not shown.complaints


def test_the_page_says_what_stands_still(opened: Any, page: Any, status: dict[str, Any]) -> None:
    shown = page(opened())
    shown.until(lambda: shown.text("state") == "Live")
    assert not shown.page.locator("#stalled").is_visible()
    status["stalled"] = ["source", "mqtt"]
    shown.until(lambda: shown.page.locator("#stalled").is_visible())
    assert "source, mqtt" in shown.text("stalled")
    assert shown.text("state") == "Stalled"


def test_the_page_finds_a_viewer_that_was_started_again(opened: Any, page: Any) -> None:
    viewer = opened()
    viewer.write(drawn(900, defect=True))
    shown = page(viewer)
    shown.until(lambda: shown.text("frame") == "Frame 900")
    viewer.close()
    shown.until(lambda: shown.page.locator("#lost").is_visible())
    assert shown.text("state") == "Lost"
    again = opened(viewer.url.rpartition("/")[2])
    again.write(drawn(1, defect=True))
    again.write(drawn(0, defect=False))
    shown.until(lambda: shown.text("frame") == "Frame 0")
    assert not shown.page.locator("#lost").is_visible()
    assert (shown.text("word"), shown.text("state")) == ("ACCEPT", "Live")
    # Both had one defect, but not the same.
    label = shown.page.locator("#defects button").get_attribute
    shown.until(lambda: "frame 1:" in label("aria-label"))


def test_a_line_that_stops_is_not_called_lost(opened: Any, page: Any, status: dict[str, Any]) -> None:
    viewer = opened()
    shown = page(viewer)
    shown.until(lambda: shown.text("state") == "Live")
    status["running"] = False
    viewer.close()
    shown.until(lambda: shown.page.locator("#stopped").is_visible())
    shown.until(lambda: "old" in shown.page.locator("body").get_attribute("class"))
    assert not shown.page.locator("#lost").is_visible()
    assert shown.text("state") == "Stopped"


def test_a_page_with_the_token_works_and_says_when_another_is_needed(opened: Any, page: Any) -> None:
    viewer = opened(token="first")
    viewer.write(drawn(1, defect=True))
    shown = page(viewer)
    assert "a token is needed" in shown.page.locator("body").inner_text()
    shown.page.goto(f"{viewer.url}/?token=first")
    shown.until(lambda: shown.text("frame") == "Frame 1")
    assert shown.page.url == f"{viewer.url}/"
    viewer.close()
    opened(viewer.url.rpartition("/")[2], token="second")
    shown.until(lambda: "asks for a token" in shown.text("lost"))


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_the_page_fits_a_phone(scheme: str, opened: Any, page: Any, tmp_path: Path) -> None:
    viewer = opened()
    for index in range(12):
        viewer.write(drawn(index, defect=index % 2 == 1))
    shown = page(viewer, viewport={"width": 360, "height": 740}, color_scheme=scheme)
    shown.until(lambda: shown.text("frame") == "Frame 11" and shown.page.locator("#defects button").count() == 6)
    shown.picture(tmp_path / f"phone-{scheme}.png")
    assert shown.page.evaluate("document.documentElement.scrollWidth") <= 360
    top = {name: shown.page.locator(f"#{name}").bounding_box()["y"] for name in ("verdict", "screen", "scores")}
    assert top["verdict"] < top["screen"] < top["scores"]
    assert top["screen"] < 740 / 2


def test_controls_have_names(opened: Any, page: Any) -> None:
    viewer = opened()
    viewer.write(drawn(1, defect=True))
    shown = page(viewer)
    shown.until(lambda: shown.page.locator("#defects button").count() == 1)
    for role, name in (
        ("slider", "Relevance"),
        ("slider", "Mask"),
        ("button", "Boxes"),
        ("button", "Full screen"),
        ("button", "Open frame 1: REJECT, any region 192 mm² > 2.5 mm²"),
        ("img", "Frame 1: REJECT, any region 192 mm² > 2.5 mm²"),
        ("img", "Latency over the last two minutes"),
        ("heading", "Last defects"),
    ):
        assert shown.page.get_by_role(role, name=name).count() == 1, (role, name)
