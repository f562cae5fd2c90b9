"""Mask heads fitted to synthetic defects, whose outline is known because we drew them: no pixel truth is read.

Fine defects (spots and cracks) and large areas are fitted apart, since no one head serves both: the outline of what is
fine is the image's, and areas are filled.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from lrp_edge.card import MaskSpec, ModelCard
from lrp_edge.errors import needs_extra
from lrp_edge.export.deployable import Deployable
from lrp_edge.relevance.masks import CONTRAST, EXTENT_WINDOW, TWO_MEANS, MaskHead, local_extent
from lrp_edge.relevance.outlines import close, local_contrast, two_means
from lrp_edge.training.synthetic_defects import area, crack, draw_defects, long_crack, spot
from lrp_edge.training.windows import Frames, cut

with needs_extra("train"):
    import torch
    from scipy.stats import mannwhitneyu
    from torch import Tensor

#: Synthetic defects with a sharp outline, and those that are large.
FINE, LARGE = (spot, crack, long_crack), (area,)
#: Share by which their depth varies: relevance of real ones follows what is deep in them.
UNEVEN = 0.6
#: How strong they are, in turn, until one is detected.
STRENGTHS = (1.0, 2.0)
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
#: Outlines that are tried: none, local contrast in deviations, and steps of two means, which hardly depend on smoothing
#: and are tried after some of them.
STEPS, MOVED = 3, ("none", "guided:9")
OUTLINES: tuple[dict[str, float], ...] = (
    {},
    {CONTRAST: 0.5},
    {CONTRAST: 0.75},
    {CONTRAST: 1.0},
    {TWO_MEANS: STEPS},
    {TWO_MEANS: STEPS, CONTRAST: 0.5},
)
#: Shares of the maximum, and sides of the closing, that are tried for areas.
FRACTIONS, CLOSINGS = (0.01, 0.02, 0.05, 0.1, 0.2), (0, 31, 61, 125, 187, 251)
#: A pixel belongs to a synthetic defect where the defect has at least this share of its full strength.
OUTLINE = 0.25
#: Most of the synthetic defects of a kind, whose extents tell fine ones from areas.
MOST = 0.9
#: Share of the pairs of an area and a fine defect in which the area must extend farther, and how likely that may be by
#: chance (Mann and Whitney 1947).
APART, CHANCE = 0.8, 0.01
#: At most this many detected synthetic defects of a kind are used; the choice settles before that.
MOST_OF_KIND = 16
#: Synthetic defects on each image, at least; of few images each has more, for as many of each kind to be drawn.
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

    def ious(self, masks: Tensor) -> Tensor:
        """Return the intersection of each mask [N, H, W] with the outline over their union, [N]."""
        return (masks & self.truth).sum((1, 2)) / (masks | self.truth).sum((1, 2))


def synthetic_defects(deployable: Deployable, frames: Frames, seed: int) -> Iterator[SyntheticDefect]:
    """Draw one defect on each of a few windows of the frames, the kinds in turns.

    What is not detected is drawn again, stronger; windows that are classified as OK then too have no mask and are
    skipped.
    """
    kinds, detected = (*FINE, *LARGE), Counter[object]()
    windows = max(WINDOWS, math.ceil(MOST_OF_KIND * len(kinds) / len(frames)))
    for index, window in product(range(len(frames)), range(windows)):
        frame, _ = frames[index]
        kind = kinds[(index + window) % len(kinds)]
        if detected[kind] == MOST_OF_KIND:
            continue
        place = cut(frame, np.zeros(2, np.int64), min(frame.shape[1:])).float()
        for stronger in STRENGTHS:
            generator = np.random.default_rng((seed, index, window, 4))
            image, (strength,), _ = draw_defects(
                place, generator, (kind,), fewest=1, most=1, uneven=UNEVEN, stronger=stronger
            )
            batch = as_frames(image.round().clamp(0, 255).to(torch.uint8), deployable.card)
            logits, relevance = deployable.explain(batch)
            truth = strength[None] > OUTLINE * strength.max()
            if deployable.decided_defect(deployable.decision(logits)) and truth.any():
                detected[kind] += 1
                yield SyntheticDefect(kind, truth, relevance, batch.float().mean(3))
                break


def as_frames(image: Tensor, card: ModelCard) -> Tensor:
    """Return an image, uint8 [C, H, W] in the network's order, as camera frames [1, H, W, C]."""
    channels = image.flip(0) if card.input.order != card.input.network_order else image
    return channels.permute(1, 2, 0)[None]


