"""What tests of the runtime have in common."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from tests.support.scripted import until


@pytest.fixture
def leaves_nothing_behind() -> Iterator[None]:
    """Let no thread, file, socket or process outlive a test."""
    threads, before = set(threading.enumerate()), held()
    yield
    until(lambda: set(threading.enumerate()) <= threads, what=threading.enumerate)
    # Cycles are collected only for what is still held, since that takes half a second where networks are loaded.
    until(lambda: held() <= before or (gc.collect() >= 0 and held() <= before), what=lambda: held() - before)


def held() -> set[Any]:
    """Return what this process holds of the system."""
    me = psutil.Process()
    sockets = {(each.fd, each.laddr, each.raddr) for each in me.net_connections("all")}
    processes = {each.pid for each in me.children() if each.status() != psutil.STATUS_ZOMBIE}
    return {file.path for file in me.open_files()} | sockets | processes
