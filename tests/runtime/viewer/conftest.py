"""A viewer that is open, and a browser."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lrp_edge.runtime.viewer import Viewer
from tests.support.programs import free_port
from tests.support.viewing import STATUS, Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SWITCHES = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


@pytest.fixture
def status() -> dict[str, Any]:
    """What the viewer shows of the line; a test may change it."""
    return copy.deepcopy(STATUS)


@pytest.fixture
def opened(status: dict[str, Any]) -> Iterator[Callable[..., Viewer]]:
    """Return a function that opens a viewer, on a free port of loopback unless given another address."""
    viewers: list[Viewer] = []

    def make(address: str = "", order: str = "BGR", **options: Any) -> Viewer:
        viewers.append(Viewer(address or str(free_port()), status=lambda: status, order=order, **options))
        viewers[-1].open()
        return viewers[-1]

    yield make
    for viewer in viewers:
        viewer.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM:
        pytest.skip("chromium is not installed")
    with playwright.sync_playwright() as tools:
        found = tools.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        yield found
        found.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Callable[..., Page]]:
    pages: list[Page] = []

    def make(viewer: Viewer, **options: Any) -> Page:
        pages.append(Page(browser, viewer.url, **options))
        return pages[-1]

    yield make
    for each in pages:
        each.context.close()
