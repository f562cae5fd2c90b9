"""Decision and mask head, calibrated on OK images alone: what must pass, what must stay empty, what should be masked.

The threshold of the decision is a quantile of the OK images' P(defect), see :mod:`lrp_edge.decision`.

Of the mask two things are unknown once a classifier is trained. How far a defect extends around its peak is measured
on spots and cracks drawn on OK images, whose outline is known because we drew it; areas are left out, since the outline
of a large defect is vague. How much relevance makes a defect is measured on OK images, few of whose pixels may be
masked. No pixel truth is read.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np

from lrp_edge import decision
from lrp_edge.card import DecisionSpec, MaskSpec, ModelCard
from lrp_edge.datasets import Dataset
from lrp_edge.errors import LrpEdgeError, needs_extra
from lrp_edge.export.deployable import Deployable, Preprocess
from lrp_edge.options import accepted
from lrp_edge.relevance.masks import FLOOR, SPREAD, MaskHead, calibrate, effective_area
from lrp_edge.training.options import Options
from lrp_edge.training.synthetic_defects import crack, draw_defects, spot
from lrp_edge.training.windows import Frames, cut

with needs_extra("train"):
    import torch
    from torch import Tensor, nn

#: Synthetic defects with a sharp outline.
FINE = (spot, crack)
#: Methods that find the threshold of each frame by themselves: a fixed share of the maximum suits one defect size only.
METHODS = ("otsu", "isodata")
SMOOTHINGS = ("none", "gaussian:2", "guided:5", "guided:9", "guided:17", "guided:25")
#: A pixel belongs to a synthetic defect where the defect has at least this share of its full strength.
OUTLINE = 0.5
#: At most this many OK images are used, and this many synthetic defects on each; the choice settles long before that.
MOST_IMAGES, WINDOWS = 64, 2
#: Pixels of each OK image that count for the floor.
PIXELS = 20_000


def decided(model: nn.Module, card: ModelCard, part: Dataset, rate: float) -> DecisionSpec:
    """Set the decision's threshold on OK images by a budget of false alarms.

    Where they are too few for it, the threshold is that of the least rate that they allow; where no threshold can be
    set, it stays at one half. Either is said on stderr and in the card.

    Parameters
    ----------
    model : nn.Module
        The trained classifier.
    card : ModelCard
        Its card.
    part : Dataset
        Images that were not trained on; only those of OK classes are opened.
    rate : float
        Share of OK images that may be decided to be defects.
    """
    frames = Frames(_ok(part, card), card.input.network_order == "GRAY")
    preprocess, network = Preprocess(card.input), model.cpu().eval()
    with torch.no_grad():
        logits = [network(preprocess(_batch(frames[index][0], card))) for index in range(len(frames))]
    scores = torch.cat([torch.zeros(0, len(card.classes)), *logits]).softmax(1).numpy()
    count, source = len(frames), "OK images that were not trained on"
    if 0 < count < decision.images_for(rate):
        least = decision.decimals(decision.least_rate(count))
        _warn(
            f"a false-alarm rate of {rate:g} needs {decision.images_for(rate)} OK images for validation, and {count} "
            f"allow {least} at least, which is taken: give more with --val, or set it on others with lrp-edge calibrate"
        )
        rate = float(least)
    try:
        return decision.calibrate(decision.defect_probability(card, scores), rate, source)
    except LrpEdgeError as error:
        _warn(f"the decision is not calibrated, its threshold is 0.5: {error}")
        return DecisionSpec(found=f"not calibrated: {error}")


def _warn(text: str) -> None:
    print(f"lrp-edge: warning: {text}", file=sys.stderr)


def _ok(part: Dataset, card: ModelCard, most: int | None = None) -> Dataset:
    """Return the images of OK classes, at most so many."""
    return part.subset(np.flatnonzero(np.isin(part.labels, card.ok_indices))[:most])


def calibrated(model: nn.Module, card: ModelCard, part: Dataset, false_alarms: float, seed: int = 0) -> MaskSpec:
    """Choose smoothing, method, spread and floor of the mask head from OK images.

    Parameters
    ----------
    model : nn.Module
        The trained classifier.
    card : ModelCard
        Its card, which gives the composite, the explained class and the decision.
    part : Dataset
        Images that were not trained on; only those of OK classes are opened.
    false_alarms : float
        Share of the pixels of OK images that may be masked.
    seed : int
        Random seed of the synthetic defects and of the sampled pixels.

    Returns
    -------
    MaskSpec
        The card's own if there are no OK images to calibrate on; the card's own except for the floor if the classifier
        detects none of the synthetic defects.

    Raises
    ------
    LrpEdgeError
        If the share or the seed is out of range.
    """
    accepted(Options, false_alarms=false_alarms, seed=seed)
    ok = _ok(part, card, MOST_IMAGES)
    if not ok.samples:
        return card.mask
    frames = Frames(ok, card.input.network_order == "GRAY")
    deployable = Deployable(model.cpu().eval(), card, (128, 128)).eval()
    with torch.no_grad():
        head = _fitted(list(_synthetic_defects(deployable, frames, seed)), card.mask)
        floor = _floor(deployable, frames, head, false_alarms, seed)
    found = f"{head.spec.found} drawn on {len(frames)} OK images; {false_alarms:g} of their pixels exceed the floor"
    return dataclasses.replace(head.spec, parameters={**head.spec.parameters, FLOOR: floor}, found=found)


def _fitted(defects: Sequence[_SyntheticDefect], default: MaskSpec) -> MaskHead:
    """Return the head that fits the synthetic defects best; the default one if none was detected."""
    if not defects:
        return MaskHead(dataclasses.replace(default, found="no synthetic defect is detected"))
    head, iou = _outline(defects)
    # Masks of fine defects are not widened; anything spread more widely is.
    spread = max(float(effective_area(head.smooth(*defect.explained)).clamp(min=1)) for defect in defects)
    found = f"best mean IoU ({iou:.2f}) with {len(defects)} spots and cracks, all within the spread,"
    return MaskHead(dataclasses.replace(head.spec, parameters={SPREAD: spread}, found=found))


@dataclasses.dataclass(frozen=True)
class _SyntheticDefect:
    """A synthetic defect that the classifier detected: its kind, its outline, and the relevance with its guide."""

    kind: int
    truth: Tensor
    explained: tuple[Tensor, Tensor]


def _synthetic_defects(deployable: Deployable, frames: Frames, seed: int) -> Iterator[_SyntheticDefect]:
    """Draw one defect on each of a few windows of the frames; windows classified as OK have no mask and are skipped."""
    for index, window in product(range(len(frames)), range(WINDOWS)):
        generator = np.random.default_rng((seed, index, window, 4))
        frame, _ = frames[index]
        side, kind = min(frame.shape[1:]), (index + window) % len(FINE)
        place = cut(frame, np.zeros(2, np.int64), side).float()
        image, (strength,), _ = draw_defects(place, generator, (FINE[kind],), fewest=1, most=1)
        truth = strength[None] > OUTLINE
        batch = _batch(image.round().clamp(0, 255).to(torch.uint8), deployable.card)
        logits, relevance = deployable.explain(batch)
        if deployable.decided_defect(deployable.decision(logits)) and truth.any():
            yield _SyntheticDefect(kind, truth, (relevance, batch.float().mean(3)))


def _outline(defects: Sequence[_SyntheticDefect]) -> tuple[MaskHead, float]:
    """Return the head with the best mean IoU, each kind of defect weighted equally.

    The mean over defects, since pooling pixels would let large defects outweigh small ones.
    """
    heads = [MaskHead(MaskSpec(method, smoothing=smooth)) for method, smooth in product(METHODS, SMOOTHINGS)]
    ious: dict[int, list[list[float]]] = {}
    for defect in defects:
        masks = [head(*defect.explained) for head in heads]
        row = [float((mask & defect.truth).sum() / (mask | defect.truth).sum()) for mask in masks]
        ious.setdefault(defect.kind, []).append(row)
    means = np.mean([np.mean(rows, axis=0) for rows in ious.values()], axis=0)
    return heads[int(means.argmax())], float(means.max())


def _floor(deployable: Deployable, frames: Frames, head: MaskHead, budget: float, seed: int) -> float:
    """Return the relevance that the budgeted share of OK pixels exceeds; frames classified as OK have no mask."""
    values = []
    for index in range(len(frames)):
        batch = _batch(frames[index][0], deployable.card)
        logits, relevance = deployable.explain(batch)
        strength = head.widen(head.smooth(relevance, batch.float().mean(3))).flatten()
        few = np.random.default_rng((seed, index, 5)).integers(0, len(strength), PIXELS)
        values.append(strength[few] * deployable.decided_defect(deployable.decision(logits)))
    return calibrate(torch.cat(values), budget)


def _batch(image: Tensor, card: ModelCard) -> Tensor:
    """Return an image, uint8 [C, H, W] in the network's order, as camera frames [1, H, W, C]."""
    channels = image.flip(0) if card.input.order != card.input.network_order else image
    return channels.permute(1, 2, 0)[None]
