"""The demo end to end on a short line: what it leaves, and that the page says what the table says."""

import csv
import json
import re
from importlib.util import find_spec

import cv2
import numpy as np
import pytest

from lrp_edge.demo import demo
from lrp_edge.synthetic import SIZE


@pytest.fixture(scope="module")
def line(tmp_path_factory):
    folder = tmp_path_factory.mktemp("line")
    said = []
    page = demo(folder, frames=16, say=said.append)
    return folder, page.read_text(), said


def test_everything_is_there(line):
    folder, page, said = line
    rows = [json.loads(text) for text in (folder / "results.jsonl").read_text().splitlines()]
    assert [row["frame"] for row in rows] == list(range(16))
    for row in rows:
        mask = cv2.imread(str(folder / row["mask"]), cv2.IMREAD_GRAYSCALE)
        assert mask.shape == SIZE
        assert bool(mask.any()) <= row["defect"]
    assert len(list(folder.glob("*.engine"))) == (find_spec("tensorrt_rtx") is not None)
    assert any("verified against PyTorch" in text for text in said)
    links = re.findall(r'(?:href|src)="([^"]+)"', page)
    assert len(links) > 100
    assert all((folder / link).is_file() for link in links)


def test_the_page_says_what_the_table_says(line):
    folder, page, _ = line
    with (folder / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    accuracy = np.mean([row["drawn"] == row["decided"] for row in rows])
    iou = np.mean([float(row["iou"]) for row in rows if row["drawn"] != "ok"])
    assert f"<b>{100 * accuracy:.1f} %</b><span>right class" in page
    assert float(re.search(r"<b>([\d.]+)</b><span>mean IoU", page)[1]) == pytest.approx(iou, abs=1e-3)
    overlap = union = 0
    for row in rows:
        truth = cv2.imread(str(folder / "truth" / f"{int(row['frame']):06d}_{row['drawn']}.png"), 0) > 0
        mask = cv2.imread(str(folder / "masks" / f"{int(row['frame']):06d}_{row['drawn']}.png"), 0) > 0
        expected = (truth & mask).sum() / max(1, (truth | mask).sum()) if (truth | mask).any() else 1
        assert float(row["iou"]) == pytest.approx(expected, abs=1e-4)
        if row["drawn"] != "ok":
            overlap, union = overlap + (truth & mask).sum(), union + (truth | mask).sum()
    assert float(re.search(r"<b>([\d.]+)</b><span>IoU of masks, all", page)[1]) == pytest.approx(
        overlap / union, abs=1e-3
    )


def test_the_shipped_classifier_knows_the_line(line):
    folder, _, _ = line
    with (folder / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert np.mean([row["drawn"] == row["decided"] for row in rows]) >= 0.85
    assert np.mean([float(row["iou"]) for row in rows if row["drawn"] != "ok"]) >= 0.3
