from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrp_edge.datasets import Dataset, Sample, folds, read_split, split, write_split
from lrp_edge.errors import LrpEdgeError


def paper_dataset(counts: list[int], exposures: int = 0) -> Dataset:
    """Samples without files; with exposures, so many of them in a group."""
    classes = tuple(f"c{i}" for i in range(len(counts)))
    samples = [
        Sample(Path(f"/d/{c}/{k}.png"), c, group=f"{c}-{k // exposures}" if exposures else "")
        for c, n in zip(classes, counts, strict=True)
        for k in range(n)
    ]
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


def names(dataset: Dataset) -> set[str]:
    return set(dataset.names)


@given(parts=st.lists(st.integers(8, 20), min_size=2, max_size=4), exposures=st.integers(2, 6), seed=st.integers(0, 5))
def test_a_grouped_split_keeps_groups_together(parts: list[int], exposures: int, seed: int) -> None:
    dataset = paper_dataset([n * exposures for n in parts], exposures)
    result = split(dataset, seed=seed, grouped=True)
    owners = [{sample.group for sample in part.samples} for part in result]
    assert not (owners[0] & owners[1])
    assert not (owners[0] & owners[2])
    assert not (owners[1] & owners[2])
    assert sum(len(part.samples) for part in result) == len(dataset.samples)
    assert abs(len(result.test.samples) / len(dataset.samples) - 0.3) < 0.2


def test_groups_that_are_not_there_are_not_made_up() -> None:
    with pytest.raises(LrpEdgeError, match="no image has a group"):
        split(paper_dataset([40, 40]), grouped=True)


@pytest.mark.parametrize("grouped", [False, True])
def test_folds_test_each_image_once(grouped: bool) -> None:
    dataset = paper_dataset([60, 30], 3)
    parts = folds(dataset, 5, seed=1, grouped=grouped)
    assert sorted(name for part in parts for name in part.test.names) == sorted(dataset.names)
    for part in parts:
        assert names(part.train) | names(part.val) | names(part.test) == names(dataset)
        assert not (names(part.train) & names(part.test))
        assert not (names(part.val) & names(part.test))
        assert len(part.val.samples) > 0
        if grouped:
            assert not {s.group for s in part.train.samples} & {s.group for s in part.test.samples}
    assert folds(dataset, 5, seed=1, grouped=grouped) == parts
    with pytest.raises(LrpEdgeError, match="expected 2 to 30"):
        folds(dataset, 31)


def test_parts_that_the_data_name_hold() -> None:
    dataset = paper_dataset([4, 4])
    named = [
        dataclasses.replace(s, part=part)
        for s, part in zip(dataset.samples, ["train", "val", "test"] * 3, strict=False)
    ]
    result = split(dataclasses.replace(dataset, samples=tuple(named)), seed=3)
    assert result.val.samples == (named[1], named[4], named[7])
    half = dataclasses.replace(dataset, samples=(named[0], *dataset.samples[1:]))
    with pytest.raises(LrpEdgeError, match="its part is ''"):
        split(half)


def test_a_split_is_repeated_from_its_file(tmp_path: Path) -> None:
    dataset = paper_dataset([20, 10])
    parts = split(dataset, seed=2)
    write_split(tmp_path / "split.json", parts)
    assert read_split(tmp_path / "split.json", dataset) == parts
    fewer = paper_dataset([20, 9])
    with pytest.raises(LrpEdgeError, match=r"1 of 30 images are not in the data"):
        read_split(tmp_path / "split.json", fewer)
    content = json.loads((tmp_path / "split.json").read_text())
    content["val"].append(content["test"][0])
    (tmp_path / "split.json").write_text(json.dumps(content))
    with pytest.raises(LrpEdgeError, match="in the split twice"):
        read_split(tmp_path / "split.json", dataset)
    (tmp_path / "split.json").write_text("{")
    with pytest.raises(LrpEdgeError, match="not a readable split"):
        read_split(tmp_path / "split.json", dataset)
