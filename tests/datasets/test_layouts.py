from __future__ import annotations

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from lrp_edge.datasets import Sample, open_dataset, read_mask
from lrp_edge.errors import LrpEdgeError
from tests.support.images import surface, write_folder

TILES = Path(__file__).parents[3] / "shared" / "data" / "magnetic_tile"


def cut_short(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[:-200])
    return path


def test_a_folder_per_class_is_read_in_order(tmp_path: Path) -> None:
    write_folder(tmp_path, {"scratch": 2, "ok": 3})
    (tmp_path / "ok" / "batch2").mkdir()
    (tmp_path / "ok" / "batch2" / "x.png").write_bytes((tmp_path / "ok" / "000.png").read_bytes())
    (tmp_path / "ok" / ".hidden").write_text("no image")
    (tmp_path / "README.md").write_text("no class")
    dataset = open_dataset(tmp_path)
    assert dataset.classes == ("ok", "scratch")
    assert dataset.names == [
        "ok/000.png", "ok/001.png", "ok/002.png", "ok/batch2/x.png", "scratch/000.png", "scratch/001.png",
    ]  # fmt: skip
    assert dataset.labels.tolist() == [0, 0, 0, 0, 1, 1]
    assert dataset.gray
    assert all(sample.mask is None for sample in dataset.samples)


def test_magnetic_tile_layout_records_pixel_truth_and_never_reads_it(tmp_path: Path) -> None:
    for name in ("MT_Free", "MT_Crack"):
        folder = tmp_path / name / "Imgs"
        folder.mkdir(parents=True)
        for stem in ("a", "b"):
            cv2.imwrite(str(folder / f"{stem}.jpg"), surface(False, 0))
        (folder / "a.png").write_bytes(b"whoever decodes this fails")
    dataset = open_dataset(tmp_path)
    crack = tmp_path / "MT_Crack" / "Imgs"
    assert dataset.samples[:2] == (
        Sample(crack / "a.jpg", "MT_Crack", crack / "a.png"),
        Sample(crack / "b.jpg", "MT_Crack", None),
    )
    assert Counter(sample.label for sample in dataset.samples) == {"MT_Crack": 2, "MT_Free": 2}


@pytest.mark.skipif(not TILES.is_dir(), reason="the magnetic tiles are not there")
def test_the_magnetic_tiles_are_read_as_they_are() -> None:
    dataset = open_dataset(TILES)
    assert dataset.gray
    assert Counter(sample.label for sample in dataset.samples) == {
        "MT_Blowhole": 115, "MT_Break": 85, "MT_Crack": 57, "MT_Fray": 32, "MT_Free": 952, "MT_Uneven": 103,
    }  # fmt: skip
    assert all(s.mask is not None and s.mask.stem == s.path.stem for s in dataset.samples)
    # Six exposures of a part: they are numbered as they were taken, so that gaps part the parts.
    sizes = Counter(Counter(s.group for s in dataset.samples).values())
    assert sizes[6] > 100
    assert "" not in {s.group for s in dataset.samples}


def test_one_colour_image_makes_the_dataset_colour(tmp_path: Path) -> None:
    write_folder(tmp_path, {"ok": 2, "bad": 2})
    cv2.imwrite(str(tmp_path / "ok" / "colour.png"), np.full((40, 40, 3), (10, 20, 30), np.uint8))
    assert not open_dataset(tmp_path).gray


def test_an_image_is_read_in_the_order_that_is_asked_for(tmp_path: Path) -> None:
    bgr = np.zeros((40, 50, 3), np.uint8)
    bgr[..., 0], bgr[..., 2] = 200, 10
    cv2.imwrite(str(tmp_path / "x.png"), bgr)
    sample = Sample(tmp_path / "x.png", "ok")
    assert np.array_equal(sample.read("BGR"), bgr)
    assert np.array_equal(sample.read("RGB"), bgr[..., ::-1])
    assert sample.read("GRAY")[0, 0, 0] == pytest.approx(0.114 * 200 + 0.299 * 10, abs=1)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".tif"])
