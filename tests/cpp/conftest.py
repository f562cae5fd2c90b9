"""The library, built once, and models for it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import cpp_build
import onnx
import pytest
from runtime_graphs import brightness_card, brightness_graph


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave these to ``make cpp``: compilers and sanitizers take as long as all other tests."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("cpp")


@pytest.fixture(scope="session")
def release() -> Path:
    """The folder of a release build; LRP_EDGE_CPP_PRESET takes another preset, e.g. to run all under a sanitizer."""
    return cpp_build.build(os.environ.get("LRP_EDGE_CPP_PRESET", "release"))


@pytest.fixture(scope="session")
def write_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that writes a graph of known answers and returns its path."""

    def write(order: str = "BGR", size: tuple[int, int] | None = None, max_batch: int = 3) -> Path:
        card = brightness_card(order, size, max_batch)
        path = tmp_path_factory.mktemp("model") / "model.onnx"
        onnx.save(brightness_graph(card, card.input.channels, size), path)
        return path

    return write


@pytest.fixture(scope="session")
def model(write_model: Callable[..., Path]) -> Path:
    """A model of colour frames of any size."""
    return write_model()
