"""A viewer's client and its page in a browser, for the tests of what it serves."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest

from lrp_edge.runtime.regions import survey
from lrp_edge.runtime.result import Frame, Result, Segmentation
from lrp_edge.runtime.viewer import Viewer

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


def port_of(viewer: Viewer) -> int:
    return int(viewer.url.rpartition(":")[2])


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
    shown = Result(frame, found, (), defect, reason, "", 1.0, 2.0, 3.5, 0.5)
    return with_regions(shown)


def with_regions(shown: Result) -> Result:
    """Fill in the regions of its mask."""
    assert shown.segmentation is not None
    regions = survey(shown.segmentation.mask, shown.segmentation.relevance)
    shown.regions, shown.regions_found, shown.regions_area = regions.listed, regions.count, regions.area
    return shown


def decode(answer: httpx.Response, kind: str) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == kind
    return cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_UNCHANGED)


def answers(http: httpx.Client) -> bool:
    try:
        return http.get("/healthz").status_code == 200
    except httpx.TransportError:
        return False


class Page:
    """A page of the viewer in a browser, with what it asked for and complained of."""

    def __init__(self, browser: Any, url: str, script: str = "", **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.context.add_init_script(script)
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

    def is_old(self) -> bool:
        """Say whether what it shows is marked as old."""
        return "old" in (self.page.locator("body").get_attribute("class") or "")

    def until(self, condition: Callable[[], object]) -> None:
        """Wait until something holds, while the page keeps running."""
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
