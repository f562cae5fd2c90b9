"""The arrows between the rooms, as ``[tool.importlinter]`` of pyproject.toml states them."""

from __future__ import annotations

from pathlib import Path

import pytest
from importlinter.application.use_cases import lint_imports
from importlinter.configuration import configure

ROOT = Path(__file__).resolve().parents[1]

configure()


def test_the_rooms_import_one_way(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    kept = lint_imports(config_filename=str(ROOT / "pyproject.toml"), cache_dir=None, is_debug_mode=True)
    assert kept, capsys.readouterr().out


def test_the_linter_sees_through_the_symlinks() -> None:
    import grimp

    graph = grimp.build_graph("lrp_edge", cache_dir=None)
    assert "lrp_edge.errors" in graph.find_modules_directly_imported_by("lrp_edge.runtime.segmenter")
    assert "lrp_edge.export.onnx_file" in graph.modules
