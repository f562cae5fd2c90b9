"""Parts of a dataset: by class, by class and group, in folds; written to a file so that they can be repeated."""

from __future__ import annotations

import json
import os
import warnings
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lrp_edge.datasets.samples import Dataset
from lrp_edge.errors import LrpEdgeError, needs_extra
from lrp_edge.files import write_text

PARTS = ("train", "val", "test")
#: A grouped split deals whole groups into this many stacks, and each part takes stacks; finer shares are rounded.
STACKS = 20


class Split(NamedTuple):
    """Three parts of a dataset."""

    train: Dataset
    val: Dataset
    test: Dataset


def split(
    dataset: Dataset,
    *,
    seed: int = 0,
    fractions: tuple[float, float, float] = (0.6, 0.1, 0.3),
    grouped: bool = False,
) -> Split:
    """Split a dataset class by class, at random.

    Parameters
    ----------
    dataset : Dataset
        The dataset to split. If its samples name their parts, those hold; where none is named for validation, its
        share is taken from those for training.
    seed : int
        The same seed gives the same parts.
    fractions : (train, val, test)
        Their shares; they add up to 1. Each class keeps at least one sample for training.
    grouped : bool
        Keep the images of a group in one part. Images of one part under several exposures are nearly copies;
        spread over training and test they let a model score by memory. Shares are then met to about a
        twentieth, or to the size of a group.

    Raises
    ------
    LrpEdgeError
        If the fractions are negative or do not add up to 1, there is no share for training, some but not all
        samples name their part, or groups are asked for and there are none.
    """
    if min(fractions) < 0 or fractions[0] == 0 or abs(sum(fractions) - 1) > 1e-6:
        raise LrpEdgeError(f"the shares of train, val and test are {fractions}; expected a sum of 1, train above 0")
    named = [sample.part for sample in dataset.samples]
    if any(named):
        return _named(dataset, named, seed, fractions, grouped)
    if not grouped:
        return _by_class(dataset, seed, fractions)
    count = max(2, min(STACKS, int(np.bincount(dataset.labels).min()), len(set(dataset.groups))))
    stacks = _stacks(dataset, count, seed, grouped=True)
    test, val = round(fractions[2] * count), round(fractions[1] * count)
    parts = (stacks[test + val :], stacks[test : test + val], stacks[:test])
    return Split(*(dataset.subset(sorted(int(i) for stack in part for i in stack)) for part in parts))


def folds(dataset: Dataset, count: int, *, seed: int = 0, val: float = 0.1, grouped: bool = False) -> list[Split]:
    """Split a dataset `count` times, so that each sample is in the test part once.

    Parameters
    ----------
    dataset : Dataset
        The dataset to split, class by class.
    count : int
        Number of folds, 2 or more.
    seed : int
        The same seed gives the same folds.
    val : float
        Share of what is not in the test part that goes to the validation part.
    grouped : bool
        Keep the images of a group in one part.

    Raises
    ------
    LrpEdgeError
        If there are fewer than two folds or more than images of the smallest class, or groups are asked for and
        there are none.
    """
    smallest = int(np.bincount(dataset.labels).min())
    if not 2 <= count <= smallest:
        raise LrpEdgeError(f"{count} folds; expected 2 to {smallest}, the number of images of the smallest class")
    result = []
    for fold, stack in enumerate(_stacks(dataset, count, seed, grouped)):
        rest = np.setdiff1d(np.arange(len(dataset.samples)), stack)
        inner = split(dataset.subset(rest), seed=seed + fold, fractions=(1 - val, val, 0.0), grouped=grouped)
        result.append(Split(inner.train, inner.val, dataset.subset(stack)))
    return result


def write_split(path: str | os.PathLike[str], parts: Split) -> None:
    """Write the names of each part's images as JSON.

    Raises
    ------
    LrpEdgeError
        If the file cannot be written.
    """
    write_text(path, json.dumps({name: part.names for name, part in parts._asdict().items()}, indent=2) + "\n")


