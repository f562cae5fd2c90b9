"""Run a model over labelled images and gather all figures."""

from __future__ import annotations

import json
import math
import zlib
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrp_edge.card import ModelCard
from lrp_edge.datasets import Dataset, Sample, open_dataset, read_mask, read_split
from lrp_edge.decision import defect_probability
from lrp_edge.errors import LrpEdgeError, needs_extra
from lrp_edge.evaluation.options import EvaluateOptions
from lrp_edge.evaluation.pixels import Counts, PixelFigures, ratio
from lrp_edge.evaluation.predictors import Predictor, open_predictor
from lrp_edge.evaluation.severities import Severity, severity
from lrp_edge.options import accepted
from lrp_edge.runtime.result import Segmentation
from lrp_edge.usability import Examination, Usability

with needs_extra("evaluate"):
    from scipy.stats import spearmanr
    from sklearn.metrics import confusion_matrix, roc_auc_score, roc_curve

#: Groups of images besides each defect class: all with a defect, and all there are.
POSITIVE, ALL = "all defects", "all images"


@dataclass(frozen=True)
class Case:
    """One image: what it is, what was said of it.

    Attributes
    ----------
    name : str
        Path from the data's root.
    label, decided : str
        True and predicted class.
    score : float
        P(defect), see :func:`lrp_edge.decision.defect_probability`.
    iou : float or None
        IoU of its mask; None without a defect or without pixel truth.
    truth, found : Severity or None
        Of the pixel truth, None where there is none, and of the mask.
    """

    name: str
    label: str
    decided: str
    score: float
    iou: float | None
    truth: Severity | None
    found: Severity


@dataclass
class Evaluation:
    """All figures of one model on one set of images.

    Attributes
    ----------
    images : int
        Images run.
    supervision : str
        The supervision for each training image: ``"image"``, ``"patch"``, ``"pixel"``, or empty if unknown.
    auroc : float
        OK against defect, scored by P(defect).
    accuracy, defect_accuracy : float
        Share of images with the right class; with the right verdict, OK or defect.
    false_alarm_rate, recall_at_rate : float
        A share of OK images, and the share of defect images that are found at that false-alarm rate.
    recall : dict
        Share of each class's images that are classified as it.
    confusion : list of list of int
        Rows are the true classes, columns the decided ones.
    classes, defects : list of str
        Names of all classes and of those that are defects.
    pixels : dict
        Figures of each defect class, of ``"all defects"`` and of ``"all images"``; empty without pixel truth.
    tolerance : int
        Distance in pixels that counts as no error in near and boundary F1.
    severity : dict
        Over images with a defect and pixel truth: Spearman's rank correlation between truth and mask of ``count``,
        ``area`` and ``extent``; NaN where either does not vary.
    milliseconds : float
        Median time of the model for an image.
    sanity : dict
        What :func:`lrp_edge.evaluation.sanity.check_sanity` found, where it was asked for.
    usability : Usability or None
        Whether class and mask are better than chance, with intervals, and the proof of location.
    cases : list of Case
        Each image.
    """

    images: int
    supervision: str
    auroc: float
    accuracy: float
    defect_accuracy: float
    false_alarm_rate: float
    recall_at_rate: float
    recall: dict[str, float]
    confusion: list[list[int]]
    classes: list[str]
    defects: list[str]
    pixels: dict[str, PixelFigures] = field(default_factory=dict)
    tolerance: int = EvaluateOptions.tolerance
    severity: dict[str, float] = field(default_factory=dict)
    milliseconds: float = 0.0
    sanity: dict[str, float] = field(default_factory=dict)
    usability: Usability | None = None
    cases: list[Case] = field(default_factory=list)
    curves: dict[str, Any] = field(default_factory=dict, repr=False)

    def to_json(self) -> str:
        """Return all figures as JSON text; what is not a number is null."""
        content = asdict(self)
        content.pop("curves")
        return json.dumps(_nulled(content), indent=2) + "\n"

    def to_markdown(self) -> str:
        """Return two tables, class figures and mask figures, and whether they are better than chance."""
        names = ["images", "class AUROC", "accuracy", "OK/defect accuracy", f"recall at {self.false_alarm_rate:.0%}"]
        row = [f"{self.images}"]
        row += [f"{v:.3f}" for v in (self.auroc, self.accuracy, self.defect_accuracy, self.recall_at_rate)]
        names += [f"recall {name}" for name in self.classes]
        row += [f"{self.recall[name]:.2f}" for name in self.classes]
        lines = ["| " + " | ".join(names) + " |", "|" + " ---: |" * len(row), "| " + " | ".join(row) + " |"]
        if self.pixels:
            head = [name.replace("_", " ") for name in next(iter(self.pixels.values())).__dict__]
            lines += ["", "| | " + " | ".join(head) + " |", "| :--- |" + " ---: |" * len(head)]
        for name, part in self.pixels.items():
            images, *values = asdict(part).values()
            lines.append(f"| {name} | {images} | " + " | ".join(f"{value:.3f}" for value in values) + " |")
        if self.usability:
            lines += ["", *(f"- {line}" for line in self.usability.lines())]
        return "\n".join(lines) + "\n"


