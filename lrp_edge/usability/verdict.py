"""Whether class and mask of a model are better than chance, and what is not, in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lrp_edge.card import ModelCard
from lrp_edge.datasets import Dataset
from lrp_edge.decision import defect_probability
from lrp_edge.errors import LrpEdgeError, needs_extra
from lrp_edge.runtime.result import Segmentation
from lrp_edge.usability.intervals import LEVEL, Estimate, auroc, mean
from lrp_edge.usability.location import Location, Trial, locate, try_frame

with needs_extra("evaluate"):
    from scipy.stats import mannwhitneyu

#: At most so many images of defects, and as many OK ones, are filled for the proof of location.
MOST_FILLED = 64

UInt8 = NDArray[np.uint8]


class Predictor(Protocol):
    """Anything that answers a frame, uint8 [H, W, C], with class and mask."""

    card: ModelCard

    def __call__(self, frame: UInt8) -> Segmentation: ...


@dataclass(frozen=True)
class Usability:
    """What was shown of a model on labelled images, with 95 % confidence.

    Attributes
    ----------
    part : str
        The images: "validation images", "test images" or "images".
    images : int
        How many.
    auroc : Estimate or None
        OK against defect, by P(defect); None without images of both.
    found : dict
        By class, the share of its images with the right verdict, OK or defect.
    location : Location or None
        The proof of location; None if no image was decided a defect.
    pixel_auroc : Estimate or None
        Mean over images of relevance against pixel truth, where that was read.
    unusable : list of str
        What was not shown to be better than chance, a line for each; empty if all was.
    """

    part: str
    images: int
    auroc: Estimate | None
    found: dict[str, Estimate]
    location: Location | None
    pixel_auroc: Estimate | None = None
    unusable: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Return the figures in words: a line for class, one for masks, and the verdict."""
        right = ", ".join(f"{name} {share}" for name, share in self.found.items())
        classes = f"class, on {self.images} {self.part}: AUROC {self.auroc or 'not known'}; right verdict on {right}"
        masks = [f"pixel AUROC an image {self.pixel_auroc}"] if self.pixel_auroc else []
        masks += [str(self.location)] if self.location else ["no image is decided a defect"]
        return [classes, f"mask: {'; '.join(masks)}", verdict_of(self.unusable)]


def verdict_of(unusable: Sequence[str]) -> str:
    """Return the verdict in one line."""
    return f"not usable: {'; '.join(unusable)}" if unusable else "usable: class and mask are better than chance"


