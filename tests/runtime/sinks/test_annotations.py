"""What is written for labelling tools is read again as the very same masks, by other readers and by ours."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from lrp_edge.datasets import open_dataset, read_mask
from lrp_edge.errors import LrpEdgeError
from lrp_edge.runtime.line import build, run
from lrp_edge.runtime.sinks.annotations import Annotations, outlines
from tests.support.scripted import lines, result

SIZE = (48, 64)
FORMS = ["coco", "labelme", "labelstudio"]


def mask_of(seed: int) -> NDArray[np.uint8]:
    """Return a mask of a few regions without holes, uint8, 0 or 255."""
    generator, mask = np.random.default_rng(seed), np.zeros(SIZE, np.uint8)
    for _ in range(3):
        centre = tuple(int(value) for value in generator.integers(0, 60, 2))
        radii = tuple(int(value) for value in generator.integers(0, 9, 2))
        cv2.ellipse(mask, centre, radii, float(generator.integers(0, 180)), 0, 360, 255, -1)
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(mask, contours, -1, 255, -1)


@given(seed=st.integers(0, 100_000))
@settings(max_examples=100, deadline=None)
def test_outlines_are_filled_to_the_same_mask(seed: int) -> None:
    mask = mask_of(seed)
    polygons = [[value for corner in corners for value in corner] for corners in outlines(mask)]
    filled = np.zeros(SIZE, bool)
    if polygons:
        filled = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, *SIZE))) > 0
    assert np.array_equal(filled, mask > 0)


def written(folder: Path, form: str, seeds: list[int], order: str = "BGR", **more: Any) -> list[NDArray[np.uint8]]:
    """Write a frame of each seed, every other one decided OK, and return their masks."""
    sink = Annotations(folder, order, form, ("crack", "dent"), **more)  # type: ignore[arg-type]
    sink.open()
    masks = []
    for index, seed in enumerate(seeds):
        one = result(index)
        mask = mask_of(seed) if index % 2 else np.zeros(SIZE, np.uint8)
        image = np.random.default_rng(seed).integers(0, 255, (*SIZE, 1 if order == "GRAY" else 3), np.uint8)
        one.frame = dataclasses.replace(one.frame, image=image, source=f"in/part {index}.png")
        assert one.segmentation is not None
        one.segmentation = dataclasses.replace(
            one.segmentation, mask=mask, defect=index % 2 == 1, name="dent" if index % 2 else "ok"
        )
        if sink.wants(one):
            sink.accept(one)
            sink.write(one)
            assert cv2.imread(str(folder / one.files["annotated"])) is not None
        masks.append(mask)
    sink.close()
    return masks


def annotated(folder: Path) -> None:
    """Accept all predictions, as an export of Label Studio has them when a person has."""
    path = folder / "annotations" / "tasks.json"
    tasks = json.loads(path.read_text())
    for task in tasks:
        task["annotations"] = [{"result": task.pop("predictions")[0]["result"], "was_cancelled": False}]
    path.write_text(json.dumps(tasks))


@pytest.mark.parametrize("order", ["BGR", "RGB", "GRAY"])
@pytest.mark.parametrize("form", FORMS)
def test_what_a_run_wrote_is_data_to_train_on(form: str, order: str, tmp_path: Path) -> None:
    masks = written(tmp_path, form, [1, 2, 3, 4], order)
    if form == "labelstudio":
        with pytest.raises(LrpEdgeError, match="no class folders"):
            open_dataset(tmp_path / "annotations")
        annotated(tmp_path)
    dataset = open_dataset(tmp_path / "annotations")
    assert [sample.path.name for sample in dataset.samples] == [f"00000{index}_part_{index}.png" for index in range(4)]
    assert [sample.label for sample in dataset.samples] == ["ok", "dent", "ok", "dent"]
    for sample, mask, seed in zip(dataset.samples, masks, [1, 2, 3, 4], strict=True):
        assert np.array_equal(read_mask(sample, SIZE), mask > 0)
        pixels = np.random.default_rng(seed).integers(0, 255, (*SIZE, 1 if order == "GRAY" else 3), np.uint8)
        assert np.array_equal(sample.read(order), pixels)


def test_coco_is_what_pycocotools_reads(tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    masks = written(tmp_path, "coco", [5, 6, 7, 8])
    read = COCO(str(tmp_path / "annotations" / "annotations.json"))
    assert [category["name"] for category in read.loadCats(read.getCatIds())] == ["crack", "dent"]
    for number, mask in zip(read.getImgIds(), masks, strict=True):
        shapes = read.loadAnns(read.getAnnIds(imgIds=number))
        union = np.any([read.annToMask(shape) for shape in shapes], axis=0) if shapes else np.zeros(SIZE, bool)
        assert np.array_equal(union, mask > 0)
        for shape in shapes:
            assert abs(shape["area"] - read.annToMask(shape).sum()) <= 0.5 * len(shape["segmentation"][0]) + 4


@pytest.mark.parametrize("form", FORMS)
def test_defects_alone_and_frames_of_an_earlier_run(form: str, tmp_path: Path) -> None:
    written(tmp_path, form, [1, 2, 3, 4], only="defects")
    folder = tmp_path / "annotations"
    pictures = sorted(path.name for path in folder.rglob("*.png"))
    assert pictures == ["000001_part_1.png", "000003_part_3.png"]
    (folder / "mine.json").write_text("{}")
    written(tmp_path, form, [9, 9], existing="append")
    assert len(list(folder.rglob("*.png"))) == 3
    if form == "coco":
        content = json.loads((folder / "annotations.json").read_text())
        assert len(content["images"]) == 3
        assert len({image["file_name"] for image in content["images"]}) == 3
    written(tmp_path, form, [9], existing="overwrite")
    assert len(list(folder.rglob("*.png"))) == 1
    assert (folder / "mine.json").exists()


def test_a_line_writes_them_and_says_where_they_belong(model: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for index in range(3):
        cv2.imwrite(str(tmp_path / "in" / f"{index}.png"), np.full((32, 32, 3), 60 + 60 * index, np.uint8))
    output = {"folder": tmp_path / "out", "annotations": "labelme"}
    values = {"model": model, "threads": 1, "source": {"uri": str(tmp_path / "in")}, "output": output}
    run(build(values))
    for line in lines(tmp_path / "out"):
        assert (tmp_path / "out" / line["annotated"]).with_suffix(".json").is_file()
    with pytest.raises(LrpEdgeError, match="give -o FOLDER"):
        run(build(values | {"output": {"annotations": "coco"}}))
