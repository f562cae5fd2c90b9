"""Measure an exported file: its classes against labels, its masks against pixel truth."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrp_edge.card import ModelCard
from lrp_edge.datasets import Dataset, Sample, open_dataset
from lrp_edge.errors import LrpEdgeError, needs_extra
from lrp_edge.runtime.segmentation import Segmentation
from lrp_edge.runtime.segmenter import Segmenter
from lrp_edge.runtime.sources import read_image

with needs_extra("evaluate"):
    from sklearn.metrics import confusion_matrix, roc_auc_score

#: Pixels of one image that count for the pooled pixel AUROC; of a larger image so many are drawn, seeded by its name.
PIXELS_PER_IMAGE = 200_000

Bools = NDArray[np.bool_]


@dataclass
class PixelFigures:
    """Masks and relevance against pixel truth, over images with a defect.

    Attributes
    ----------
    images : int
        Images with pixel truth.
    auroc : float
        Area under the ROC curve of relevance over all their pixels.
    auroc_per_image : float
        Mean of each image's own.
    iou, f1, precision, recall : float
        Of the masks, over all their pixels together.
    """

    images: int
    auroc: float
    auroc_per_image: float
    iou: float
    f1: float
    precision: float
    recall: float


@dataclass
class Evaluation:
    """All figures of one model on one set of images.

    Attributes
    ----------
    images : int
        Images run.
    auroc : float
        OK against defect, scored by one minus the scores of the OK classes.
    accuracy, defect_accuracy : float
        Share of images with the right class; with the right verdict, OK or defect.
    recall : dict
        Share of each class's images that are decided to be of it.
    confusion : list of list of int
        Rows are the true classes, columns the decided ones.
    classes : list of str
        Their names.
    pixels : dict
        Figures of each defect class, and of ``"all"`` together; empty without pixel truth.
    milliseconds : float
        Median time of the engine for an image.
    """

    images: int
    auroc: float
    accuracy: float
    defect_accuracy: float
    recall: dict[str, float]
    confusion: list[list[int]]
    classes: list[str]
    pixels: dict[str, PixelFigures] = field(default_factory=dict)
    milliseconds: float = 0.0

    def to_json(self) -> str:
        """Return all figures as JSON text."""
        return json.dumps(asdict(self), indent=2) + "\n"

    def to_markdown(self) -> str:
        """Return two tables: class figures, mask figures."""
        head = "| images | class AUROC | accuracy | OK/defect accuracy | " + " | ".join(
            f"recall {name}" for name in self.classes
        )
        row = [f"{self.images}", f"{self.auroc:.3f}", f"{self.accuracy:.3f}", f"{self.defect_accuracy:.3f}"]
        row += [f"{self.recall[name]:.2f}" for name in self.classes]
        lines = [head + " |", "|" + " ---: |" * len(row), "| " + " | ".join(row) + " |"]
        if self.pixels:
            lines += ["", "| defect | images | pixel AUROC | per image | IoU | F1 | precision | recall |"]
            lines += ["| :--- |" + " ---: |" * 7]
        for name, part in self.pixels.items():
            values = (part.auroc, part.auroc_per_image, part.iou, part.f1, part.precision, part.recall)
            lines.append(f"| {name} | {part.images} | " + " | ".join(f"{value:.3f}" for value in values) + " |")
        return "\n".join(lines) + "\n"


@dataclass
class _Counts:
    """What is kept of images: confusion counts of pixels, and a share of their relevance."""

    inside: int = 0
    alarms: int = 0
    missed: int = 0
    relevance: list[NDArray[np.float32]] = field(default_factory=list)
    truth: list[Bools] = field(default_factory=list)
    own: list[float] = field(default_factory=list)

    def add(self, result: Segmentation, truth: Bools, seed: int) -> None:
        mask = result.mask > 0
        self.inside += int((mask & truth).sum())
        self.alarms += int((mask & ~truth).sum())
        self.missed += int((~mask & truth).sum())
        values, flags = result.relevance.ravel(), truth.ravel()
        if truth.any() and not truth.all():
            self.own.append(float(roc_auc_score(flags, values)))
        if values.size > PIXELS_PER_IMAGE:
            chosen = np.random.default_rng(seed).choice(values.size, PIXELS_PER_IMAGE, replace=False)
            values, flags = values[chosen], flags[chosen]
        self.relevance.append(values.copy())
        self.truth.append(flags)

    def figures(self) -> PixelFigures:
        truth = np.concatenate(self.truth)
        return PixelFigures(
            len(self.truth),
            float(roc_auc_score(truth, np.concatenate(self.relevance)))
            if 0 < truth.sum() < truth.size
            else float("nan"),
            float(np.mean(self.own)) if self.own else float("nan"),
            _ratio(self.inside, self.inside + self.alarms + self.missed),
            _ratio(2 * self.inside, 2 * self.inside + self.alarms + self.missed),
            _ratio(self.inside, self.inside + self.alarms),
            _ratio(self.inside, self.inside + self.missed),
        )


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def evaluate(
    model: str | Path | Segmenter,
    data: str | Path | Dataset,
    *,
    split: str | Path | None = None,
    part: str = "test",
    masks: str | Path | None = None,
    progress: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Run an exported file over labelled images and measure classes and masks.

    Parameters
    ----------
    model : path or Segmenter
        A file that ``lrp-edge export`` wrote.
    data : path or Dataset
        A folder per class, or the magnetic-tile layout.
    split : path, optional
        ``split.json`` of a training run; only the images of its `part` are used.
    part : str
        ``"train"``, ``"val"`` or ``"test"``.
    masks : path, optional
        Folder with pixel truth under the same names as the images, as ``.png``; layouts that have their own need none.
    progress : callable
        Called after each image.

    Raises
    ------
    LrpEdgeError
        If model, data, split or masks cannot be read or do not fit each other.
    """
    segmenter = model if isinstance(model, Segmenter) else Segmenter(model)
    dataset = data if isinstance(data, Dataset) else open_dataset(data)
    card = segmenter.card
    unknown = [name for name in dataset.classes if name not in card.classes]
    if unknown:
        raise LrpEdgeError(f"class {unknown[0]!r} of the data is not one of the model's: {', '.join(card.classes)}")
    samples = _chosen(dataset, split, part)
    decided, scores, times = [], [], []
    counts: dict[str, _Counts] = {}
    for sample in samples:
        result = segmenter(read_image(sample.path, card.input.order))
        decided.append(result.label)
        scores.append(1 - result.scores[list(card.ok_indices)].sum())
        times.append(result.milliseconds)
        _count(counts, sample, result, card, dataset.root, masks)
        progress()
    labels = [card.classes.index(sample.label) for sample in samples]
    evaluation = _of_classes(labels, decided, scores, card)
    evaluation.milliseconds = float(np.median(times))
    evaluation.pixels = {name: counts[name].figures() for name in (*card.defects, "all") if name in counts}
    return evaluation


