"""Layouts of labelled images that are understood: a folder per class, the magnetic tiles, a table."""

from __future__ import annotations

import csv
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from lrp_edge.datasets.samples import Dataset, Sample
from lrp_edge.errors import LrpEdgeError, needs_extra

GRAY_MODES = frozenset({"1", "L", "I", "I;16", "F"})
SMALLEST_SIDE = 32
NAMED = 5
#: A file next to an image, named like it with this ending, is its mask.
MASK_ENDING = "_mask"
#: Magnetic tiles are numbered as they were taken. Six exposures of a part lie within this many numbers.
RECORDING_GAP = 250


def open_dataset(
    source: str | os.PathLike[str],
    *,
    masks: str | os.PathLike[str] | None = None,
    group: str | None = None,
    skip_bad: bool = False,
) -> Dataset:
    """Find labelled images and check that each can be decoded.

    Parameters
    ----------
    source : path
        One of three. A folder per class, with images at any depth below it; ``NAME_mask.png`` next to
        ``NAME.<any>`` is its pixel truth. The magnetic-tile layout: ``<class>/Imgs/`` with ``.jpg`` images and
        their pixel truth as ``.png`` of the same name; exposures of one part are a group. A table: a CSV file
        with columns ``path`` and ``label``, and, if wanted, ``mask``, ``group`` and ``split``; paths are
        relative to it. Hidden files are not data.
    masks : path, optional
        A parallel folder with pixel truth under the images' names, as ``.png``.
    group : str, optional
        A regular expression on the image's name from the root; what its first parentheses (or all of it) match
        is the image's group. Images without a match are groups of their own.
    skip_bad : bool
        Skip files that cannot be used, naming them on stderr, instead of raising.

    Raises
    ------
    LrpEdgeError
        If the source is missing or has no two classes with images, the table lacks a column, the pattern is
        none, or files are cut short, are not images, or are smaller than 32 pixels on a side: the first are named,
        all are counted.
    """
    root, samples, classes = find_samples(source, masks=masks, group=group)
    checks = [check_image(sample.path) for sample in samples]
    _report_bad([check.fault for check in checks if check.fault], len(samples), skip_bad)
    good = [(sample, check) for sample, check in zip(samples, checks, strict=True) if not check.fault]
    for name in classes:
        if not any(sample.label == name for sample, _ in good):
            raise LrpEdgeError(f"{root / name}: no image of this class; add images or remove the folder")
    return Dataset(tuple(sample for sample, _ in good), classes, root, all(check.gray for _, check in good))


def find_samples(
    source: str | os.PathLike[str], *, masks: str | os.PathLike[str] | None = None, group: str | None = None
) -> tuple[Path, list[Sample], tuple[str, ...]]:
    """Find labelled images without opening them.

    Returns
    -------
    root : Path
        The folder that names are relative to.
    samples : list of Sample
    classes : tuple of str
        Sorted; also those without an image.

    Raises
    ------
    LrpEdgeError
        As for :func:`open_dataset`, but for what only opening the images can tell.
    """
    path = Path(source)
    if path.is_file():
        root, samples = path.parent, list(_table(path))
        classes = tuple(sorted({sample.label for sample in samples}))
    else:
        root, samples, classes = _folders(path)
    if len(classes) < 2:
        found = f"one class, {classes[0]}" if classes else "no class folders"
        raise LrpEdgeError(f"{path}: {found}; expected a folder of images for each of two or more classes")
    if masks is not None:
        samples = list(_with_masks(samples, root, Path(masks)))
    return root, _with_groups(samples, root, group) if group else samples, classes


