"""The mask head, set from OK images alone: what must stay empty, and what drawn marks should look like.

Two things are unknown once a classifier is trained. How much relevance is a defect: that is asked of OK images, few of
which may have any mask. And how far around its peak a defect reaches: that is asked of marks drawn on OK images, whose
outline is known because we drew it. No pixel truth is read.
"""

from __future__ import annotations

import dataclasses
from itertools import product

import numpy as np

from lrp_edge.card import MaskSpec, ModelCard
from lrp_edge.datasets import Dataset
from lrp_edge.errors import needs_extra
from lrp_edge.export.deployable import Deployable
from lrp_edge.relevance.masks import MaskHead, calibrate, threshold_fixed
from lrp_edge.training.marks import draw_marks
from lrp_edge.training.options import Options
from lrp_edge.training.windows import Frames, cut

with needs_extra("train"):
    import torch
    from torch import Tensor, nn

FRACTIONS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6)
SMOOTHINGS = ("none", "gaussian:1", "gaussian:2", "guided:5", "guided:9", "guided:17")
#: A pixel belongs to a drawn mark where the mark has this share of its full strength.
OUTLINE = 0.5
#: At most so many images are used: the figures settle long before.
MOST_IMAGES = 64


def calibrated(model: nn.Module, card: ModelCard, part: Dataset, options: Options) -> MaskSpec:
    """Choose smoothing, fraction and absolute threshold of the mask head.

    Parameters
    ----------
    model : nn.Module
        The trained classifier.
    card : ModelCard
        Its card; composite and explained class are taken from it.
    part : Dataset
        Images that were not trained on; only those of OK classes are opened.
    options : Options
        `patch`, the side of the windows that marks are drawn on; `false_alarms`, the share of OK images that may have
        any mask; `seed`.

    Returns
    -------
    MaskSpec
        That of the card if there are no OK images to calibrate on.
    """
    ok = np.flatnonzero(np.isin(part.labels, card.ok_indices))[:MOST_IMAGES]
    if not len(ok):
        return card.mask
    frames = Frames(part.subset(ok), card.input.network_order == "GRAY")
    side = max(options.patch - options.patch % 32, 32)
    deployable = Deployable(model.cpu().eval(), card, (side, side))
    smoothing, fraction, iou = _outline(deployable, frames, side, options.seed)
    head = MaskHead(MaskSpec("fixed", {"fraction": fraction}, smoothing))
    maxima = []
    with torch.no_grad():
        for index in range(len(frames)):
            relevance, guide = _explain(deployable, _frame(frames[index][0], card))
            maxima.append(head.smooth(relevance, guide).amax())
    threshold = calibrate(torch.stack(maxima), options.false_alarms)
    found = (
        f"a share of {options.false_alarms:g} of {len(ok)} OK images has relevance above the threshold; fraction and "
        f"smoothing give the best IoU ({iou:.2f}) with marks drawn on them"
    )
    parameters = {"threshold": threshold, "fraction": fraction}
    return dataclasses.replace(card.mask, method="calibrated", parameters=parameters, smoothing=smoothing, found=found)


def _outline(deployable: Deployable, frames: Frames, side: int, seed: int) -> tuple[str, float, float]:
    """Return the smoothing and fraction with the best pooled IoU over drawn marks, and that IoU."""
    heads = {smoothing: MaskHead(MaskSpec("fixed", {}, smoothing)) for smoothing in SMOOTHINGS}
    counts = {choice: np.zeros(2) for choice in product(SMOOTHINGS, FRACTIONS)}
    for index in range(len(frames)):
        generator = np.random.default_rng((seed, index, 4))
        window = cut(frames[index][0], np.zeros(2, np.int64), side)
        image, strength, _ = draw_marks(window.float(), generator, fewest=1)
        truth = torch.stack(strength).amax(0)[None] > OUTLINE
        with torch.no_grad():
            relevance, guide = _explain(deployable, _frame(image.round().clamp(0, 255).to(torch.uint8), deployable.card))
            for smoothing, head in heads.items():
                smooth = head.smooth(relevance, guide)
                for fraction in FRACTIONS:
                    mask = (smooth > threshold_fixed(smooth, fraction)) & (smooth > 0)
                    counts[smoothing, fraction] += [int((mask & truth).sum()), int((mask | truth).sum())]
    best = max(counts, key=lambda choice: counts[choice][0] / max(counts[choice][1], 1))
    return *best, float(counts[best][0] / max(counts[best][1], 1))


def _explain(deployable: Deployable, frame: Tensor) -> tuple[Tensor, Tensor]:
    """Return relevance and gray image [1, H, W] of a frame; only the size's multiple of 32 is looked at."""
    height, width = (size - size % 32 for size in frame.shape[1:3])
    frame = frame[:, :height, :width]
    return deployable.explain(frame)[1], frame.float().mean(3)


def _frame(image: Tensor, card: ModelCard) -> Tensor:
    """Return an image, uint8 [C, H, W] in the network's order, as a camera frame [1, H, W, C]."""
    channels = image.flip(0) if card.input.order != card.input.network_order else image
    return channels.permute(1, 2, 0)[None]