def evaluate(
    model: str | Path | Predictor,
    data: str | Path | Dataset,
    *,
    method: str = EvaluateOptions.method,
    split: str | Path | None = None,
    part: str = EvaluateOptions.part,
    masks: str | Path | None = None,
    false_alarm_rate: float = EvaluateOptions.false_alarm_rate,
    tolerance: int = EvaluateOptions.tolerance,
    progress: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Run a model over labelled images and measure classes and masks.

    Parameters
    ----------
    model : path or Predictor
        A file that ``lrp-edge export`` wrote, a checkpoint, or anything that answers frames.
    data : path or Dataset
        See :func:`lrp_edge.datasets.open_dataset`.
    method : {"lrp", "gradcam", "inverted-gray"}
        How a checkpoint's masks are made.
    split : path, optional
        ``split.json`` of a training run; only the images of its `part` are used.
    part : str
        ``"train"``, ``"val"`` or ``"test"``.
    masks : path, optional
        Folder with pixel truth under the same names as the images, as ``.png``; layouts that have their own need none.
    false_alarm_rate : float
        Share of OK images at which recall is stated.
    tolerance : int
        Distance in pixels that counts as no error in the figures that say so.
    progress : callable
        Called after each image.

    Raises
    ------
    LrpEdgeError
        If model, data, split or masks cannot be read or do not fit each other.
    """
    accepted(EvaluateOptions, method=method, part=part, false_alarm_rate=false_alarm_rate, tolerance=tolerance)
    predictor = open_predictor(model, method) if isinstance(model, str | Path) else model
    dataset = data if isinstance(data, Dataset) else open_dataset(data, masks=masks)
    card = predictor.card
    unknown = [name for name in dataset.classes if name not in card.classes]
    if unknown:
        raise LrpEdgeError(f"class {unknown[0]!r} of the data is not one of the model's: {', '.join(card.classes)}")
    chosen = _chosen(dataset, split, part)
    counts: defaultdict[str, Counts] = defaultdict(partial(Counts, tolerance))
    cases, times = [], []
    known = any(sample.mask for sample in chosen.samples)
    examination = Examination(predictor, chosen, f"{part} images" if split else "images")
    for name, sample in zip(chosen.names, chosen.samples, strict=True):
        frame = sample.read(card.input.order)
        result = predictor(frame)
        examination.add(frame, result)
        truth = _truth(sample, result, card) if known else None
        _count(counts, sample, result, truth, card)
        cases.append(_case(name, sample, result, truth, card))
        times.append(result.milliseconds)
        progress()
    evaluation = _of_classes(cases, card, false_alarm_rate)
    evaluation.milliseconds, evaluation.tolerance = float(np.median(times)), tolerance
    if POSITIVE in counts:
        names = (*card.defects, POSITIVE, ALL)
        evaluation.pixels = {name: counts[name].figures() for name in names if name in counts}
        evaluation.curves["pixel"] = {name: counts[name].curve() for name in names if name in counts}
        evaluation.severity = _correlations(cases)
    evaluation.usability = examination.judge(counts[POSITIVE].aurocs if POSITIVE in counts else ())
    return evaluation


def _chosen(dataset: Dataset, split: str | Path | None, part: str) -> Dataset:
    if split is None:
        return dataset
    parts = read_split(split, dataset)._asdict()
    if not parts[part].samples:
        raise LrpEdgeError(f"{split} has no images of a part {part!r}; choose another, or split the data anew")
    chosen: Dataset = parts[part]
    return chosen


def _truth(sample: Sample, result: Segmentation, card: ModelCard) -> NDArray[np.bool_] | None:
    """Pixel truth; an OK image has none of it, and a defect image without a file is left out of the pixel figures."""
    if sample.mask is None and sample.label in card.defects:
        return None
    return read_mask(sample, result.mask.shape)


def _count(
    counts: defaultdict[str, Counts],
    sample: Sample,
    result: Segmentation,
    truth: NDArray[np.bool_] | None,
    card: ModelCard,
) -> None:
    if truth is None:
        return
    seed = zlib.crc32(sample.path.name.encode())
    names = (sample.label, POSITIVE, ALL) if sample.label in card.defects else (ALL,)
    for name in names:
        counts[name].add(result, truth, seed)


def _case(name: str, sample: Sample, result: Segmentation, truth: NDArray[np.bool_] | None, card: ModelCard) -> Case:
    mask = result.mask > 0
    iou = None
    if truth is not None and truth.any():
        iou = ratio(int((mask & truth).sum()), int((mask | truth).sum()))
    score = float(defect_probability(card, result.scores))
    there = severity(truth) if truth is not None else None
    return Case(name, sample.label, result.name, score, iou, there, severity(mask))


def _of_classes(cases: list[Case], card: ModelCard, rate: float) -> Evaluation:
    truth = np.array([card.classes.index(case.label) for case in cases])
    found = np.array([card.classes.index(case.decided) for case in cases])
    scores = np.array([case.score for case in cases])
    defect = np.isin(truth, card.defect_indices)
    both = 0 < defect.sum() < len(defect)
    confusion = confusion_matrix(truth, found, labels=range(len(card.classes)))
    false, true, _ = roc_curve(defect, scores) if both else (np.zeros(1), np.zeros(1), None)
    return Evaluation(
        images=len(cases),
        supervision=str(card.provenance.get("supervision", "")),
        auroc=float(roc_auc_score(defect, scores)) if both else float("nan"),
        accuracy=float((truth == found).mean()),
        defect_accuracy=float((defect == np.isin(found, card.defect_indices)).mean()),
        false_alarm_rate=rate,
        recall_at_rate=float(true[false <= rate].max()) if both else float("nan"),
        recall={name: ratio(int(confusion[i, i]), int(confusion[i].sum())) for i, name in enumerate(card.classes)},
        confusion=confusion.tolist(),
        classes=list(card.classes),
        defects=list(card.defects),
        cases=cases,
        curves={"class": (false, true)},
    )


def _correlations(cases: list[Case]) -> dict[str, float]:
    pairs = [(case.truth, case.found) for case in cases if case.iou is not None and case.truth is not None]
    result = {}
    for name in ("count", "area", "extent"):
        truth, found = (np.array([getattr(pair[side], name) for pair in pairs], float) for side in (0, 1))
        varies = np.ptp(truth) > 0 and np.ptp(found) > 0
        result[name] = float(spearmanr(truth, found).statistic) if varies else float("nan")
    return result


def _nulled(value: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(value, dict):
        return {key: _nulled(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_nulled(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
