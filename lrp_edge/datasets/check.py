"""What is in a dataset, and what is wrong with it, before hours of training."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from lrp_edge.datasets.layouts import check_image, find_samples
from lrp_edge.datasets.samples import Dataset, Sample, read_mask
from lrp_edge.datasets.splits import Split, read_split
from lrp_edge.errors import LrpEdgeError, needs_extra

#: Images whose perceptual hashes differ in at most this many of 256 bits are near duplicates.
NEAR = 24


@dataclass
class DataReport:
    """What is there.

    Attributes
    ----------
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
    marked_ok : list of str
        Images of the OK class whose mask is not empty.
    coverage : dict of str to float
        By class with masks, the median share of the image that is defect.
    duplicates : list of list of str
        Files with the same bytes.
    split : dict of str to dict
        By part of the split, images of each class.
    across : list of list of str
        Same or nearly the same image in two parts of the split: it lets a model score by memorising.
    groups_across : list of str
        Groups with images in two parts.
    """

    images: dict[str, int]
    masks: dict[str, int]
    groups: dict[str, int]
    widths: tuple[int, int, int] = (0, 0, 0)
    heights: tuple[int, int, int] = (0, 0, 0)
    gray: bool = True
    unreadable: list[str] = field(default_factory=list)
    bad_masks: list[str] = field(default_factory=list)
    empty_masks: list[str] = field(default_factory=list)
    marked_ok: list[str] = field(default_factory=list)
    coverage: dict[str, float] = field(default_factory=dict)
    duplicates: list[list[str]] = field(default_factory=list)
    split: dict[str, dict[str, int]] = field(default_factory=dict)
    across: list[list[str]] = field(default_factory=list)
    groups_across: list[str] = field(default_factory=list)

    @property
    def faults(self) -> list[str]:
        """What must be fixed before training or measuring."""
        counts = {
            "unreadable files": len(self.unreadable),
            "masks that do not fit their image": len(self.bad_masks),
            "defect images with an empty mask": len(self.empty_masks),
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
    masks: str | Path | None = None,
    group: str | None = None,
    split: str | Path | None = None,
    ok: tuple[str, ...] = (),
    progress: Callable[[], None] = lambda: None,
) -> DataReport:
    """Check every file of a dataset.

    Parameters
    ----------
    source, masks, group
        See :func:`lrp_edge.datasets.open_dataset`.
    split : path, optional
        Split across whose parts to search for duplicates.
    ok : tuple of str
        Names of OK classes, whose masks must be empty.
    progress : callable
        Called after each image.

    Raises
    ------
    LrpEdgeError
        If there is no dataset, or the split does not fit it. Bad files are not an error here: they are reported.
    """
    root, samples, classes = find_samples(source, masks=masks, group=group)
    nothing = dict.fromkeys(classes, 0)
    report = DataReport(dict(nothing), dict(nothing), dict(nothing))
    good: list[Sample] = []
    sizes, coverage, gray = [], {name: [] for name in classes}, True  # type: ignore[var-annotated]
    for sample in samples:
        check = check_image(sample.path)
        progress()
        if check.fault:
            report.unreadable.append(check.fault)
            continue
        good.append(sample)
        gray &= check.gray
        sizes.append(check.size)
        report.images[sample.label] += 1
        if sample.mask:
            _check_mask(report, sample, check.size, coverage, ok)
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
    if split is not None:
        _check_split(report, read_split(split, dataset))
    return report


def _check_mask(
    report: DataReport, sample: Sample, size: tuple[int, int], coverage: dict[str, list[float]], ok: tuple[str, ...]
) -> None:
    report.masks[sample.label] += 1
    try:
        truth = read_mask(sample, size[::-1])
    except LrpEdgeError as error:
        report.bad_masks.append(str(error))
        return
    coverage[sample.label].append(float(truth.mean()))
    if sample.label in ok and truth.any():
        report.marked_ok.append(str(sample.path))
    if sample.label not in ok and not truth.any():
        report.empty_masks.append(str(sample.path))


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
    report.across = _near_across(parts)


def _near_across(parts: Split) -> list[list[str]]:
    """Pairs of images in different parts whose perceptual hashes nearly agree."""
    with needs_extra("train"):
        import imagehash
        from PIL import Image
    names = [name for part in parts for name in part.names]
    owner = np.repeat(np.arange(len(parts)), [len(part.names) for part in parts])
    hashes = []
    for part in parts:
        for sample in part.samples:
            with Image.open(sample.path) as image:
                hashes.append(imagehash.phash(image.convert("L"), hash_size=16).hash.ravel())
    bits = np.array(hashes, np.float32) * 2 - 1
    differing = (bits.shape[1] - bits @ bits.T) / 2
    pairs = np.argwhere((differing <= NEAR) & (owner[:, None] < owner[None, :]))
    return [[names[a], names[b]] for a, b in pairs]
