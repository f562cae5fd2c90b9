"""Mask heads fitted to synthetic defects, whose outline is known because we drew them: no pixel truth is read.

Fine defects (spots and cracks) and large areas are fitted apart, since no one head serves both: the outline of what is
fine is the image's, and areas are filled.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from lrp_edge.card import MaskSpec, ModelCard
from lrp_edge.errors import needs_extra
from lrp_edge.export.deployable import Deployable
from lrp_edge.relevance.masks import MaskHead, local_extent
from lrp_edge.relevance.outlines import close, local_contrast
from lrp_edge.training.synthetic_defects import area, crack, draw_defects, spot
from lrp_edge.training.windows import Frames, cut

with needs_extra("train"):
    import torch
    from torch import Tensor

#: Synthetic defects with a sharp outline, and those that are large.
FINE, LARGE = (spot, crack), (area,)
#: Thresholds that are tried for fine defects, by method and parameters, each after each smoothing and with each gate.
THRESHOLDS: tuple[tuple[str, dict[str, float]], ...] = (
    ("otsu", {}),
    ("otsu", {"fraction": 0.75}),
    ("otsu", {"fraction": 0.5}),
    ("isodata", {}),
    ("li", {}),
    ("mass", {"share": 0.5}),
    ("mass", {"share": 0.7}),
    ("mass", {"share": 0.85}),
    ("fixed", {"fraction": 0.1}),
    ("fixed", {"fraction": 0.2}),
    ("fixed", {"fraction": 0.3}),
)
SMOOTHINGS = ("none", "gaussian:2", "guided:5", "guided:9", "guided:17", "guided:25")
#: The least local contrast, in deviations; 0 leaves the gate out.
CONTRASTS = (0.0, 0.5, 0.75, 1.0)
#: Shares of the maximum, and sides of the closing, that are tried for areas.
FRACTIONS, CLOSINGS = (0.02, 0.05, 0.1, 0.2), (0, 31, 61, 125)
#: A pixel belongs to a synthetic defect where the defect has at least this share of its full strength.
OUTLINE = 0.5
#: Synthetic defects on each image.
WINDOWS = 3


@dataclasses.dataclass(frozen=True)
class SyntheticDefect:
    """A synthetic defect that the classifier detected.

    Attributes
    ----------
    kind : callable
        What drew it.
    truth : Tensor, bool [1, H, W]
        Its outline.
    relevance, guide : Tensor, float [1, H, W]
        Relevance of the window that it is on, and the gray window.
    """

    kind: object
    truth: Tensor
    relevance: Tensor
    guide: Tensor

    def iou(self, mask: Tensor) -> float:
        """Return the intersection of a mask with the outline over their union."""
        return float((mask & self.truth).sum() / (mask | self.truth).sum())


def synthetic_defects(deployable: Deployable, frames: Frames, seed: int) -> Iterator[SyntheticDefect]:
    """Draw one defect on each of a few windows of the frames, the kinds in turns.

    Windows that are classified as OK have no mask and are skipped.
    """
    kinds = (*FINE, *LARGE)
    for index, window in product(range(len(frames)), range(WINDOWS)):
        generator = np.random.default_rng((seed, index, window, 4))
        frame, _ = frames[index]
        kind = kinds[(index + window) % len(kinds)]
        place = cut(frame, np.zeros(2, np.int64), min(frame.shape[1:])).float()
        image, (strength,), _ = draw_defects(place, generator, (kind,), fewest=1, most=1)
        batch = as_frames(image.round().clamp(0, 255).to(torch.uint8), deployable.card)
        logits, relevance = deployable.explain(batch)
        truth = strength[None] > OUTLINE * strength.max()
        if deployable.decided_defect(deployable.decision(logits)) and truth.any():
            yield SyntheticDefect(kind, truth, relevance, batch.float().mean(3))


def as_frames(image: Tensor, card: ModelCard) -> Tensor:
    """Return an image, uint8 [C, H, W] in the network's order, as camera frames [1, H, W, C]."""
    channels = image.flip(0) if card.input.order != card.input.network_order else image
    return channels.permute(1, 2, 0)[None]


def fit_outline(defects: Sequence[SyntheticDefect]) -> tuple[MaskSpec, float]:
    """Return the head with the best mean IoU with fine defects, and that IoU.

    The mean over defects, each kind weighted equally, since pooling pixels would let large defects outweigh small ones.
    """
    heads = [
        MaskHead(MaskSpec(method, dict(parameters), smoothing))
        for smoothing, (method, parameters) in product(SMOOTHINGS, THRESHOLDS)
    ]
    smoothings = {name: MaskHead(MaskSpec(smoothing=name)).smooth for name in SMOOTHINGS}
    found: dict[object, list[list[float]]] = {}
    for defect in defects:
        contrast = local_contrast(defect.guide)
        smooth = {name: smoothing(defect.relevance, defect.guide) for name, smoothing in smoothings.items()}
        masks = [head.threshold(smooth[head.spec.smoothing]) for head in heads]
        # No contrast is less than 0, so that the gate of 0 is none.
        row = [defect.iou(mask & (contrast >= least)) for mask, least in product(masks, CONTRASTS)]
        found.setdefault(defect.kind, []).append(row)
    means = _mean_by_kind(found)
    best = int(means.argmax())
    spec, least = heads[best // len(CONTRASTS)].spec, CONTRASTS[best % len(CONTRASTS)]
    gate = {"contrast": least} if least else {}
    return dataclasses.replace(spec, parameters={**spec.parameters, **gate}), float(means[best])


def fit_area(defects: Sequence[SyntheticDefect], smoothing: str) -> tuple[dict[str, float], float]:
    """Return the parameters of the head of areas with the best mean IoU, and that IoU."""
    head = MaskHead(MaskSpec(smoothing=smoothing))
    choices = list(product(FRACTIONS, CLOSINGS))
    rows = []
    for defect in defects:
        smooth = head.smooth(defect.relevance, defect.guide)
        above = {fraction: smooth > fraction * smooth.amax() for fraction in FRACTIONS}
        rows.append([defect.iou(close(above[share], side) if side else above[share]) for share, side in choices])
    means = np.mean(rows, axis=0)
    fraction, side = choices[int(means.argmax())]
    return {"area_fraction": fraction, "area_close": float(side)}, float(means.max())


def extent(defect: SyntheticDefect, head: MaskHead) -> float:
    """Return the local extent of a defect's smoothed relevance, in pixels, at least 1."""
    return max(1.0, float(local_extent(head.smooth(defect.relevance, defect.guide))))


def _mean_by_kind(rows: dict[object, list[list[float]]]) -> NDArray[np.float64]:
    return np.asarray(np.mean([np.mean(each, axis=0) for each in rows.values()], axis=0))
