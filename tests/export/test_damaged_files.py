"""A damaged model file is refused in one line by all that reads its graph."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lrp_edge.cli.bench import cut_to_scores
from lrp_edge.errors import LrpEdgeError
from lrp_edge.export.inspect import inspect
from lrp_edge.export.read import load_proto
from lrp_edge.export.verify import verify
from tests.support.damaged import bytes_changed, hostile
from tests.support.exported import export_once, tiny


def cut(path: Path) -> None:
    cut_to_scores(path, path.with_name("classifier.onnx"))


def verified(path: Path) -> None:
    verify([path])


READERS: dict[str, Callable[[Path], object]] = {
    "inspect": inspect,
    "compile": load_proto,
    "bench": cut,
    "verify": verified,
}


def refused(read: Callable[[Path], object], path: Path) -> bool:
    """Say whether a file is refused; the error is one line."""
    try:
        read(path)
    except LrpEdgeError as error:
        return "\n" not in str(error)
    return False


@pytest.mark.parametrize("name", READERS)
def test_changed_bytes_are_refused_or_read(tmp_path: Path, name: str) -> None:
    path = export_once(tiny(), tmp_path)
    answers = []
    for data in bytes_changed(path.read_bytes(), 60, seed=2):
        path.write_bytes(data)
        answers.append(refused(READERS[name], path))
    assert any(answers)


@pytest.mark.parametrize("name", READERS)
def test_what_is_made_to_harm_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "models").mkdir()
    path = tmp_path / "models" / "model.onnx"
    for what, data in hostile(tmp_path / "models").items():
        path.write_bytes(data)
        assert refused(READERS[name], path), what
