"""The mask head, set from OK images alone: what must stay empty, and what drawn marks should look like.

Two things are unknown once a classifier is trained. How far around its peak a defect reaches: that is asked of marks
drawn on OK images, whose outline is known because we drew it: spots and cracks, since that of large areas is vague in
real defects. And how much relevance is a defect: that is asked of OK
images, few of whose pixels may be masked. No pixel truth is read.
"""

from __future__ import annotations

import dataclasses
from itertools import product

import numpy as np

from lrp_edge.card import MaskSpec, ModelCard
from lrp_edge.datasets import Dataset
from lrp_edge.errors import needs_extra
from lrp_edge.export.deployable import Deployable
from lrp_edge.relevance.masks import FLOOR, MaskHead, calibrate
from lrp_edge.training.marks import draw_marks
from lrp_edge.training.windows import Frames, cut

with needs_extra("train"):
    import torch
    from torch import Tensor, nn

#: Methods that find the threshold of each frame by themselves: a fixed share of the maximum fits one size of defect.
METHODS = ("otsu", "isodata")
SMOOTHINGS = ("none", "gaussian:2", "guided:5", "guided:9", "guided:17", "guided:25")
#: Kinds of mark with a sharp outline: the first two, spots and cracks.
FINE = 2
#: A pixel belongs to a drawn mark where the mark has this share of its full strength.
OUTLINE = 0.5
#: At most so many OK images are used, and so many marked windows of each; the choice settles long before.
MOST_IMAGES, WINDOWS = 64, 2
#: Pixels of each OK image that count for the floor.
PIXELS = 20_000


def calibrated(model: nn.Module, card: ModelCard, part: Dataset, false_alarms: float, seed: int = 0) -> MaskSpec:
    """Choose smoothing, method and floor of the mask head from OK images.

    Parameters
    ----------
    model : nn.Module
        The trained classifier.
    card : ModelCard
        Its card; composite and explained class are taken from it.
    part : Dataset
        Images that were not trained on; only those of OK classes are opened.
    false_alarms : float
        Share of the pixels of OK images that may be masked.
    seed : int
        Of the marks and of the pixels that are looked at.

    Returns
    -------
    MaskSpec
        That of the card if there are no OK images to calibrate on.
    """
    ok = np.flatnonzero(np.isin(part.labels, card.ok_indices))[:MOST_IMAGES]
    if not len(ok):
        return card.mask
    frames = Frames(part.subset(ok), card.input.network_order == "GRAY")
    deployable = Deployable(model.cpu().eval(), card, (128, 128)).eval()
    with torch.no_grad():
        chosen, iou, windows = _outline(deployable, frames, seed)
        floor = _floor(deployable, frames, MaskHead(chosen), false_alarms, seed)
    found = (
        f"best mean IoU ({iou:.2f}) with marks drawn on {windows} windows of {len(ok)} OK images; a share of "
        f"{false_alarms:g} of the images' pixels is above the floor"
    )
    return dataclasses.replace(chosen, parameters={FLOOR: floor}, found=found)


def _outline(deployable: Deployable, frames: Frames, seed: int) -> tuple[MaskSpec, float, int]:
    """Return the head with the best mean IoU over marked windows that are decided to be defects, and how many.

    The mean, since pooled pixels would be those of large marks, and small ones would not count.
    """
    specs = [MaskSpec(method, smoothing=smooth) for method, smooth in product(METHODS, SMOOTHINGS)]
    heads = [MaskHead(spec) for spec in specs]
    ious: list[list[float]] = []
    for index, window in product(range(len(frames)), range(WINDOWS)):
        generator = np.random.default_rng((seed, index, window, 4))
        frame, _ = frames[index]
        side = min(frame.shape[1:])
        image, strength, _ = draw_marks(cut(frame, np.zeros(2, np.int64), side).float(), generator, 1, FINE)
        truth = torch.stack(strength).amax(0)[None] > OUTLINE
        batch = _batch(image.round().clamp(0, 255).to(torch.uint8), deployable.card)
        logits, relevance = deployable.explain(batch)
        if deployable.is_defect[logits.argmax()] and truth.any():
            masks = [head(relevance, batch.float().mean(3)) for head in heads]
            ious.append([float((mask & truth).sum() / (mask | truth).sum()) for mask in masks])
    if not ious:
        return deployable.card.mask, 0.0, 0
    means = np.mean(ious, axis=0)
    return specs[int(means.argmax())], float(means.max()), len(ious)


def _floor(deployable: Deployable, frames: Frames, head: MaskHead, budget: float, seed: int) -> float:
    """Return the relevance that the budgeted share of OK pixels exceeds; frames that are decided OK have no mask."""
    values = []
    for index in range(len(frames)):
        batch = _batch(frames[index][0], deployable.card)
        logits, relevance = deployable.explain(batch)
        smooth = head.smooth(relevance, batch.float().mean(3)).flatten()
        few = np.random.default_rng((seed, index, 5)).integers(0, len(smooth), PIXELS)
        values.append(smooth[few] * deployable.is_defect[logits.argmax()])
    return calibrate(torch.cat(values), budget)


def _batch(image: Tensor, card: ModelCard) -> Tensor:
    """Return an image, uint8 [C, H, W] in the network's order, as camera frames [1, H, W, C]."""
    channels = image.flip(0) if card.input.order != card.input.network_order else image
    return channels.permute(1, 2, 0)[None]
