"""The synthetic line: deterministic, labelled by construction."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrp_edge import synthetic
from lrp_edge.datasets import open_dataset, read_split
from lrp_edge.errors import LrpEdgeError
from lrp_edge.synthetic import KINDS, draw, draw_soiled, write_confounded, write_dataset


@settings(max_examples=60)
@given(st.sampled_from(KINDS), st.integers(0, 2**40), st.integers(64, 200), st.integers(64, 200))
def test_parts(kind, seed, height, width):
    image, mask = draw(kind, seed, (height, width))
    again = draw(kind, seed, (height, width))
    assert np.array_equal(image, again[0])
    assert np.array_equal(mask, again[1])
    assert image.dtype == mask.dtype == np.uint8
    assert image.shape == mask.shape == (height, width)
    assert set(np.unique(mask)) <= {0, 255}
    assert bool(mask.any()) == (kind != "ok")
    assert mask.mean() < 255 * 0.2


def test_defects_stand_out_from_their_surroundings():
    for kind in ("blowhole", "crack"):
        darker = []
        for seed in range(20):
            image, mask = draw(kind, seed)
            darker.append(image[mask == 0].mean() - image[mask > 0].mean())
        assert np.mean(darker) > 20


def test_a_dataset_is_a_training_folder(tmp_path):
    write_dataset(tmp_path / "a", 16, seed=3)
    write_dataset(tmp_path / "b", 16, seed=3)
    dataset = open_dataset(tmp_path / "a" / "images")
    assert dataset.classes == tuple(sorted(KINDS))
    assert sum(sample.label == "ok" for sample in dataset.samples) == 8
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.png"))
    assert len(files) == 32
    assert all((tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes() for file in files)


def test_what_cannot_be_drawn(tmp_path):
    with pytest.raises(LrpEdgeError, match="cannot draw 'dent'"):
        draw("dent", 0)
    with pytest.raises(LrpEdgeError, match="expected 8 or more"):
        write_dataset(tmp_path, 7)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(KINDS), st.integers(0, 2**40), st.booleans())
def test_soil_changes_the_surface_and_not_the_defect(kind, seed, soiled):
    clean, mask = draw(kind, seed)
    image, same, soil = draw_soiled(kind, seed, soiled)
    assert np.array_equal(same, mask)
    assert bool(soil.any()) == soiled
    if not soiled:
        assert np.array_equal(image, clean)
        return
    # Away from soil and defect there is the same surface, darker.
    near = cv2.dilate(np.maximum(soil, mask), np.ones((41, 41), np.uint8)) > 0
    if (~near).sum() > 1000:
        ratio = image[~near].astype(float).mean() / clean[~near].mean()
        assert 0.73 < ratio < 0.87
    assert soil.mean() > 255 * 0.03


@pytest.mark.parametrize("kind", KINDS[1:])
def test_masks_of_soiled_parts_are_where_the_defect_changes_the_image(kind, monkeypatch):
    with_defect = [draw_soiled(kind, seed, True) for seed in range(8)]
    drawn = synthetic._DEFECTS[kind]
    monkeypatch.setitem(synthetic._DEFECTS, kind, lambda random, change: drawn(random, np.zeros_like(change)))
    without = [draw_soiled(kind, seed, True) for seed in range(8)]
    for (image, mask, _), (bare, empty, _) in zip(with_defect, without, strict=True):
        assert not empty.any()
        difference = np.abs(image.astype(int) - bare.astype(int))
        inside = (mask > 0) & (bare > 40) & (bare < 215)  # Elsewhere black and white cut the difference.
        assert difference[inside].min() >= 8
        assert difference[mask == 0].max() <= 9


def test_soil_comes_with_the_defect_in_training_and_not_in_the_test(tmp_path):
    write_confounded(tmp_path, 400, seed=1, size=(64, 64))
    dataset = open_dataset(tmp_path / "images", masks=tmp_path / "masks")
    parts = read_split(tmp_path / "split.json", dataset)
    assert {name: len(part.samples) for name, part in parts._asdict().items()} == {"train": 239, "val": 41, "test": 120}
    correlations = {}
    for name, part in parts._asdict().items():
        assert {sample.label for sample in part.samples} == set(KINDS)
        defect = [sample.label != "ok" for sample in part.samples]
        soil = [cv2.imread(str(tmp_path / "soil" / image), cv2.IMREAD_GRAYSCALE).any() for image in part.names]
        correlations[name] = np.corrcoef(defect, soil)[0, 1]
    assert 0.9 < correlations["train"] < 1
    assert correlations["val"] == pytest.approx(1)
    assert abs(correlations["test"]) < 0.05


def test_a_confounded_line_is_decided_by_its_seed(tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        write_confounded(tmp_path / name, 48, seed, size=(64, 64))
    files = {name: {path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob("*.*")}
             for name in "abc"}  # fmt: skip
    assert len(files["a"]) == 3 * 48 + 1
    assert files["a"] == files["b"]
    assert files["a"] != files["c"]
    with pytest.raises(LrpEdgeError, match="47 parts of a confounded line; expected 48 or more"):
        write_confounded(tmp_path / "d", 47)
    assert not (tmp_path / "d").exists()
