from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from lrp_edge.cli import app
from lrp_edge.errors import LrpEdgeError
from tests.support.images import write_folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "data", {"ok": 12, "hole": 12})


def lrp_edge(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_check_says_what_is_there_and_fails_on_faults(data: Path, tmp_path: Path) -> None:
    output = lrp_edge("data", "check", data, "--json", tmp_path / "report.json")
    assert "width 80 to 80 (median 80), height 64 to 64 (median 64) pixels, gray" in output
    assert json.loads((tmp_path / "report.json").read_text())["images"] == {"hole": 12, "ok": 12}
    bad = data / "ok" / "000.png"
    bad.write_bytes(bad.read_bytes()[:80])
    with pytest.raises(LrpEdgeError, match=r"1 unreadable images; correct them .*--skip-bad"):
        lrp_edge("data", "check", data)


def test_parts_are_written_and_checked_for_copies(data: Path, tmp_path: Path) -> None:
    assert "14 train, 2 val, 8 test" in lrp_edge("data", "split", data, "-o", tmp_path / "split.json")
    assert "train: " in lrp_edge("data", "check", data, "--split", tmp_path / "split.json")
    lrp_edge("data", "split", data, "-o", tmp_path / "folds", "--folds", 3, "--grouped", "--group", r"(\d)\.png")
    parts = [json.loads((tmp_path / "folds" / f"fold-{i}.json").read_text()) for i in range(3)]
    assert sorted(name for part in parts for name in part["test"]) == sorted(
        f"{name}/{i:03}.png" for name in ("hole", "ok") for i in range(12)
    )


def test_clicks_come_from_masks(data: Path, tmp_path: Path) -> None:
    with pytest.raises(LrpEdgeError, match="no image has pixel truth"):
        lrp_edge("data", "clicks", data, "-o", tmp_path / "clicks.csv")
    truth = np.zeros((64, 80), np.uint8)
    truth[20:30, 30:50] = 255
    cv2.imwrite(str(data / "hole" / "003_mask.png"), truth)
    assert "1 clicks on 1 images" in lrp_edge("data", "clicks", data, "-o", tmp_path / "clicks.csv")
    name, x, y = (tmp_path / "clicks.csv").read_text().splitlines()[1].split(",")
    assert name == "hole/003.png"
    assert truth[int(y), int(x)]


def test_drawn_data_can_be_trained_on(tmp_path: Path) -> None:
    lrp_edge("data", "draw", tmp_path / "line", "--count", 16)
    assert "ok" in lrp_edge("data", "check", tmp_path / "line" / "images", "--masks", tmp_path / "line" / "masks")


def test_a_confounded_line_comes_with_its_parts(tmp_path: Path) -> None:
    line = tmp_path / "line"
    said = lrp_edge("data", "draw", line, "--count", 48, "--confounded")
    assert f"next: lrp-edge train {line / 'images'} -o RUN --split {line / 'split.json'}" in said.replace("\n", "")
    assert "test: " in lrp_edge("data", "check", line / "images", "--split", line / "split.json")
