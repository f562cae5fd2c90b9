"""The synthetic line: deterministic, labelled by construction."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrp_edge.datasets import open_dataset
from lrp_edge.errors import LrpEdgeError
from lrp_edge.synthetic import KINDS, draw, write_dataset


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
