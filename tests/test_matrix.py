"""The script of the deployment matrix, on the smallest model: what it measures, tells and remembers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import lrp_edge
from tools import matrix

pytest.importorskip("tensorrt_rtx")

CHECKPOINT = Path(lrp_edge.__file__).parent / "assets" / "surfaces.safetensors"


def test_every_combination_is_a_case() -> None:
    assert len(set(matrix.cases(matrix.MODELS))) == 3 * 4 * 3 * 2


def test_a_case_is_built_for_each_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = matrix.Case("surfaces", "fp32", "fixed", False)
    monkeypatch.setattr(matrix, "SIZE", (64, 64))
    monkeypatch.setattr(matrix, "cases", lambda models: [case])
    log = tmp_path / "matrix.jsonl"
    log.write_text(
        json.dumps({**vars(case), "gpu": "sm75", "engine_mb": 0, "seconds": 0, "error": "of\nbefore"}) + '\n{"mod'
    )
    matrix.work(["surfaces"], ["sm75", "sm86"], log, CHECKPOINT)
    first, second = matrix.read_rows(log)
    assert (first["error"], second["gpu"], second["error"]) == ("of\nbefore", "sm86", "")
    assert second["engine_mb"] > 0.01
    text = matrix.table([first, second])
    assert "1 of 2 engines build" in text
    assert f"| surfaces | fp32 | fixed | no | no: error 1 | {second['engine_mb']:.1f} MB" in text
    assert text.endswith("\n1. of\n")


@pytest.mark.parametrize("gate", [False, True])
def test_int8_is_calibrated_on_noise_and_builds(gate: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrix, "SIZE", (64, 64))
    rows = matrix.measure(matrix.Case("surfaces", "int8", "fixed", gate), ["sm75", "sm86"], CHECKPOINT)
    assert [row["error"] for row in rows] == ["", ""]
    assert "calibrated on noise" in matrix.table(rows)


def test_bfloat16_is_not_asked_of_turing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrix, "SIZE", (64, 64))
    first, second = matrix.measure(matrix.Case("surfaces", "bf16", "fixed", False), ["sm75", "sm86"], CHECKPOINT)
    assert (first["error"], second["error"]) == ("no bfloat16 on sm75", "")


def test_what_cannot_be_exported_is_in_the_table(tmp_path: Path) -> None:
    (tmp_path / "none.safetensors").write_bytes(b"nothing")
    (row,) = matrix.measure(matrix.Case("none", "fp32", "fixed", False), ["sm86"], tmp_path / "none.safetensors")
    assert row["error"].startswith("export: ")


@pytest.mark.thorough
@pytest.mark.parametrize(
    "case",
    [
        matrix.Case("ResNet-18", "fp32", "dynamic HxW", True),  # shapes of the branches
        matrix.Case("ResNet-50", "fp16", "fixed", True),  # casts inside the branch
    ],
)
def test_gated_residual_networks_that_the_compiler_refused(case: matrix.Case) -> None:
    (row,) = matrix.measure(case, ["sm86"])
    assert row["error"] == ""
