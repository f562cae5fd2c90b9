"""The arrows between the rooms, as ``[tool.importlinter]`` of pyproject.toml states them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import grimp
import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]


SIDE_BY_SIDE = ("lrp_edge.training", "lrp_edge.evaluation", "lrp_edge.export")


def contracts() -> list[dict[str, Any]]:
    read: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
    found: list[dict[str, Any]] = read["tool"]["importlinter"]["contracts"]
    return found


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("lrp_edge", include_external_packages=True, cache_dir=None)


def test_the_contracts_are_kept() -> None:
    # A process of its own: import-linter configures logging, and with it switches off the loggers of other tests.
    program = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_graph_reaches_through_the_symlinks(graph: grimp.ImportGraph) -> None:
    assert "torch" in graph.find_modules_directly_imported_by("lrp_edge.export.onnx_file")
    assert "onnxruntime" in graph.find_modules_directly_imported_by("lrp_edge.runtime.engines.onnx_runtime")


def test_the_runtime_knows_only_what_every_room_may_use(graph: grimp.ImportGraph) -> None:
    rooms = {"lrp_edge.runtime", *graph.find_descendants("lrp_edge.runtime")}
    imported = {name for room in rooms for name in graph.find_modules_directly_imported_by(room)}
    inside = {name for name in imported - rooms if name.partition(".")[0] == "lrp_edge"}
    shared = ("card", "decision", "errors", "files", "options", "pictures")
    assert {name.split(".")[1] for name in inside} == set(shared)


def test_one_room_decodes_pictures() -> None:
    calls = re.compile(r"\b(imread|imreadmulti|imdecode|imdecodemulti|haveImageReader|Image\.open|decode_jpeg)\b")
    found = {path.parent.name for path in (ROOT / "lrp_edge").rglob("*.py") if calls.search(path.read_text())}
    assert found == {"pictures"}


def test_every_room_has_its_place_in_the_contract(graph: grimp.ImportGraph) -> None:
    contract = contracts()[0]
    named = {room.strip() for layer in contract["layers"] for room in layer.split("|")}
    rooms = {name.partition(".")[2] for name in graph.find_children("lrp_edge")}
    assert named == rooms
    assert contract["exhaustive"]


def test_training_evaluation_and_export_meet_only_where_the_contract_says_why(graph: grimp.ImportGraph) -> None:
    """An exception that is not needed any more would let the next one in unseen."""
    rooms = {room: {room, *graph.find_descendants(room)} for room in SIDE_BY_SIDE}
    sideways = {
        f"{importer} -> {imported}"
        for room, modules in rooms.items()
        for importer in modules
        for imported in graph.find_modules_directly_imported_by(importer)
        if any(imported in others for other, others in rooms.items() if other != room)
    }
    assert sideways == set(contracts()[0]["ignore_imports"])


def test_no_room_imports_the_command_line(graph: grimp.ImportGraph) -> None:
    verbs = {"lrp_edge.cli", *graph.find_descendants("lrp_edge.cli")}
    importers = {name for verb in verbs for name in graph.find_modules_that_directly_import(verb)}
    assert importers <= verbs | {"lrp_edge.__main__"}