def _chosen(dataset: Dataset, split: str | Path | None, part: str) -> Sequence[Sample]:
    if split is None:
        return dataset.samples
    try:
        names = json.loads(Path(split).read_text())[part]
    except (OSError, ValueError, KeyError) as error:
        raise LrpEdgeError(
            f"{split} has no part {part!r} that can be read ({error}); expected a run's split.json"
        ) from error
    by_name = dict(zip(dataset.names, dataset.samples, strict=True))
    missing = [name for name in names if name not in by_name]
    if missing or not names:
        raise LrpEdgeError(f"{split}: {len(missing)} of {len(names)} images are not in the data, first {missing[:1]}")
    return [by_name[name] for name in names]


def _count(
    counts: dict[str, _Counts],
    sample: Sample,
    result: Segmentation,
    card: ModelCard,
    root: Path,
    masks: str | Path | None,
) -> None:
    if sample.label not in card.defects:
        return
    path = Path(masks, sample.path.relative_to(root)).with_suffix(".png") if masks else sample.mask
    if path is None:
        return
    truth = read_image(path, "GRAY")[..., 0] > 127
    if truth.shape != result.mask.shape:
        raise LrpEdgeError(f"mask {path} is {truth.shape}, its image {result.mask.shape}; expected the same size")
    seed = zlib.crc32(sample.path.name.encode())
    for name in (sample.label, "all"):
        counts.setdefault(name, _Counts()).add(result, truth, seed)


def _of_classes(labels: list[int], decided: list[int], scores: list[Any], card: ModelCard) -> Evaluation:
    truth, found = np.array(labels), np.array(decided)
    defect = np.isin(truth, card.defect_indices)
    both = 0 < defect.sum() < len(defect)
    confusion = confusion_matrix(truth, found, labels=range(len(card.classes)))
    return Evaluation(
        len(labels),
        float(roc_auc_score(defect, scores)) if both else float("nan"),
        float((truth == found).mean()),
        float((defect == np.isin(found, card.defect_indices)).mean()),
        {name: _ratio(int(confusion[i, i]), int(confusion[i].sum())) for i, name in enumerate(card.classes)},
        confusion.tolist(),
        list(card.classes),
    )
