"""The arrows between the rooms, as ``[tool.importlinter]`` of pyproject.toml states them."""

from __future__ import annotations

from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("lrp_edge", include_external_packages=True, cache_dir=None)


def test_the_contracts_are_kept(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

    monkeypatch.chdir(ROOT)
    status = lint_imports(config_filename="pyproject.toml", no_cache=True)
    assert status == EXIT_STATUS_SUCCESS, capsys.readouterr().out


def test_the_graph_reaches_through_the_symlinks(graph: grimp.ImportGraph) -> None:
    assert "torch" in graph.find_modules_directly_imported_by("lrp_edge.export.onnx_file")
    assert "onnxruntime" in graph.find_modules_directly_imported_by("lrp_edge.runtime.engines.onnx_runtime")


def test_the_runtime_knows_only_what_every_room_may_use(graph: grimp.ImportGraph) -> None:
    rooms = {"lrp_edge.runtime", *graph.find_descendants("lrp_edge.runtime")}
    imported = {name for room in rooms for name in graph.find_modules_directly_imported_by(room)}
    inside = {name for name in imported - rooms if name.partition(".")[0] == "lrp_edge"}
    assert inside == {"lrp_edge.card", "lrp_edge.errors", "lrp_edge.files", "lrp_edge.options"}


def test_no_room_imports_the_command_line(graph: grimp.ImportGraph) -> None:
    verbs = {"lrp_edge.cli", *graph.find_descendants("lrp_edge.cli")}
    importers = {name for verb in verbs for name in graph.find_modules_that_directly_import(verb)}
    assert importers <= verbs | {"lrp_edge.__main__"}