def _folders(root: Path) -> tuple[Path, list[Sample], tuple[str, ...]]:
    if not root.is_dir():
        raise LrpEdgeError(f"{root}: no such folder; expected one with a folder of images for each class")
    folders = [folder for folder in sorted(root.iterdir()) if folder.is_dir() and not folder.name.startswith(".")]
    if all((folder / "Imgs").is_dir() for folder in folders):
        samples = _recordings([sample for folder in folders for sample in _tiles(folder)])
    else:
        samples = [sample for folder in folders for sample in _images(folder)]
    return root, samples, tuple(folder.name for folder in folders)


def _tiles(folder: Path) -> Iterator[Sample]:
    for path in sorted((folder / "Imgs").glob("*.jpg")):
        mask = path.with_suffix(".png")
        yield Sample(path, folder.name, mask if mask.is_file() else None)


def _recordings(samples: list[Sample]) -> list[Sample]:
    """Group ``exp<exposure>_num_<number>`` by gaps in the numbers."""
    matches = [re.search(r"_num_(\d+)$", sample.path.stem) for sample in samples]
    numbers = [int(match[1]) if match else None for match in matches]
    groups, first, last = {}, 0, -RECORDING_GAP
    for number in sorted({number for number in numbers if number is not None}):
        if number - last >= RECORDING_GAP:
            first = number
        groups[number], last = str(first), number
    return [
        replace(sample, group=groups[number]) if number is not None else sample
        for sample, number in zip(samples, numbers, strict=True)
    ]


def _images(folder: Path) -> Iterator[Sample]:
    files = [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    known = set(files)
    owners = {path.with_name(path.stem + MASK_ENDING + ".png") for path in files}
    for path in files:
        if path in owners:
            continue
        mask = path.with_name(path.stem + MASK_ENDING + ".png")
        yield Sample(path, folder.name, mask if mask in known else None)


def _table(path: Path) -> Iterator[Sample]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise LrpEdgeError(
            f"{path}: not a readable table ({error}); expected CSV with columns path and label"
        ) from error
    for line, row in enumerate(rows, 2):
        if not row.get("path") or not row.get("label"):
            raise LrpEdgeError(
                f"{path}, line {line}: columns {', '.join(str(name) for name in row if row[name])}; expected at least "
                "path and label, neither empty"
            )
        mask = path.parent / row["mask"] if row.get("mask") else None
        if mask and not mask.is_file():
            raise LrpEdgeError(f"{path}, line {line}: no mask at {mask}; fix the path or leave the column empty")
        image = path.parent / row["path"]
        yield Sample(image, row["label"], mask, row.get("group") or "", row.get("split") or "")


def _with_masks(samples: Iterable[Sample], root: Path, masks: Path) -> Iterator[Sample]:
    if not masks.is_dir():
        raise LrpEdgeError(f"{masks}: no such folder; expected masks under the images' names, as .png")
    for sample in samples:
        mask = masks / Path(os.path.relpath(sample.path, root)).with_suffix(".png")
        yield replace(sample, mask=mask) if mask.is_file() else sample


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


def check_image(path: Path) -> Check:
    """Decode a whole file, with a decoder that takes a file cut short for an error (OpenCV's does not)."""
    with needs_extra("train"):
        from PIL import Image
    try:
        with Image.open(path) as image:
            image.load()
            if min(image.size) < SMALLEST_SIDE:
                return Check(f"{path} ({image.width} by {image.height} pixels)", False, image.size)
            return Check("", image.mode in GRAY_MODES, image.size)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return Check(str(path), False, (0, 0))


def _report_bad(faults: Sequence[str], total: int, skip_bad: bool) -> None:
    if not faults:
        return
    first = ", ".join(faults[:NAMED]) + (f" and {len(faults) - NAMED} more" if len(faults) > NAMED else "")
    found = (
        f"{len(faults)} of {total} files are cut short, not images, or smaller than {SMALLEST_SIDE} pixels on "
        f"a side: {first}"
    )
    if not skip_bad:
        raise LrpEdgeError(f"{found}; fix or remove them, or leave them out with --skip-bad")
    print(f"lrp-edge: warning: skipped {found}", file=sys.stderr)
