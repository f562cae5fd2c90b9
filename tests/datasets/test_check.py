"""What ``lrp-edge data check`` finds, on data with every fault that it knows."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from lrp_edge.datasets import open_dataset, split, write_split
from lrp_edge.datasets.check import check_data
from tests.support.images import surface, write_folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "data", {"ok": 10, "hole": 10})


def with_mask(image: Path, truth: np.ndarray) -> None:
    cv2.imwrite(str(image.with_name(image.stem + "_mask.png")), truth)


def test_sound_data_have_no_fault(data: Path) -> None:
    truth = np.zeros((64, 80), np.uint8)
    truth[:16] = 255
    with_mask(data / "hole" / "000.png", truth)
    report = check_data(data, group=r"/(\d\d)")
    assert report.faults == []
    assert (report.images, report.masks) == ({"hole": 10, "ok": 10}, {"hole": 1, "ok": 0})
    assert (report.widths, report.heights, report.gray) == ((80, 80, 80), (64, 64, 64), True)
    assert report.coverage == {"hole": 0.25}
    assert report.groups == {"hole": 1, "ok": 1}
    assert report.duplicates == []


def test_each_fault_is_named(data: Path) -> None:
    (data / "ok" / "000.png").write_bytes((data / "ok" / "000.png").read_bytes()[:90])
    with_mask(data / "ok" / "001.png", np.full((64, 80), 255, np.uint8))
    with_mask(data / "hole" / "002.png", np.zeros((64, 80), np.uint8))
    with_mask(data / "hole" / "003.png", np.zeros((10, 10), np.uint8))
    shutil.copy(data / "hole" / "004.png", data / "ok" / "copy.png")
    report = check_data(data)
    (said,) = report.unreadable
    assert said.startswith(f"{data / 'ok' / '000.png'} is damaged or cut short")
    assert report.marked_ok == [str(data / "ok" / "001.png")]
    assert report.empty_masks == [str(data / "hole" / "002.png")]
    assert len(report.bad_masks) == 1
    assert "003_mask.png" in report.bad_masks[0]
    assert report.duplicates == [["hole/004.png", "ok/copy.png"]]
    assert report.faults == [
        "1 unreadable images",
        "1 masks that do not fit their image",
        "1 defect images with an empty mask",
        "1 images with a mask of every pixel",
        "1 OK images with a mask that is not empty",
    ]
    assert json.loads(report.to_json())["faults"] == report.faults
    assert check_data(data, skip_bad=True).faults == report.faults[1:]


def test_near_copies_and_groups_across_parts_are_found(tmp_path: Path) -> None:
    for name in ("ok", "hole"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(12):
            smooth = cv2.resize(surface(False, number), (160, 128), interpolation=cv2.INTER_CUBIC)
            smooth = cv2.GaussianBlur(smooth, (0, 0), 6 + (name == "ok"))
            for exposure, gain in enumerate((1.0, 0.6)):
                pixels = np.clip(smooth * gain, 0, 255).astype(np.uint8)
                cv2.imwrite(str(tmp_path / "data" / name / f"part{number}_{exposure}.png"), pixels)
    dataset = open_dataset(tmp_path / "data", group=r"(\w+/part\d+)_")
    for grouped in (False, True):
        parts = split(dataset, seed=0, grouped=grouped)
        write_split(tmp_path / "split.json", parts)
        report = check_data(tmp_path / "data", group=r"(\w+/part\d+)_", split=tmp_path / "split.json")
        pairs = [{Path(name).stem.split("_")[0] for name in pair} for pair in report.across]
        assert all(len(pair) == 1 for pair in pairs)
        assert bool(report.groups_across) is bool(pairs) is not grouped
    assert report.split["test"]["ok"] == int((parts.test.labels == 1).sum())
