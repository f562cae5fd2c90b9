"""What a fresh interpreter imports, and what it does not."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "cv2", "onnxruntime", "onnx", "lightning", "kornia", "sklearn", "PIL")
SHOW = f"import sys; print(*sorted(set({HEAVY!r}) & set(sys.modules)))"


def imported_by(code: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", f"{code}\n{SHOW}"], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_the_probe_sees_an_import() -> None:
    assert "onnx" in imported_by("import onnx")


@pytest.mark.parametrize(
    "code",
    [
        "import lrp_edge",
        "import lrp_edge; lrp_edge.runtime; lrp_edge.export",
        "import lrp_edge.runtime",
        "import lrp_edge.runtime.result",
        "import lrp_edge.evaluation",
        "import lrp_edge.cli",
    ],
)
def test_nothing_heavy_is_imported(code: str) -> None:
    assert imported_by(code) == set()


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from lrp_edge.cli import main; sys.argv = ['lrp-edge', '--help']\n"
        "try: main()\nexcept SystemExit as stop: assert stop.code in (0, None), stop.code"
    )
    assert imported_by(code) == set()


@pytest.mark.parametrize("module", ["segmenter", "sources", "sinks.results", "overlay", "line", "viewer"])
def test_runtime_runs_without_torch_and_onnx(module: str) -> None:
    assert not imported_by(f"import lrp_edge.runtime.{module}") & {"torch", "onnx", "lightning"}


@pytest.mark.parametrize("module", ["lrp_edge", "lrp_edge.runtime", "lrp_edge.export", "lrp_edge.evaluation"])
def test_public_names_are_listed_before_they_are_imported(module: str) -> None:
    code = f"import {module} as room; assert set(room.__all__) <= set(dir(room)), dir(room)"
    assert imported_by(code) == set()
