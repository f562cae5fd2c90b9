from __future__ import annotations

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from images import surface, write_folder

from lrp_edge.datasets import Dataset, Sample, open_dataset, read_image, split
from lrp_edge.errors import LrpEdgeError

TILES = Path(__file__).parents[2] / "shared" / "data" / "magnetic_tile"


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


def test_one_colour_image_makes_the_dataset_colour(tmp_path: Path) -> None:
    write_folder(tmp_path, {"ok": 2, "bad": 2})
    cv2.imwrite(str(tmp_path / "ok" / "colour.png"), np.full((40, 40, 3), (10, 20, 30), np.uint8))
    assert not open_dataset(tmp_path).gray


def test_read_image_gives_frames_as_a_camera_does(tmp_path: Path) -> None:
    bgr = np.zeros((40, 50, 3), np.uint8)
    bgr[..., 0], bgr[..., 2] = 200, 10
    cv2.imwrite(str(tmp_path / "x.png"), bgr)
    assert np.array_equal(read_image(tmp_path / "x.png", gray=False), bgr)
    gray = read_image(tmp_path / "x.png", gray=True)
    assert gray.shape == (40, 50, 1)
    assert gray.dtype == np.uint8
    # Decoders round the weighted sum of the channels differently.
    assert gray[0, 0, 0] == pytest.approx(0.114 * 200 + 0.299 * 10, abs=1)
    (tmp_path / "y.png").write_text("text")
    with pytest.raises(LrpEdgeError, match=r"y\.png"):
        read_image(tmp_path / "y.png", gray=True)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".tif"])
def test_a_file_cut_short_is_found_in_every_format(tmp_path: Path, suffix: str) -> None:
    write_folder(tmp_path, {"ok": 3, "bad": 3}, suffix=suffix)
    bad = cut_short(tmp_path / "bad" / f"001{suffix}")
    with pytest.raises(LrpEdgeError, match="1 of 6 files") as caught:
        open_dataset(tmp_path)
    assert str(bad) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bad_files_are_counted_the_first_named_and_left_out_only_on_demand(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_folder(tmp_path, {"ok": 3, "bad": 3})
    for number in range(7):
        (tmp_path / "ok" / f"a{number}.txt").write_text("no image")
    cv2.imwrite(str(tmp_path / "bad" / "small.png"), np.zeros((31, 64), np.uint8))
    with pytest.raises(LrpEdgeError, match=r"8 of 14 files.*small\.png \(64 by 31 pixels\).* and 3 more.*--skip-bad"):
        open_dataset(tmp_path)
    dataset = open_dataset(tmp_path, skip_bad=True)
    assert len(dataset.samples) == 6
    warning = capsys.readouterr().err
    assert "skipped 8 of 14 files" in warning
    assert "a0.txt" in warning


def test_folders_that_cannot_be_trained_on_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LrpEdgeError, match="no such folder"):
        open_dataset(tmp_path / "missing")
    with pytest.raises(LrpEdgeError, match="no folder of a class"):
        open_dataset(tmp_path)
    write_folder(tmp_path, {"ok": 1})
    with pytest.raises(LrpEdgeError, match="one class, ok"):
        open_dataset(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(LrpEdgeError, match=r"empty: no image"):
        open_dataset(tmp_path)


def paper_dataset(counts: list[int]) -> Dataset:
    classes = tuple(f"c{i}" for i in range(len(counts)))
    samples = [Sample(Path(f"/d/{c}/{k}.png"), c) for c, n in zip(classes, counts, strict=True) for k in range(n)]
    return Dataset(tuple(samples), classes, Path("/d"), True)


@given(
    counts=st.lists(st.integers(1, 40), min_size=2, max_size=5),
    seed=st.integers(0, 9),
    fractions=st.sampled_from([(0.6, 0.1, 0.3), (1.0, 0.0, 0.0), (0.4, 0.3, 0.3)]),
)
def test_split_parts_every_class_by_its_shares(
    counts: list[int], seed: int, fractions: tuple[float, float, float]
) -> None:
    dataset = paper_dataset(counts)
    parts = split(dataset, seed=seed, fractions=fractions)
    together = [sample for part in parts for sample in part.samples]
    assert sorted(together, key=lambda s: s.path) == sorted(dataset.samples, key=lambda s: s.path)
    for index, count in enumerate(counts):
        sizes = [int((part.labels == index).sum()) for part in parts]
        assert sizes[0] >= 1
        if count >= 10:
            assert all(abs(n - f * count) <= 1 for n, f in zip(sizes, fractions, strict=True))
    assert split(dataset, seed=seed, fractions=fractions) == parts


def test_split_depends_on_the_seed_and_refuses_shares_that_are_none() -> None:
    dataset = paper_dataset([40, 40])
    assert split(dataset, seed=0).test != split(dataset, seed=1).test
    for fractions in ((0.5, 0.1, 0.1), (0.0, 0.5, 0.5), (1.2, -0.1, -0.1)):
        with pytest.raises(LrpEdgeError, match="shares"):
            split(dataset, fractions=fractions)