def test_a_file_cut_short_is_found_in_every_format(tmp_path: Path, suffix: str) -> None:
    write_folder(tmp_path, {"ok": 3, "bad": 3}, suffix=suffix)
    bad = cut_short(tmp_path / "bad" / f"001{suffix}")
    with pytest.raises(LrpEdgeError, match="1 of 6 images") as caught:
        open_dataset(tmp_path)
    assert str(bad) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bad_images_are_counted_the_first_named_and_left_out_only_on_demand(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_folder(tmp_path, {"ok": 3, "bad": 3})
    for number in range(7):
        (tmp_path / "ok" / f"a{number}.png").write_text("no image")
    cv2.imwrite(str(tmp_path / "bad" / "small.png"), np.zeros((31, 64), np.uint8))
    with pytest.raises(LrpEdgeError, match=r"8 of 14 images.*small\.png has 31x64 pixels.* and 3 more.*--skip-bad"):
        open_dataset(tmp_path)
    dataset = open_dataset(tmp_path, skip_bad=True)
    assert len(dataset.samples) == 6
    warning = capsys.readouterr().err
    assert "left out 8 of 14 images" in warning
    assert "a0.png is not a picture" in warning


def test_what_is_beside_images_is_left_out_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_folder(tmp_path, {"ok": 3, "bad": 3})
    for name in ("001.json", "001.txt", "Thumbs.db", "._001.png"):
        (tmp_path / "bad" / name).write_text("no image")
    assert len(open_dataset(tmp_path).samples) == 6
    said = capsys.readouterr().err
    assert (
        said
        == f"lrp-edge: {tmp_path}: read as a folder for each class; left out: 1 files .json, 1 files .txt, 2 hidden\n"
    )


def test_folders_that_cannot_be_trained_on_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LrpEdgeError, match="no such folder"):
        open_dataset(tmp_path / "missing")
    with pytest.raises(LrpEdgeError, match="no class folders"):
        open_dataset(tmp_path)
    write_folder(tmp_path, {"ok": 1})
    with pytest.raises(LrpEdgeError, match="one class, ok"):
        open_dataset(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(LrpEdgeError, match=r"empty: no image"):
        open_dataset(tmp_path)


def test_exposures_of_a_tile_are_a_group(tmp_path: Path) -> None:
    for name, numbers in (("MT_Free", (1000, 1020, 5000)), ("MT_Crack", (1040, 9000, 9249))):
        folder = tmp_path / name / "Imgs"
        folder.mkdir(parents=True)
        for exposure, number in enumerate(numbers):
            cv2.imwrite(str(folder / f"exp{exposure}_num_{number}.jpg"), surface(False, 0))
    groups = {sample.path.stem.split("_")[-1]: sample.group for sample in open_dataset(tmp_path).samples}
    assert groups["1000"] == groups["1020"] == groups["1040"]
    assert groups["9000"] == groups["9249"]
    assert len(set(groups.values())) == 3


def test_masks_lie_beside_the_image_or_in_a_parallel_folder(tmp_path: Path) -> None:
    write_folder(tmp_path / "images", {"ok": 2, "hole": 2})
    truth = np.zeros((64, 80), np.uint8)
    truth[5:9, 7:20] = 255
    cv2.imwrite(str(tmp_path / "images" / "hole" / "001_mask.png"), truth)
    dataset = open_dataset(tmp_path / "images")
    assert dataset.names == ["hole/000.png", "hole/001.png", "ok/000.png", "ok/001.png"]
    assert [sample.mask is not None for sample in dataset.samples] == [False, True, False, False]
    assert np.array_equal(read_mask(dataset.samples[1], (64, 80)), truth > 0)
    assert not read_mask(dataset.samples[2], (64, 80)).any()
    with pytest.raises(LrpEdgeError, match="expected the same size"):
        read_mask(dataset.samples[1], (64, 81))
    (tmp_path / "truth" / "hole").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "truth" / "hole" / "000.png"), truth)
    parallel = open_dataset(tmp_path / "images", masks=tmp_path / "truth")
    assert parallel.samples[0].mask == tmp_path / "truth" / "hole" / "000.png"
    with pytest.raises(LrpEdgeError, match="no such folder"):
        open_dataset(tmp_path / "images", masks=tmp_path / "none")


def test_a_table_names_label_mask_group_and_part(tmp_path: Path) -> None:
    write_folder(tmp_path / "images", {"ok": 2, "hole": 2})
    rows = [
        "path,label,mask,group,split",
        "images/ok/000.png,good,,a,train",
        "images/hole/000.png,hole,images/ok/001.png,b,test",
    ]
    table = tmp_path / "table.csv"
    table.write_text("\n".join(rows))
    dataset = open_dataset(table)
    assert dataset.classes == ("good", "hole")
    assert dataset.names == ["images/ok/000.png", "images/hole/000.png"]
    assert dataset.samples[1] == Sample(
        tmp_path / "images/hole/000.png", "hole", tmp_path / "images/ok/001.png", "b", "test"
    )
    for bad, message in (
        ("path,kind\na.png,ok", "line 2.*expected at least path and label"),
        ("path,label,mask\nimages/ok/000.png,ok,nothing.png", "line 2: no mask"),
        ("path,label\nimages/ok/000.png,ok\nnothing.png,hole", r"1 of 2 images.*nothing\.png"),
        ("path,label\nimages/ok/000.png,ok", "one class, ok"),
        (
            "path,label\nimages/ok/000.png,ok\nimages/./ok/000.png,hole",
            "lines 2 and 3: .* two rows that differ; keep one",
        ),
    ):
        table.write_text(bad)
        with pytest.raises(LrpEdgeError, match=message):
            open_dataset(table)
    table.write_text(
        " Path , LABEL \n images/ok/000.png ,  ok\n images/ok/000.png,ok \nimages/hole/000.png,\thole , x\n"
    )
    dataset = open_dataset(table)
    assert (dataset.classes, dataset.names) == (("hole", "ok"), ["images/ok/000.png", "images/hole/000.png"])
    table.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(LrpEdgeError, match="not a readable table"):
        open_dataset(table)


def test_a_pattern_names_the_group(tmp_path: Path) -> None:
    write_folder(tmp_path, {"ok": 12, "hole": 2})
    groups = {s.path.name: s.group for s in open_dataset(tmp_path, group=r"ok/(\d\d)").samples}
    assert (groups["003.png"], groups["011.png"]) == ("00", "01")
    hole = open_dataset(tmp_path, group=r"ok/(\d\d)").samples[0]
    assert hole.group == ""
    with pytest.raises(LrpEdgeError, match="not a regular expression"):
        open_dataset(tmp_path, group="(")
