from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from lrp_edge.datasets import Dataset, open_dataset, read_clicks, read_mask, simulate_clicks, write_clicks
from lrp_edge.errors import LrpEdgeError
from tests.support.images import write_folder


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    write_folder(tmp_path / "data", {"ok": 2, "hole": 6})
    generator = np.random.default_rng(0)
    for number in range(6):
        truth = np.zeros((64, 80), np.uint8)
        for row in (12, 40):
            cv2.circle(truth, (int(generator.integers(12, 68)), row), int(generator.integers(4, 9)), 255, -1)
        truth[60, 70:75] = 255
        cv2.imwrite(str(tmp_path / "data" / "hole" / f"{number:03}_mask.png"), truth)
    return open_dataset(tmp_path / "data")


def test_each_region_that_can_be_seen_gets_one_click_inside(dataset: Dataset) -> None:
    clicks = simulate_clicks(dataset, seed=0)
    assert set(clicks) == {f"hole/{number:03}.png" for number in range(6)}
    for name, sample in zip(dataset.names, dataset.samples, strict=True):
        if name not in clicks:
            continue
        count, regions = cv2.connectedComponents(read_mask(sample, (64, 80)).astype(np.uint8))
        hit = [regions[int(row), int(column)] for row, column in clicks[name]]
        assert count == 4
        assert 0 not in hit
        assert len(set(hit)) == len(hit) == 2
    again, other = simulate_clicks(dataset, seed=0), simulate_clicks(dataset, seed=1)
    assert all(np.array_equal(clicks[name], again[name]) for name in clicks)
    assert any(not np.array_equal(clicks[name], other[name]) for name in clicks)


def test_clicks_survive_their_file(dataset: Dataset, tmp_path: Path) -> None:
    clicks = simulate_clicks(dataset, seed=0)
    write_clicks(tmp_path / "clicks.csv", clicks)
    assert (tmp_path / "clicks.csv").read_text().splitlines()[0] == "path,x,y"
    found = read_clicks(tmp_path / "clicks.csv", dataset)
    assert all(np.array_equal(clicks[name], found[name]) for name in clicks)
    part = read_clicks(tmp_path / "clicks.csv", dataset.subset([0, 6]))
    assert set(part) == {"hole/000.png"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,x\nhole/000.png,3", "the clicks cannot be read"),
        ("path,x,y\nhole/000.png,a,3", "the clicks cannot be read"),
        ("path,x,y\nother.png,1,3", "none of its 1 clicks is on an image"),
        ("path,x,y\n", "none of its 0 clicks"),
    ],
)
def test_clicks_that_cannot_be_used(dataset: Dataset, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "clicks.csv").write_text(text)
    with pytest.raises(LrpEdgeError, match=message):
        read_clicks(tmp_path / "clicks.csv", dataset)
