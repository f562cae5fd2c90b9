"""Labelled images on disk in the layouts that are understood, each found by what is there."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from lrp_edge.datasets.annotations import read_annotations
from lrp_edge.datasets.folders import find_in_folder
from lrp_edge.datasets.samples import Dataset, Sample, read_image
from lrp_edge.datasets.tables import read_table
from lrp_edge.datasets.truth import with_masks
from lrp_edge.errors import LrpEdgeError
from lrp_edge.options import PictureOptions
from lrp_edge.pictures import read_header
from lrp_edge.pictures.folders import HIDDEN, Left

SMALLEST_SIDE = 32
NAMED = 5


class Found(NamedTuple):
    """Labelled images that were not opened yet.

    Attributes
    ----------
    root : Path
        The folder that names are relative to.
    samples : list of Sample
        In the order of their paths, or of a table's rows.
    classes : tuple of str
        Sorted; also those without an image.
    layout : str
        What the data are taken for.
    left : Left
        What was left out.
    """

    root: Path
    samples: list[Sample]
    classes: tuple[str, ...]
    layout: str
    left: Left


def open_dataset(
    source: str | os.PathLike[str],
    *,
    masks: str | os.PathLike[str] | None = None,
    group: str | None = None,
    skip_bad: bool = False,
    bits: int | None = None,
    max_megapixels: float = PictureOptions.max_megapixels,
) -> Dataset:
    """Find labelled images and check that each can be decoded.

    Parameters
    ----------
    source : path
        A table (:func:`~lrp_edge.datasets.tables.read_table`), a file of annotations
        (:func:`~lrp_edge.datasets.annotations.read_annotations`), or a folder in one of the layouts of
        :func:`~lrp_edge.datasets.folders.find_in_folder`.
    masks : path, optional
        A parallel folder with pixel truth, see :func:`~lrp_edge.datasets.truth.with_masks`.
    group : str, optional
        A regular expression on the image's name from the root; what its first parentheses (or all of it) match
        is the image's group. Images without a match are groups of their own.
    skip_bad : bool
        Skip files that cannot be used, naming them on stderr, instead of raising.
    bits, max_megapixels
        See :class:`~lrp_edge.options.PictureOptions`.

    Raises
    ------
    LrpEdgeError
        If the source is missing or has no two classes with images, the pattern is none, no mask fits, or images cannot
        be read, see :func:`~lrp_edge.pictures.read_picture`, or are smaller than 32 pixels on a side: the first are
        named, all are counted.
    """
    pictures = PictureOptions(bits, max_megapixels)
    root, samples, classes, layout, left = find_samples(source, masks=masks, group=group, pictures=pictures)
    if any(what != HIDDEN for what in left):
        print(f"lrp-edge: {source}: read as {layout}; left out: {left}", file=sys.stderr)
    checks = [check_image(sample.path, sample.pictures) for sample in samples]
    _report_bad([check.fault for check in checks if check.fault], len(samples), skip_bad)
    good = [(sample, check) for sample, check in zip(samples, checks, strict=True) if not check.fault]
    for name in classes:
        if not any(sample.label == name for sample, _ in good):
            raise LrpEdgeError(f"{root / name}: no image of this class; add images or remove the folder")
    return Dataset(tuple(sample for sample, _ in good), classes, root, all(check.gray for _, check in good))


def find_samples(
    source: str | os.PathLike[str],
    *,
    masks: str | os.PathLike[str] | None = None,
    group: str | None = None,
    pictures: PictureOptions = PictureOptions(),
) -> Found:
    """Find labelled images without opening them.

    Raises
    ------
    LrpEdgeError
        As for :func:`open_dataset`, but for what only opening the images can tell.
    """
    path, left = Path(source), Left()
    if path.suffix.lower() in (".json", ".xml") and path.is_file():
        root = path.parent
        layout, samples, classes = read_annotations(path, left)
    elif path.is_file():
        root, layout, samples = path.parent, "a table", read_table(path)
        classes = tuple(sorted({sample.label for sample in samples}))
    else:
        root = path
        layout, samples, classes = find_in_folder(path, left)
    if len(classes) < 2:
        found = f"one class, {classes[0]}" if classes else "no class folders"
        raise LrpEdgeError(f"{path}: {found}; expected a folder of images for each of two or more classes")
    if masks is not None and samples:
        samples = with_masks(samples, root, Path(masks))
    if group:
        samples = _with_groups(samples, root, group)
    return Found(root, [replace(sample, pictures=pictures) for sample in samples], classes, layout, left)


def _with_groups(samples: Iterable[Sample], root: Path, pattern: str) -> list[Sample]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise LrpEdgeError(f"group pattern {pattern!r} is not a regular expression ({error})") from error
    found = []
    for sample in samples:
        match = compiled.search(Path(os.path.relpath(sample.path, root)).as_posix())
        found.append(replace(sample, group=match[1] if compiled.groups else match[0]) if match else sample)
    return found


class Check(NamedTuple):
    """What opening an image showed: a fault, empty for none; whether it is gray; width and height in pixels."""

    fault: str
    gray: bool
    size: tuple[int, int]


def check_image(path: Path, pictures: PictureOptions = PictureOptions()) -> Check:
    """Decode a whole image, as training and a line do."""
    try:
        header = read_header(path, pictures)
        image = read_image(path, header.gray, pictures)
    except LrpEdgeError as error:
        return Check(str(error), False, (0, 0))
    height, width = image.shape[:2]
    if min(height, width) < SMALLEST_SIDE:
        return Check(f"{path} has {height}x{width} pixels", False, (width, height))
    return Check("", header.gray, (width, height))


def _report_bad(faults: Sequence[str], total: int, skip_bad: bool) -> None:
    if not faults:
        return
    first = "; ".join(faults[:NAMED]) + (f" and {len(faults) - NAMED} more" if len(faults) > NAMED else "")
    found = f"{len(faults)} of {total} images that cannot be used: {first}"
    if not skip_bad:
        raise LrpEdgeError(f"{found}; fix or remove them, or leave them out with --skip-bad")
    print(f"lrp-edge: warning: left out {found}", file=sys.stderr)
