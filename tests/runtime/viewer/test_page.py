"""What the page shows, in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from lrp_edge.runtime.overlay import draw_relevance
from lrp_edge.runtime.result import Event
from tests.support.scripted import unread
from tests.support.viewing import client, drawn

pytestmark = pytest.mark.usefixtures("leaves_nothing_behind")


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
        shown.until(lambda: "<b>camera</b> is gone" in shown.text("events"))
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
    viewer.event(Event("stalled", "source", "is stalled", 1.0))
    shown.until(lambda: "is stalled" in shown.text("events"))
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
    viewer.write(unread(2, "JPEG is cut short"))
    shown.until(lambda: shown.text("word") == "NO RESULT")
    assert not shown.page.locator("#picture").is_visible()
    assert shown.text("nothing") == "No image: JPEG is cut short"
    assert shown.page.locator("#boxes rect").count() == 0
    assert not shown.complaints


@pytest.mark.parametrize("how", ["refused", "never answered"])
def test_a_picture_that_does_not_come_leaves_an_old_one_marked_until_it_does(how: str, opened: Any, page: Any) -> None:
    viewer = opened()
    viewer.write(drawn(1, defect=True))
    shown = page(viewer)
    shown.until(lambda: shown.text("frame") == "Frame 1")
    assert not shown.is_old()
    shown.page.route("**/live/**", lambda route: route.abort() if how == "refused" else None)
    viewer.write(drawn(2, defect=False))
    shown.until(shown.is_old)
    assert (shown.text("frame"), shown.text("word"), shown.text("state")) == ("Frame 1", "REJECT", "Live")
    shown.page.unroute("**/live/**")
    shown.until(lambda: shown.text("frame") == "Frame 2")
    shown.until(lambda: not shown.is_old())


def test_a_page_that_nobody_sees_asks_for_nothing(opened: Any, page: Any) -> None:
    viewer = opened()
    shown = page(viewer, script="Object.defineProperty(document, 'hidden', { get: () => !window.seen });")
    # The line's graphs are drawn each second.
    shown.page.wait_for_timeout(1500)
    assert not [url for url in shown.requests if url.endswith("/events")]
    shown.page.evaluate("seen = true; document.dispatchEvent(new Event('visibilitychange'))")
    shown.until(lambda: shown.text("state") == "Live")


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
    shown.until(shown.is_old)
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
    shown.until(lambda: "requires a token" in shown.text("lost"))


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
    expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect
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
        expect(shown.page.get_by_role(role, name=name)).to_have_count(1)
