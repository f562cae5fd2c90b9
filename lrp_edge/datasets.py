"""Folders of images with one class each, and the magnetic-tile layout as it is.

Labels are of whole images. Pixel truth, where a layout has it, is recorded by path for the evaluation and
never read here.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lrp_edge.errors import LrpEdgeError, needs_extra

GRAY_MODES = frozenset({"1", "L", "I", "I;16", "F"})
SMALLEST_SIDE = 32
NAMED = 5


@dataclass(frozen=True)
class Sample:
    """An image, its class, and its pixel truth where there is one.

    Attributes
    ----------
    path : Path
        The image.
    label : str
        Name of its class.
    mask : Path or None
        Its pixel truth, an image of the same size that is not zero on the defect; for evaluation only.
    """

    path: Path
    label: str
    mask: Path | None = None


@dataclass(frozen=True)
class Dataset:
    """Samples and the names of their classes.

    Attributes
    ----------
    samples : tuple of Sample
        In the order of their paths.
    classes : tuple of str
        All class names, sorted; also those that no sample of a subset has.
    root : Path
        The folder that it was read from.
    gray : bool
        Whether every image has one channel.
    """

    samples: tuple[Sample, ...]
    classes: tuple[str, ...]
    root: Path
    gray: bool

    @property
    def labels(self) -> NDArray[np.int64]:
        """Index of each sample's class, int64 [len(samples)]."""
        return np.array([self.classes.index(sample.label) for sample in self.samples], dtype=np.int64)

    @property
    def names(self) -> list[str]:
        """Each sample's path below the root, with forward slashes."""
        return [sample.path.relative_to(self.root).as_posix() for sample in self.samples]

    def subset(self, indices: Sequence[int] | NDArray[np.int64]) -> Dataset:
        """Return a dataset of some of the samples, with the same classes."""
        return Dataset(tuple(self.samples[i] for i in indices), self.classes, self.root, self.gray)


class Split(NamedTuple):
    """Three parts of a dataset."""

    train: Dataset
    val: Dataset
    test: Dataset


def open_dataset(directory: str | os.PathLike[str], *, skip_bad: bool = False) -> Dataset:
    """Find the images of a folder and check that each can be decoded.

    Parameters
    ----------
    directory : path
        Either a folder per class, with images at any depth below it, or the magnetic-tile layout:
        ``<class>/Imgs/`` with ``.jpg`` images and their pixel truth as ``.png`` of the same name. Hidden
        files are no data.
    skip_bad : bool
        Leave out files that cannot be used, naming them on stderr, instead of raising.

    Raises
    ------
    LrpEdgeError
        If the folder is missing or has no two classes with images, or if files in it are cut short, are no
        images, or are smaller than 32 pixels on a side: the first are named, all are counted.
    """
    root = Path(directory)
    if not root.is_dir():
        raise LrpEdgeError(f"{root}: no such folder; expected one with a folder of images for each class")
    folders = [folder for folder in sorted(root.iterdir()) if folder.is_dir() and not folder.name.startswith(".")]
    if len(folders) < 2:
        found = f"one class, {folders[0].name}" if folders else "no folder of a class"
        raise LrpEdgeError(f"{root}: {found}; expected a folder of images for each of two or more classes")
    samples = [sample for folder in folders for sample in _samples(folder)]
    checks = [_check(sample.path) for sample in samples]
    _report_bad([check.fault for check in checks if check.fault], len(samples), skip_bad)
    good = [(sample, check) for sample, check in zip(samples, checks, strict=True) if not check.fault]
    for folder in folders:
        if not any(sample.label == folder.name for sample, _ in good):
            raise LrpEdgeError(f"{folder}: no image in the folder of this class; add images or remove the folder")
    return Dataset(
        tuple(sample for sample, _ in good),
        tuple(folder.name for folder in folders),
        root,
        all(check.gray for _, check in good),
    )


def _samples(folder: Path) -> Iterator[Sample]:
    tiles = folder / "Imgs"
    if tiles.is_dir():
        for path in sorted(tiles.glob("*.jpg")):
            mask = path.with_suffix(".png")
            yield Sample(path, folder.name, mask if mask.is_file() else None)
        return
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts):
            yield Sample(path, folder.name)


class _Check(NamedTuple):
    fault: str
    gray: bool


def _check(path: Path) -> _Check:
    """Decode a whole file, with a decoder that takes a file cut short for an error (OpenCV's does not)."""
    with needs_extra("train"):
        from PIL import Image
    try:
        with Image.open(path) as image:
            image.load()
            if min(image.size) < SMALLEST_SIDE:
                return _Check(f"{path} ({image.width} by {image.height} pixels)", False)
            return _Check("", image.mode in GRAY_MODES)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return _Check(str(path), False)


def _report_bad(faults: Sequence[str], total: int, skip_bad: bool) -> None:
    if not faults:
        return
    first = ", ".join(faults[:NAMED]) + (f" and {len(faults) - NAMED} more" if len(faults) > NAMED else "")
    found = (
        f"{len(faults)} of {total} files are cut short, no images, or smaller than {SMALLEST_SIDE} pixels on "
        f"a side: {first}"
    )
    if not skip_bad:
        raise LrpEdgeError(f"{found}; mend or remove them, or leave them out with --skip-bad")
    print(f"lrp-edge: warning: skipped {found}", file=sys.stderr)


def split(dataset: Dataset, *, seed: int = 0, fractions: tuple[float, float, float] = (0.6, 0.1, 0.3)) -> Split:
    """Part a dataset class by class, at random.

    Parameters
    ----------
    dataset : Dataset
        What is parted.
    seed : int
        The same seed gives the same parts.
    fractions : (train, val, test)
        Their shares; they add up to 1. Each class keeps at least one sample for training.

    Raises
    ------
    LrpEdgeError
        If the fractions are negative or do not add up to 1, or there is no share for training.
    """
    if min(fractions) < 0 or fractions[0] == 0 or abs(sum(fractions) - 1) > 1e-6:
        raise LrpEdgeError(f"the shares of train, val and test are {fractions}; expected a sum of 1, train above 0")
    generator = np.random.default_rng(seed)
    parts: tuple[list[int], list[int], list[int]] = ([], [], [])
    for index in range(len(dataset.classes)):
        members = generator.permutation(np.flatnonzero(dataset.labels == index))
        test = min(round(fractions[2] * len(members)), len(members) - 1)
        val = min(round(fractions[1] * len(members)), len(members) - 1 - test)
        parts[2].extend(members[:test])
        parts[1].extend(members[test : test + val])
        parts[0].extend(members[test + val :])
    return Split(*(dataset.subset(sorted(part)) for part in parts))


def read_image(path: str | os.PathLike[str], gray: bool) -> NDArray[np.uint8]:
    """Read an image as a camera frame.

    Parameters
    ----------
    path : path
        The file.
    gray : bool
        Read one gray channel rather than three in OpenCV's order.

    Returns
    -------
    ndarray, uint8 [H, W, 1] or [H, W, 3]
        Gray, or blue, green, red.

    Raises
    ------
    LrpEdgeError
        If the file cannot be decoded.
    """
    with needs_extra("train"):
        import cv2
    image: Any = cv2.imread(os.fspath(path), cv2.IMREAD_GRAYSCALE if gray else cv2.IMREAD_COLOR)
    if image is None:
        raise LrpEdgeError(f"{path}: no readable image; mend or remove it")
    return np.ascontiguousarray(image if image.ndim == 3 else image[..., None])