def read_split(path: str | os.PathLike[str], dataset: Dataset) -> Split:
    """Read the parts that `write_split` wrote.

    Raises
    ------
    LrpEdgeError
        If the file cannot be read, lacks a part, names an image twice, or one that the dataset does not have.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        names = {part: list(content[part]) for part in PARTS}
    except (OSError, ValueError, KeyError, TypeError) as error:
        # Python's message names a missing part only, and for a value that is not a table its type.
        reasons = {KeyError: f"it lacks the part {error}", TypeError: "its parts are not lists of names"}
        raise LrpEdgeError(
            f"{path} is not a readable split ({reasons.get(type(error), error)}); expected a run's split.json or one "
            "of lrp-edge data split"
        ) from error
    index = {name: i for i, name in enumerate(dataset.names)}
    together = [name for part in names.values() for name in part]
    missing = [name for name in together if name not in index]
    if missing or not together:
        raise LrpEdgeError(
            f"{path}: {len(missing)} of {len(together)} images are not in the data, first {missing[:1]}; "
            "give the data that the split was made of"
        )
    if len(set(together)) < len(together):
        twice = next(name for name in together if together.count(name) > 1)
        raise LrpEdgeError(f"{path}: {twice} is in the split twice; expected each image in one part")
    return Split(*(dataset.subset([index[name] for name in names[part]]) for part in PARTS))


def _named(
    dataset: Dataset, named: list[str], seed: int, fractions: tuple[float, float, float], grouped: bool
) -> Split:
    for sample, part in zip(dataset.samples, named, strict=True):
        if part not in PARTS:
            raise LrpEdgeError(f"{sample.path}: its part is {part!r}; expected {', '.join(PARTS)} for every image")
    parts = Split(*(dataset.subset([i for i, name in enumerate(named) if name == part]) for part in PARTS))
    if parts.val.samples or not fractions[1]:
        return parts
    share = fractions[1] / (fractions[0] + fractions[1])
    unnamed = replace(parts.train, samples=tuple(replace(sample, part="") for sample in parts.train.samples))
    drawn = split(unnamed, seed=seed, fractions=(1 - share, share, 0.0), grouped=grouped)
    return Split(drawn.train, drawn.val, parts.test)


def _by_class(dataset: Dataset, seed: int, fractions: tuple[float, float, float]) -> Split:
    generator = np.random.default_rng(seed)
    parts: tuple[list[int], list[int], list[int]] = ([], [], [])
    for index in range(len(dataset.classes)):
        members = generator.permutation(np.flatnonzero(dataset.labels == index))
        test = max(0, min(round(fractions[2] * len(members)), len(members) - 1))
        val = max(0, min(round(fractions[1] * len(members)), len(members) - 1 - test))
        parts[2].extend(members[:test])
        parts[1].extend(members[test : test + val])
        parts[0].extend(members[test + val :])
    return Split(*(dataset.subset(sorted(part)) for part in parts))


def _stacks(dataset: Dataset, count: int, seed: int, grouped: bool) -> list[NDArray[np.int64]]:
    """Deal the samples, or whole groups of them, into stacks of like classes."""
    with needs_extra("train"):
        from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
    if grouped and not any(sample.group for sample in dataset.samples):
        raise LrpEdgeError(
            f"{dataset.root}: no image has a group; name it in the table's column 'group', or by a pattern with --group"
        )
    dealer = (StratifiedGroupKFold if grouped else StratifiedKFold)(count, shuffle=True, random_state=seed)
    labels = dataset.labels
    groups = np.unique(dataset.groups, return_inverse=True)[1] if grouped else None
    with warnings.catch_warnings():
        # A class with fewer groups than stacks is missing from some of them, which is unavoidable.
        warnings.simplefilter("ignore", UserWarning)
        return [stack for _, stack in dealer.split(labels, labels, groups)]
