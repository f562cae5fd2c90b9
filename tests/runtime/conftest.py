"""Models that the tests of the runtime share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from runtime_graphs import brightness_card, brightness_graph


@pytest.fixture(scope="session")
def write_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that writes such a graph and returns its path."""

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
