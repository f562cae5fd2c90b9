"""The mask head, set from OK images alone: what must stay empty, and what drawn marks should look like.

Two things are unknown once a classifier is trained. How far around its peak a defect reaches: that is asked of spots
and cracks drawn on OK images, whose outline is known because we drew it; areas are left out, since the outline of a
large defect is vague. And how much relevance is a defect: that is asked of OK images, few of whose pixels may be
masked. No pixel truth is read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np

from lrp_edge.card import MaskSpec, ModelCard
from lrp_edge.datasets import Dataset
from lrp_edge.errors import needs_extra
from lrp_edge.export.deployable import Deployable
from lrp_edge.relevance.masks import FLOOR, SPREAD, MaskHead, calibrate, effective_area
from lrp_edge.training.synthetic_defects import crack, draw_marks, spot
from lrp_edge.training.windows import Frames, cut

with needs_extra("train"):
    import torch
    from torch import Tensor, nn

#: Marks with a sharp outline.
FINE = (spot, crack)
#: Methods that find the threshold of each frame by themselves: a fixed share of the maximum fits one size of defect.
METHODS = ("otsu", "isodata")
SMOOTHINGS = ("none", "gaussian:2", "guided:5", "guided:9", "guided:17", "guided:25")
#: A pixel belongs to a drawn mark where the mark has this share of its full strength.
OUTLINE = 0.5
#: At most so many OK images are used, and so many marked windows of each; the choice settles long before.
MOST_IMAGES, WINDOWS = 64, 2
#: Pixels of each OK image that count for the floor.
PIXELS = 20_000


def calibrated(model: nn.Module, card: ModelCard, part: Dataset, false_alarms: float, seed: int = 0) -> MaskSpec:
    """Choose smoothing, method, spread and floor of the mask head from OK images.

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
        That of the card if there are no OK images to calibrate on, and that of the card but for the floor if no mark
        on them is seen as a defect.
    """
    ok = np.flatnonzero(np.isin(part.labels, card.ok_indices))[:MOST_IMAGES]
    if not len(ok):
        return card.mask
    frames = Frames(part.subset(ok), card.input.network_order == "GRAY")
    deployable = Deployable(model.cpu().eval(), card, (128, 128)).eval()
    with torch.no_grad():
        head = _fitted(list(_marked(deployable, frames, seed)), card.mask)
        floor = _floor(deployable, frames, head, false_alarms, seed)
    found = f"{head.spec.found} drawn on {len(ok)} OK images; {false_alarms:g} of their pixels exceed the floor"
    return dataclasses.replace(head.spec, parameters={**head.spec.parameters, FLOOR: floor}, found=found)


def _fitted(marked: Sequence[_Mark], default: MaskSpec) -> MaskHead:
    """Return the head that fits the marks best; the default one if none was seen as a defect."""
    if not marked:
        return MaskHead(dataclasses.replace(default, found="no defect is seen in marks"))
    head, iou = _outline(marked)
    # Masks of fine marks are not widened, whatever is spread more widely is.
    spread = max(float(effective_area(head.smooth(*mark.explained)).clamp(min=1)) for mark in marked)
    found = f"best mean IoU ({iou:.2f}) with {len(marked)} spots and cracks, all within the spread,"
    return MaskHead(dataclasses.replace(head.spec, parameters={SPREAD: spread}, found=found))


@dataclasses.dataclass(frozen=True)
class _Mark:
    """One mark on a window that was decided to be a defect: its kind, its outline, and relevance with its guide."""

    kind: int
    truth: Tensor
    explained: tuple[Tensor, Tensor]


def _marked(deployable: Deployable, frames: Frames, seed: int) -> Iterator[_Mark]:
    """Draw a mark on each of a few windows of the frames; those that are decided to be OK have no mask and are left."""
    for index, window in product(range(len(frames)), range(WINDOWS)):
        generator = np.random.default_rng((seed, index, window, 4))
        frame, _ = frames[index]
        side, kind = min(frame.shape[1:]), (index + window) % len(FINE)
        place = cut(frame, np.zeros(2, np.int64), side).float()
        image, (strength,), _ = draw_marks(place, generator, (FINE[kind],), fewest=1, most=1)
        truth = strength[None] > OUTLINE
        batch = _batch(image.round().clamp(0, 255).to(torch.uint8), deployable.card)
        logits, relevance = deployable.explain(batch)
        if deployable.is_defect[logits.argmax()] and truth.any():
            yield _Mark(kind, truth, (relevance, batch.float().mean(3)))


def _outline(marked: Sequence[_Mark]) -> tuple[MaskHead, float]:
    """Return the head with the best mean IoU, kinds of mark counted alike.

    The mean, since pooled pixels would be those of large marks, and small ones would not count.
    """
    heads = [MaskHead(MaskSpec(method, smoothing=smooth)) for method, smooth in product(METHODS, SMOOTHINGS)]
    ious: dict[int, list[list[float]]] = {}
    for mark in marked:
        masks = [head(*mark.explained) for head in heads]
        row = [float((mask & mark.truth).sum() / (mask | mark.truth).sum()) for mask in masks]
        ious.setdefault(mark.kind, []).append(row)
    means = np.mean([np.mean(rows, axis=0) for rows in ious.values()], axis=0)
    return heads[int(means.argmax())], float(means.max())


def _floor(deployable: Deployable, frames: Frames, head: MaskHead, budget: float, seed: int) -> float:
    """Return the relevance that the budgeted share of OK pixels exceeds; frames that are decided OK have no mask."""
    values = []
    for index in range(len(frames)):
        batch = _batch(frames[index][0], deployable.card)
        logits, relevance = deployable.explain(batch)
        strength = head.widen(head.smooth(relevance, batch.float().mean(3))).flatten()
        few = np.random.default_rng((seed, index, 5)).integers(0, len(strength), PIXELS)
        values.append(strength[few] * deployable.is_defect[logits.argmax()])
    return calibrate(torch.cat(values), budget)


def _batch(image: Tensor, card: ModelCard) -> Tensor:
    """Return an image, uint8 [C, H, W] in the network's order, as camera frames [1, H, W, C]."""
    channels = image.flip(0) if card.input.order != card.input.network_order else image
    return channels.permute(1, 2, 0)[None]