class Examination:
    """Takes a model's answers to labelled images one by one, tries fillings on some of them, and judges.

    Parameters
    ----------
    predictor : Predictor
        The model.
    dataset : Dataset
        The images, in the order in which they are added. Their pixel truth is not opened.
    part : str
        What they are, see :class:`Usability`.
    seed : int
        Random seed of fillings and resampling.

    Raises
    ------
    LrpEdgeError
        If an image is of a class that the model does not know.
    """

    def __init__(self, predictor: Predictor, dataset: Dataset, part: str = "images", seed: int = 0) -> None:
        self.predictor, self.dataset, self.part, self.seed = predictor, dataset, part, seed
        self.card = predictor.card
        unknown = [sample.label for sample in dataset.samples if sample.label not in self.card.classes]
        if unknown:
            raise LrpEdgeError(
                f"class {unknown[0]!r} of the data is not one of the model's: {', '.join(self.card.classes)}"
            )
        self.defect = np.array([sample.label in self.card.defects for sample in dataset.samples], bool)
        self._filled = {index for side in (True, False) for index in _spread(np.flatnonzero(self.defect == side))}
        self._scores: list[float] = []
        self._decided: list[bool] = []
        self._trials: list[Trial] = []

    def add(self, frame: UInt8, result: Segmentation) -> None:
        """Take the answer to the next image."""
        index = len(self._scores)
        self._scores.append(float(defect_probability(self.card, result.scores)))
        self._decided.append(result.defect)
        if index in self._filled:
            random = np.random.default_rng((self.seed, index, 6))
            defect = bool(self.defect[index])
            self._trials.append(try_frame(self.predictor, frame, result, defect, random, decided=self._is_likely))

    def _is_likely(self, result: Segmentation) -> bool:
        """Return whether a frame is decided a defect and is more likely one than not.

        A threshold near zero, as few OK images set it, would have a filling leave nothing that is suspicious at all.
        """
        return result.defect and float(defect_probability(self.card, result.scores)) > 0.5

    def judge(self, pixel_aurocs: Sequence[float] = ()) -> Usability:
        """Return what was shown, on the images that were added.

        Parameters
        ----------
        pixel_aurocs : sequence of float
            Of relevance against pixel truth, one for each image where that was measured.
        """
        count = len(self._scores)
        if not count:
            return Usability(self.part, 0, None, {}, None, None, [f"nothing is known without {self.part}"])
        defect, decided, scores = self.defect[:count], np.array(self._decided, bool), np.array(self._scores)
        right: dict[str, Any] = {name: [] for name in self.card.classes}
        for sample, hit in zip(self.dataset.samples, decided == defect, strict=False):
            right[sample.label].append(float(hit))
        ok, bad = scores[~defect], scores[defect]
        curve = auroc(ok, bad, self.seed) if len(ok) and len(bad) else None
        # A bootstrap of few images takes their order for certain; the exact test of ranks does not.
        certain = curve is not None and mannwhitneyu(bad, ok, alternative="greater").pvalue < (1 - LEVEL) / 2
        found = {name: mean(hits, self.seed) for name, hits in right.items() if hits}
        location = locate(self._trials)
        pixels = mean(pixel_aurocs, self.seed) if len(pixel_aurocs) else None
        doubts = [*_class_doubts(curve, certain, right, found, self.card), *_mask_doubts(location, pixels)]
        return Usability(self.part, count, curve, found, location, pixels, doubts)


def examine(predictor: Predictor, dataset: Dataset, part: str = "images", seed: int = 0) -> Usability:
    """Run a model over labelled images and judge it; pixel truth is not opened.

    Parameters
    ----------
    predictor, dataset, part, seed
        See :class:`Examination`.

    Raises
    ------
    LrpEdgeError
        If an image is of a class that the model does not know, cannot be read, or has not the model's size.
    """
    examination = Examination(predictor, dataset, part, seed)
    for sample in dataset.samples:
        frame = sample.read(predictor.card.input.order)
        examination.add(frame, predictor(frame))
    return examination.judge()


def _spread(indices: NDArray[np.int64]) -> list[int]:
    """Return some of the indices, evenly from all of them."""
    count = min(MOST_FILLED, len(indices))
    return [int(indices[int(place)]) for place in np.linspace(0, len(indices) - 1, count)] if count else []


def _class_doubts(
    curve: Estimate | None, certain: bool, right: dict[str, list[float]], found: dict[str, Estimate], card: ModelCard
) -> list[str]:
    doubts = []
    if curve is None:
        doubts.append("class: not known without images of OK and of defects")
    elif curve.low <= 0.5 or not certain:
        few = " of so few images" if curve.low > 0.5 else ""
        doubts.append(f"class: AUROC {curve}{few}, chance is 0.5")
    for name, hits in right.items():
        verdict = "a defect" if name in card.defects else "OK"
        if not hits:
            doubts.append(f"class {name}: not known without images of it")
        elif not any(hits):
            doubts.append(f"class {name}: none of {len(hits)} is decided {verdict}")
        elif found[name].low <= 0:
            doubts.append(f"class {name}: only {sum(hits):.0f} of {len(hits)} are decided {verdict}")
    return doubts


def _mask_doubts(location: Location | None, pixels: Estimate | None) -> list[str]:
    doubts = []
    if pixels and pixels.low <= 0.5:
        doubts.append(f"mask: pixel AUROC an image {pixels}, chance is 0.5")
    if location is None:
        doubts.append("mask: not known, since no image is decided a defect")
    elif location.margin is None:
        doubts.append(f"mask: {location}")
    elif location.margin.low <= 0:
        doubts.append(f"mask: {location}, which is chance")
    elif location.separation and location.separation.low <= 0:
        doubts.append(
            f"mask: a place decides OK images about as often as those of defects, difference {location.separation}"
        )
    return doubts