def fit_outline(defects: Sequence[SyntheticDefect]) -> tuple[MaskSpec, float]:
    """Return the head with the best mean IoU with fine defects, and that IoU.

    The mean over defects, each kind weighted equally, since pooling pixels would let large defects outweigh small ones.
    """
    thresholds = [
        MaskHead(MaskSpec(method, dict(parameters), smoothing))
        for smoothing, (method, parameters) in product(SMOOTHINGS, THRESHOLDS)
    ]
    smoothings = {name: MaskHead(MaskSpec(smoothing=name)).smooth for name in SMOOTHINGS}
    found: dict[object, list[NDArray[np.float64]]] = {}
    for defect in defects:
        smooth = {name: smoothing(defect.relevance, defect.guide) for name, smoothing in smoothings.items()}
        contrast = local_contrast(defect.guide)
        masks = [(head.spec.smoothing, head.threshold(smooth[head.spec.smoothing])) for head in thresholds]
        rows = np.array([_outlined(defect, mask, contrast, name in MOVED) for name, mask in masks])
        found.setdefault(defect.kind, []).append(rows)
    means = np.mean([np.mean(each, axis=0) for each in found.values()], axis=0)
    threshold, outline = np.unravel_index(int(means.argmax()), means.shape)
    spec = thresholds[threshold].spec
    return dataclasses.replace(spec, parameters={**spec.parameters, **OUTLINES[outline]}), float(means.max())


def _outlined(defect: SyntheticDefect, mask: Tensor, contrast: Tensor, moves: bool) -> list[float]:
    """Return the IoU of a mask of a defect with each of the outlines, given the image's local contrast [1, H, W].

    That is 0 for outlines by two means unless it `moves`.
    """
    empty = torch.zeros_like(mask)
    starts: dict[float, Tensor] = {0: mask, STEPS: two_means(defect.guide, mask, STEPS) if moves else empty}
    # No contrast is less than 0, so that the gate of 0 is none.
    return [
        float(defect.ious(starts[outline.get(TWO_MEANS, 0)] & (contrast >= outline.get(CONTRAST, 0.0))))
        for outline in OUTLINES
    ]


def fit_area(defects: Sequence[SyntheticDefect], smoothing: str) -> tuple[dict[str, float], float]:
    """Return the parameters of the head of areas with the best mean IoU, and that IoU."""
    head = MaskHead(MaskSpec(smoothing=smoothing))
    choices = list(product(FRACTIONS, CLOSINGS))
    rows = []
    for defect in defects:
        smooth = head.smooth(defect.relevance, defect.guide)
        above = {fraction: smooth > fraction * smooth.amax() for fraction in FRACTIONS}
        masks = torch.cat([close(above[share], side) if side else above[share] for share, side in choices])
        rows.append(defect.ious(masks).double().numpy())
    means = np.mean(rows, axis=0)
    fraction, side = choices[int(means.argmax())]
    return {"area_fraction": fraction, "area_close": float(side)}, float(means.max())


def extents(fine: Sequence[SyntheticDefect], large: Sequence[SyntheticDefect]) -> tuple[float, float]:
    """Return from which local extent on, in pixels, relevance is that of a large area: of a class, and of a frame.

    Of a class, whose frames are many, that is halfway, as a ratio, from the median of the fine kind that extends
    farthest to that of areas. A single frame must extend as far as nine in ten areas do, and as nine in ten of each
    fine kind do not. Both are infinite where areas do not extend farther than that kind in :data:`APART` of all pairs,
    or are so few that this may be chance: then nothing tells them apart. Without any large defect, a class cannot be
    told, and a frame must fill half of the window that extents are measured in. What has no relevance is left out.
    """

    def of(kind: object) -> NDArray[np.float64]:
        found = np.array([float(local_extent(x.relevance)) for x in (*fine, *large) if x.kind is kind])
        return found[found > 0]

    drawn = [found for found in map(of, FINE) if found.size]
    areas = np.concatenate([of(kind) for kind in LARGE])
    most = max((float(np.quantile(found, MOST)) for found in drawn), default=0.0)
    if not areas.size or not drawn:
        return np.inf, max(most, EXTENT_WINDOW**2 / 2)
    farthest = max(drawn, key=np.median)
    chance = mannwhitneyu(areas, farthest, alternative="greater").pvalue
    if (areas > farthest[:, None]).mean() < APART or chance > CHANCE:
        return np.inf, np.inf
    return float(np.sqrt(np.median(farthest) * np.median(areas))), max(most, float(np.quantile(areas, 1 - MOST)))
