"""A labelled image, a set of them, and how their pixels are read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lrp_edge.datasets.outlines import Outlines
from lrp_edge.errors import LrpEdgeError
from lrp_edge.options import PictureOptions
from lrp_edge.pictures import read_marks, read_picture

#: What data sets call the parts of a split, and what they are here.
PARTS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}

#: What images are called whose only label is what is marked on them.
OK, DEFECT = "ok", "defect"


@dataclass(frozen=True)
class Sample:
    """An image, its class, and its pixel truth where there is one.

    Attributes
    ----------
    path : Path
        The image.
    label : str
        Name of its class.
    mask : Path, Outlines or None
        Its pixel truth: an image of the same size in any form of :func:`lrp_edge.pictures.read_marks`, or what a
        labelling tool drew. Neither training with labels nor calibration opens it.
    group : str
        What it shows: images of one part, or of one sequence, have one group. Empty where that is not known.
    part : str
        ``"train"``, ``"val"`` or ``"test"`` where the data say so, else empty.
    pictures : PictureOptions
        What its files do not say themselves.
    """

    path: Path
    label: str
    mask: Path | Outlines | None = None
    group: str = ""
    part: str = ""
    pictures: PictureOptions = PictureOptions()

    def read(self, order: str) -> NDArray[np.uint8]:
        """Read its image in a channel order, uint8 [H, W, C]; see :func:`lrp_edge.pictures.read_picture`."""
        return read_picture(self.path, order, self.pictures)


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
        """Each sample's path from the root, with forward slashes."""
        return [Path(os.path.relpath(sample.path, self.root)).as_posix() for sample in self.samples]

    @property
    def groups(self) -> list[str]:
        """Each sample's group; one without is a group of its own, by its name."""
        return [sample.group or name for sample, name in zip(self.samples, self.names, strict=True)]

    def subset(self, indices: Sequence[int] | NDArray[np.int64]) -> Dataset:
        """Return a dataset of some of the samples, with the same classes."""
        return Dataset(tuple(self.samples[i] for i in indices), self.classes, self.root, self.gray)


def read_image(
    path: str | os.PathLike[str], gray: bool, pictures: PictureOptions = PictureOptions()
) -> NDArray[np.uint8]:
    """Read an image as a camera frame, gray or blue, green, red; see :func:`lrp_edge.pictures.read_picture`.

    Parameters
    ----------
    path : path
        The file.
    gray : bool
        Read one gray channel rather than three in OpenCV's order.
    pictures : PictureOptions
        What the file does not say itself.

    Returns
    -------
    ndarray, uint8 [H, W, 1] or [H, W, 3]

    Raises
    ------
    LrpEdgeError
        If it cannot be read.
    """
    return read_picture(path, "GRAY" if gray else "BGR", pictures)


def read_mask(sample: Sample, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Read the pixel truth of a sample.

    Parameters
    ----------
    sample : Sample
        One without a mask has an empty one; so an OK image needs no file.
    size : (height, width)
        Size of the image in pixels.

    Returns
    -------
    ndarray, bool [H, W]
        True on the defect.

    Raises
    ------
    LrpEdgeError
        If the file cannot be read, or is of another size.
    """
    if sample.mask is None:
        return np.zeros(size, bool)
    truth = sample.mask.marks() if isinstance(sample.mask, Outlines) else read_marks(sample.mask, sample.pictures)
    if truth.shape != size:
        raise LrpEdgeError(f"mask {sample.mask} is {truth.shape}, its image {size}; expected the same size")
    return truth
