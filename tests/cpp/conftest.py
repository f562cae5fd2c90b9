"""The library, built once."""

from __future__ import annotations

import os
from pathlib import Path

import cpp_build
import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave these to ``make cpp``: compilers and sanitizers take as long as all other tests."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("cpp")


@pytest.fixture(scope="session")
def release() -> Path:
    """The folder of a release build; LRP_EDGE_CPP_PRESET takes another preset, e.g. to run all under a sanitizer."""
    return cpp_build.build(os.environ.get("LRP_EDGE_CPP_PRESET", "release"))
