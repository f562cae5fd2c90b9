"""Masks and relevance against pixel truth."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lrp_edge.errors import needs_extra
from lrp_edge.evaluation.tolerance import Matches, outline
from lrp_edge.runtime.result import Segmentation

with needs_extra("evaluate"):
    from skimage.measure import label
    from sklearn.metrics import roc_auc_score, roc_curve

#: Pixels of one image that count for pooled curves; of a larger image so many are drawn, seeded by its name.
PIXELS_PER_IMAGE = 200_000
#: AUPRO is integrated up to this share of falsely found pixels, as is usual (Bergmann et al. 2019).
FALSE_SHARE = 0.3

Bools = NDArray[np.bool_]
Floats = NDArray[np.float32]


@dataclass
class PixelFigures:
    """Masks and relevance against pixel truth, over some images.

    Attributes
    ----------
    images : int
        How many.
    auroc : float
        Area under the ROC curve of relevance over all their pixels.
    auroc_per_image : float
        Mean of each image's own, over those with a defect.
    aupro : float
        Per-region overlap against the share of falsely found pixels up to 0.3, normalised to 1: each region counts
        alike, however small. Bergmann et al. 2019, "MVTec AD", section 4.2.
    iou, f1, precision, recall : float
        Of the masks, over all their pixels together.
    iou_per_image : float
        Mean of each image's own IoU, over those with a defect.
    iou_best : float
        Greatest IoU over all their pixels that any one threshold on relevance reaches. Pixel truth chooses it, so that
        it is a bound, not a result.
    f1_near, f1_near_per_image : float
        F1 of the masks within a tolerance: a pixel of the mask is right within so many pixels of the truth, and a pixel
        of the truth is found within so many of the mask. Over all their pixels together; mean of each image's own, over
        those with a defect.
    boundary_f1, boundary_f1_per_image : float
        The same of the pixels on the outlines of mask and truth alone. The mean over images is the boundary F1 of
        Csurka et al. 2013, "What is a good evaluation measure for semantic segmentation?", section 2.2, and the pooled
        one that of Martin, Fowlkes and Malik 2004, "Learning to Detect Natural Image Boundaries Using Local Brightness,
        Color, and Texture Cues", section 3.1, without its one-to-one assignment; both with a tolerance in pixels in
        place of a share of the image's diagonal.
    """

    images: int
    auroc: float
    auroc_per_image: float
    aupro: float
    iou: float
    iou_per_image: float
    f1: float
    precision: float
    recall: float
    iou_best: float
    f1_near: float
    f1_near_per_image: float
    boundary_f1: float
    boundary_f1_per_image: float


@dataclass
class Counts:
    """What is kept of images: confusion counts of pixels, exact and within a tolerance, and a share of their relevance.

    Parameters
    ----------
    tolerance : int
        In pixels, see :class:`PixelFigures`.
    """

    tolerance: int
    inside: int = 0
    alarms: int = 0
    missed: int = 0
    relevance: list[Floats] = field(default_factory=list)
    truth: list[Bools] = field(default_factory=list)
    regions: list[Floats] = field(default_factory=list)
    aurocs: list[float] = field(default_factory=list)
    ious: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.areas, self.outlines = Matches(self.tolerance), Matches(self.tolerance)

    def add(self, result: Segmentation, truth: Bools, seed: int) -> None:
        """Add one image.

        Parameters
        ----------
        result : Segmentation
            What was found.
        truth : ndarray, bool [H, W]
            What is there.
        seed : int
            Decides which pixels of a large image count for the curves.
        """
        mask = result.mask > 0
        inside, alarms, missed = (int(part.sum()) for part in (mask & truth, mask & ~truth, ~mask & truth))
        self.inside, self.alarms, self.missed = self.inside + inside, self.alarms + alarms, self.missed + missed
        self.areas.add(mask, truth)
        self.outlines.add(outline(mask), outline(truth))
        values, flags = result.relevance.ravel(), truth.ravel()
        if truth.any():
            self.ious.append(inside / (inside + alarms + missed))
            regions = label(truth, connectivity=2)
            self.regions += [result.relevance[regions == number] for number in range(1, regions.max() + 1)]
        if truth.any() and not truth.all():
            self.aurocs.append(float(roc_auc_score(flags, values)))
        if values.size > PIXELS_PER_IMAGE:
            chosen = np.random.default_rng(seed).choice(values.size, PIXELS_PER_IMAGE, replace=False)
            values, flags = values[chosen], flags[chosen]
        self.relevance.append(values.copy())
        self.truth.append(flags)

    def curve(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the pooled ROC curve: shares of falsely and of rightly found pixels."""
        false, true, _ = roc_curve(np.concatenate(self.truth), np.concatenate(self.relevance))
        return false, true

    def figures(self) -> PixelFigures:
        """Return the figures of all images that were added."""
        truth, relevance = np.concatenate(self.truth), np.concatenate(self.relevance)
        both = 0 < truth.sum() < truth.size
        union = self.inside + self.alarms + self.missed
        return PixelFigures(
            images=len(self.truth),
            auroc=float(roc_auc_score(truth, relevance)) if both else float("nan"),
            auroc_per_image=_mean(self.aurocs),
            aupro=aupro(self.regions, relevance[~truth]) if both else float("nan"),
            iou=ratio(self.inside, union),
            iou_per_image=_mean(self.ious),
            f1=ratio(2 * self.inside, union + self.inside),
            precision=ratio(self.inside, self.inside + self.alarms),
            recall=ratio(self.inside, self.inside + self.missed),
            iou_best=best_iou(truth, relevance),
            f1_near=self.areas.pooled,
            f1_near_per_image=_mean(self.areas.scores),
            boundary_f1=self.outlines.pooled,
            boundary_f1_per_image=_mean(self.outlines.scores),
        )


def aupro(regions: list[Floats], outside: Floats) -> float:
    """Return the area under per-region overlap against the share of falsely found pixels, from 0 to 1.

    Parameters
    ----------
    regions : list of ndarray, float [n]
        Relevance of the pixels of each connected region of the truth.
    outside : ndarray, float [n]
        Relevance of pixels outside.
    """
    shares = np.linspace(0, FALSE_SHARE, 301)
    thresholds = np.quantile(outside, 1 - shares, method="higher")
    overlap = np.zeros(len(shares))
    for values in regions:
        overlap += 1 - np.searchsorted(np.sort(values), thresholds, side="right") / len(values)
    return float(np.trapezoid(overlap / len(regions), shares) / FALSE_SHARE)


def best_iou(truth: Bools, relevance: Floats) -> float:
    """Return the greatest IoU that relevance above any one threshold has with the truth."""
    order = np.argsort(-relevance, kind="stable")
    inside = np.cumsum(truth[order])
    union = np.arange(1, truth.size + 1) + truth.sum() - inside
    # A threshold cannot separate pixels of equal relevance.
    last = np.append(np.diff(relevance[order]) != 0, True)
    return float((inside / union)[last].max()) if truth.any() else 0.0


def ratio(part: int, whole: int) -> float:
    """Return a share; of nothing it is 0."""
    return part / whole if whole else 0.0


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else float("nan")
