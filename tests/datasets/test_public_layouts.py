"""Data sets as they come: each is found by what is there, and nothing of it is taken for what it is not."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from lrp_edge.datasets import open_dataset, read_mask, split
from lrp_edge.datasets.check import check_data
from lrp_edge.datasets.layouts import find_samples
from lrp_edge.errors import LrpEdgeError
from tests.support.images import write_folder
from tests.support.layouts import LAYOUTS, image, mask, mvtec, visa

OK = {"good", "ok", "Normal"}
COUNTS = {"MVTec AD": (8, 4), "KolektorSDD2": (8, 8), "YOLO": (16, 16)}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_data_set_is_what_it_is_said_to_be(name: str, tmp_path: Path) -> None:
    layout, write = LAYOUTS[name]
    write(tmp_path / "set", 4)
    dataset = open_dataset(tmp_path / "set")
    assert find_samples(tmp_path / "set").layout == layout
    counts = Counter(sample.label in OK for sample in dataset.samples)
    assert (counts[True], counts[False]) == COUNTS.get(name, (4, 4))
    for sample in dataset.samples:
        # The disc is darker than anything else.
        disc = sample.read("GRAY")[..., 0] < 80
        assert disc.any() == (sample.label not in OK)
        if name != "YOLO" and disc.any():
            assert sample.mask is not None
            found = read_mask(sample, disc.shape)
            assert (found & disc).sum() / (found | disc).sum() > 0.9


@pytest.mark.parametrize("name", [name for name in LAYOUTS if name != "YOLO"])
def test_a_check_finds_no_fault_and_all_pixel_truth(name: str, tmp_path: Path) -> None:
    layout, write = LAYOUTS[name]
    write(tmp_path, 4)
    report = check_data(tmp_path)
    assert (report.layout, report.faults) == (layout, [])
    assert report.pixel_truth == (COUNTS.get(name, (4, 4))[1],) * 2


def test_named_parts_are_kept_and_a_missing_validation_is_taken_from_training(tmp_path: Path) -> None:
    LAYOUTS["YOLO"][1](tmp_path / "yolo", 4)
    parts = split(open_dataset(tmp_path / "yolo"))
    assert [len(part.samples) for part in parts] == [16, 8, 8]
    assert all(Path(name).parts[0] == part for part in parts._fields for name in getattr(parts, part).names)
    LAYOUTS["KolektorSDD2"][1](tmp_path / "ksdd2", 10)
    parts = split(open_dataset(tmp_path / "ksdd2"))
    assert [len(part.samples) for part in parts] == [26, 4, 10]
    assert all(Path(name).parts[0] == "test" for name in parts.test.names)
    assert set(parts.val.labels) == {0, 1}


def test_the_parts_of_mvtec_which_hold_no_defects_to_learn_are_not_kept(tmp_path: Path) -> None:
    mvtec(tmp_path, 10)
    assert {sample.part for sample in open_dataset(tmp_path).samples} == {""}
    assert 1 in split(open_dataset(tmp_path)).train.labels


def test_a_piece_of_kolektor_is_a_group(tmp_path: Path) -> None:
    LAYOUTS["KolektorSDD"][1](tmp_path, 3)
    assert [sample.group for sample in open_dataset(tmp_path).samples] == [
        "kos00",
        "kos00",
        "kos01",
        "kos01",
        "kos02",
        "kos02",
    ]


@pytest.mark.parametrize("write", [mvtec, visa])
def test_several_data_sets_are_refused_with_their_names(write: object, tmp_path: Path) -> None:
    for name in ("bottle", "cable", "screw"):
        write(tmp_path / name, 2)  # type: ignore[operator]
    with pytest.raises(LrpEdgeError, match=r"has 3 data sets \(bottle, cable, screw\); give one, as .*bottle"):
        open_dataset(tmp_path)


def test_masks_under_other_names_are_paired_or_refused_never_ignored(tmp_path: Path) -> None:
    write_folder(tmp_path / "images", {"ok": 2, "hole": 3})
    for number in range(2):
        mask(tmp_path / "truth/hole" / f"{number:03}_mask.png", np.full((64, 80), 255, np.uint8))
    dataset = open_dataset(tmp_path / "images", masks=tmp_path / "truth")
    assert [sample.mask is not None for sample in dataset.samples] == [True, True, False, False, False]
    assert check_data(tmp_path / "images", masks=tmp_path / "truth").pixel_truth == (2, 3)
    flat = tmp_path / "flat"
    mask(flat / "002.png", np.full((64, 80), 255, np.uint8))
    mask(flat / "002_GT.png", np.full((64, 80), 255, np.uint8))
    with pytest.raises(LrpEdgeError, match=r"both .*002\.png and .*002_GT\.png may be its mask|both .*_GT\.png and"):
        open_dataset(tmp_path / "images", masks=flat)
    (tmp_path / "wrong").mkdir()
    for fill in (False, True):
        if fill:
            mask(tmp_path / "wrong" / "part-1.png", np.full((64, 80), 255, np.uint8))
        with pytest.raises(LrpEdgeError, match=r"no mask is of an image; expected masks under the images' names"):
            open_dataset(tmp_path / "images", masks=tmp_path / "wrong")


def test_a_class_that_is_called_like_masks_is_a_class(tmp_path: Path) -> None:
    write_folder(tmp_path, {"ok": 2, "label": 3})
    dataset = open_dataset(tmp_path)
    assert dataset.classes == ("label", "ok")
    assert len(dataset.samples) == 5
    with pytest.raises(LrpEdgeError, match=r"000\.png may be the mask of .* and of .*; put masks into a folder"):
        open_dataset(write_folder(tmp_path / "images", {"ok": 2, "hole": 2}), masks=tmp_path / "label")


def test_masks_without_an_image_are_counted(tmp_path: Path) -> None:
    write_folder(tmp_path, {"ok": 2, "hole": 2})
    mask(tmp_path / "hole" / "masks" / "007.png", np.zeros((64, 80), np.uint8))
    found = find_samples(tmp_path)
    assert (len(found.samples), dict(found.left)) == (4, {"masks without an image": 1})


def test_deep_images_are_read_by_their_bits(tmp_path: Path) -> None:
    for name in ("ok", "hole"):
        for number in range(2):
            image(tmp_path / name / f"{number}.png", name == "hole", number)
            pixels = cv2.imread(str(tmp_path / name / f"{number}.png"), cv2.IMREAD_GRAYSCALE)
            cv2.imwrite(str(tmp_path / name / f"{number}.png"), pixels.astype(np.uint16) << 4)
    with pytest.raises(LrpEdgeError, match=r"4 of 4 images that cannot be used: .*--bits"):
        open_dataset(tmp_path)
    dataset = open_dataset(tmp_path, bits=12)
    assert dataset.gray
    assert dataset.samples[0].read("GRAY").max() > 100
