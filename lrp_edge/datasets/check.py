"""What is in a dataset, and what is wrong with it, before hours of training."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lrp_edge.card import defect_names
from lrp_edge.datasets.copies import near_copies
from lrp_edge.datasets.layouts import check_image, find_samples
from lrp_edge.datasets.samples import Dataset, Sample, read_mask
from lrp_edge.datasets.splits import Split, read_split
from lrp_edge.errors import LrpEdgeError
from lrp_edge.options import PictureOptions


@dataclass
class DataReport:
    """What is there.

    Attributes
    ----------
    layout : str
        What the data are taken for.
    left_out : dict of str to int
        Number of files and folders that are no data, by what they are.
    images, masks, groups : dict of str to int
        By class: readable images, those with pixel truth, and groups among them.
    widths, heights : tuple of int
        Least, median and greatest, in pixels.
    gray : bool
        Whether all images have one channel.
    unreadable : list of str
        Files that are cut short, not images or too small.
    bad_masks : list of str
        Masks that cannot be read or are of another size than their image.
    empty_masks : list of str
        Defect images whose mask is empty.
    full_masks : list of str
        Images of which a mask marks every pixel: it may be read otherwise than it was meant.
    marked_ok : list of str
        Images of the OK class whose mask is not empty.
    pixel_truth : (int, int)
        Defect images with a mask, and all.
    coverage : dict of str to float
        By class with masks, the median share of the image that is defect.
    duplicates : list of list of str
        Files with the same bytes.
    split : dict of str to dict
        By part of the split, images of each class.
    across : list of (str, str)
        Same or nearly the same image in two parts of the split: it lets a model score by memorising.
    groups_across : list of str
        Groups with images in two parts.
    skip_bad : bool
        Whether images that cannot be read are no fault.
    """

    layout: str
    left_out: dict[str, int]
    images: dict[str, int]
    masks: dict[str, int]
    groups: dict[str, int]
    widths: tuple[int, int, int] = (0, 0, 0)
    heights: tuple[int, int, int] = (0, 0, 0)
    gray: bool = True
    unreadable: list[str] = field(default_factory=list)
    bad_masks: list[str] = field(default_factory=list)
    empty_masks: list[str] = field(default_factory=list)
    full_masks: list[str] = field(default_factory=list)
    marked_ok: list[str] = field(default_factory=list)
    pixel_truth: tuple[int, int] = (0, 0)
    coverage: dict[str, float] = field(default_factory=dict)
    duplicates: list[list[str]] = field(default_factory=list)
    split: dict[str, dict[str, int]] = field(default_factory=dict)
    across: list[tuple[str, str]] = field(default_factory=list)
    groups_across: list[str] = field(default_factory=list)
    skip_bad: bool = False

    @property
    def faults(self) -> list[str]:
        """What must be fixed before training or measuring."""
        counts = {
            "unreadable images": 0 if self.skip_bad else len(self.unreadable),
            "masks that do not fit their image": len(self.bad_masks),
            "defect images with an empty mask": len(self.empty_masks),
            "images with a mask of every pixel": len(self.full_masks),
            "OK images with a mask that is not empty": len(self.marked_ok),
            "classes without an image": sum(count == 0 for count in self.images.values()),
        }
        return [f"{count} {what}" for what, count in counts.items() if count]

    def to_json(self) -> str:
        """Return everything as JSON text."""
        return json.dumps({**asdict(self), "faults": self.faults}, indent=2) + "\n"


def check_data(
    source: str | Path,
    *,
    split: str | Path | None = None,
    ok_class: str | None = None,
    skip_bad: bool = False,
    progress: Callable[[], None] = lambda: None,
    **how: Any,
) -> DataReport:
    """Check every file of a dataset.

    Parameters
    ----------
    source : path
        See :func:`lrp_edge.datasets.open_dataset`.
    split : path, optional
        Split across whose parts to search for duplicates.
    ok_class : str, optional
        The class without defect, whose masks must be empty; by default known by its name.
    skip_bad : bool
        Whether images that cannot be read are no fault.
    progress : callable
        Called after each image.
    **how
        Masks, group, bits and limit of size, see :func:`lrp_edge.datasets.open_dataset`.

    Raises
    ------
    LrpEdgeError
        If there is no dataset, or the split does not fit it. Bad files are not an error here: they are reported.
    """
    pictures = PictureOptions(**{name: how.pop(name) for name in vars(PictureOptions()) if name in how})
    root, samples, classes, layout, left = find_samples(source, pictures=pictures, **how)
    defects = defect_names(classes, ok_class)
    nothing = dict.fromkeys(classes, 0)
    report = DataReport(layout, dict(left), dict(nothing), dict(nothing), dict(nothing), skip_bad=skip_bad)
    good: list[Sample] = []
    sizes, coverage, gray = [], {name: [] for name in classes}, True  # type: ignore[var-annotated]
    for sample in samples:
        check = check_image(sample.path, sample.pictures)
        progress()
        if check.fault:
            report.unreadable.append(check.fault)
            continue
        good.append(sample)
        gray &= check.gray
        sizes.append(check.size)
        report.images[sample.label] += 1
        if sample.mask:
            _check_mask(report, sample, check.size, coverage, sample.label in defects)
    dataset = Dataset(tuple(good), classes, root, gray)
    report.gray = gray
    if sizes:
        report.widths, report.heights = (
            (int(min(side)), int(np.median(side)), int(max(side))) for side in zip(*sizes, strict=True)
        )
    report.coverage = {name: float(np.median(shares)) for name, shares in coverage.items() if shares}
    for name in classes:
        report.groups[name] = len({sample.group for sample in good if sample.label == name and sample.group})
    report.duplicates = [names for names in _same_bytes(dataset).values() if len(names) > 1]
    report.pixel_truth = sum(report.masks[name] for name in defects), sum(report.images[name] for name in defects)
    if split is not None:
        _check_split(report, read_split(split, dataset))
    return report


def _check_mask(
    report: DataReport, sample: Sample, size: tuple[int, int], coverage: dict[str, list[float]], is_defect: bool
) -> None:
    report.masks[sample.label] += 1
    try:
        truth = read_mask(sample, size[::-1])
    except LrpEdgeError as error:
        report.bad_masks.append(str(error))
        return
    coverage[sample.label].append(float(truth.mean()))
    if not is_defect and truth.any():
        report.marked_ok.append(str(sample.path))
    if is_defect and not truth.any():
        report.empty_masks.append(str(sample.path))
    if truth.all():
        report.full_masks.append(str(sample.path))


def _same_bytes(dataset: Dataset) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, sample in zip(dataset.names, dataset.samples, strict=True):
        found.setdefault(hashlib.sha256(sample.path.read_bytes()).hexdigest(), []).append(name)
    return found


def _check_split(report: DataReport, parts: Split) -> None:
    named = parts._asdict()
    for part, dataset in named.items():
        counts = np.bincount(dataset.labels, minlength=len(dataset.classes))
        report.split[part] = {name: int(count) for name, count in zip(dataset.classes, counts, strict=True)}
    owners: dict[str, set[str]] = {}
    for part, dataset in named.items():
        for sample in dataset.samples:
            if sample.group:
                owners.setdefault(sample.group, set()).add(part)
    report.groups_across = sorted(group for group, where in owners.items() if len(where) > 1)
    report.across = near_copies(parts)
