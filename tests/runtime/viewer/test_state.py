"""What the viewer serves: the state of the line, images, health and metrics."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from lrp_edge.runtime.overlay import draw_relevance, draw_result, to_bgr
from lrp_edge.runtime.pipeline import Pipeline
from lrp_edge.runtime.result import Event, Result
from lrp_edge.runtime.viewer import Viewer
from lrp_edge.runtime.viewer.app import Feed
from lrp_edge.runtime.viewer.board import Board
from tests.support.programs import free_port
from tests.support.scripted import Engine, Script, result, unread, until
from tests.support.viewing import answers, client, decode, drawn, events, seen, with_regions

pytestmark = pytest.mark.usefixtures("leaves_nothing_behind")


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
    assert (line.pop("id"), line.pop("size"), line["regions_found"]) == (7, [128, 96], 1)
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
    assert 1 < counts[0] <= 16 * seconds + 3
    assert 1 <= counts[1] <= 5


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
    viewer.write(with_regions(shown))
    with client(viewer) as http, events(http) as messages:
        frame = next(messages)["frame"]
    assert (len(frame["regions"]), frame["regions_found"]) == (50, 24 * 32)


def test_frames_without_pixels_or_result_say_why(opened: Any) -> None:
    viewer = opened()
    with client(viewer) as http, events(http) as messages:
        viewer.write(unread(8, "JPEG is cut short"))
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
    viewer = opened(token="first")
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
