"""Decision and mask head, calibrated without pixel truth: what must pass, what must stay empty, how defects are masked.

The threshold of the decision is a quantile of the OK images' P(defect), see :mod:`lrp_edge.decision`.

Of the mask three things are unknown once a classifier is trained. How a defect is outlined is measured on defects drawn
on OK images, whose outline is known because we drew it, see :mod:`lrp_edge.training.heads`. Which classes have large
areas for defects is said by a person, or by how far relevance extends in images of a class. How much relevance makes a
defect is measured on OK images, few of whose pixels may be masked. No pixel truth is read.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence

import numpy as np

from lrp_edge import decision
from lrp_edge.card import DecisionSpec, MaskSpec, ModelCard
from lrp_edge.datasets import Dataset
from lrp_edge.errors import LrpEdgeError, needs_extra
from lrp_edge.export.deployable import Deployable, Preprocess
from lrp_edge.options import accepted
from lrp_edge.relevance.masks import FLOOR, MaskHead, calibrate, local_extent
from lrp_edge.training.heads import (
    FINE,
    LARGE,
    SyntheticDefect,
    as_frames,
    extents,
    fit_area,
    fit_outline,
    synthetic_defects,
)
from lrp_edge.training.options import Options
from lrp_edge.training.windows import Frames

with needs_extra("train"):
    import torch
    from torch import nn

#: At most this many OK images, and images of each class of defects, are used; the choice settles long before that.
MOST_IMAGES, MOST_OF_CLASS = 64, 24
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
    frames = Frames(_ok(part, card), _is_gray(card))
    preprocess, network = Preprocess(card.input), model.cpu().eval()
    with torch.no_grad():
        logits = [network(preprocess(as_frames(frames[index][0], card))) for index in range(len(frames))]
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


def calibrated(
    model: nn.Module,
    card: ModelCard,
    part: Dataset,
    false_alarms: float,
    seed: int = 0,
    *,
    find_areas: bool = True,
) -> MaskSpec:
    """Choose smoothing, threshold, outline, areas and floor of the mask head.

    Parameters
    ----------
    model : nn.Module
        The trained classifier.
    card : ModelCard
        Its card, which gives the composite, the explained class, the decision, where relevance is read, and the area
        classes if a person has named some.
    part : Dataset
        Images that were not trained on. Those of OK classes are drawn on; of defects, images are opened if no area
        class is named.
    false_alarms : float
        Share of the pixels of OK images that may be masked.
    seed : int
        Random seed of the synthetic defects and of the sampled pixels.
    find_areas : bool
        Whether to look for area classes where none is named; otherwise all defects are taken for fine ones.

    Returns
    -------
    MaskSpec
        The card's own if there are no OK images to calibrate on; the card's own except for the floor if the classifier
        detects none of the fine synthetic defects.

    Raises
    ------
    LrpEdgeError
        If the share or the seed is out of range.
    """
    accepted(Options, false_alarms=false_alarms, seed=seed)
    ok = _ok(part, card, MOST_IMAGES)
    if not ok.samples:
        return card.mask
    frames = Frames(ok, _is_gray(card))
    deployable = Deployable(model.cpu().eval(), card, (128, 128)).eval()
    with torch.no_grad():
        defects = list(synthetic_defects(deployable, frames, seed))
        fine = [defect for defect in defects if defect.kind in FINE]
        spec = dataclasses.replace(card.mask, found="no synthetic defect is detected")
        if fine:
            outlined, iou = fit_outline(fine)
            found = f"best mean IoU ({iou:.2f}) with {len(fine)} spots and cracks drawn on {len(frames)} OK images"
            spec = dataclasses.replace(outlined, area_classes=card.mask.area_classes, found=found)
            large = [defect for defect in defects if defect.kind in LARGE]
            spec = _chosen_by(deployable, spec, part, extents(fine, large), find_areas)
            spec = _with_areas(spec, large)
        floor = _floor(deployable, frames, MaskHead(spec), false_alarms, seed)
    found = f"{spec.found}; {false_alarms:g} of the pixels of OK images exceed the floor"
    return dataclasses.replace(spec, parameters={**spec.parameters, FLOOR: floor}, found=found)


def _chosen_by(
    deployable: Deployable, spec: MaskSpec, part: Dataset, limits: tuple[float, float], find_areas: bool
) -> MaskSpec:
    """Say which frames have a large area: those of classes that are named or found, or those of a large extent.

    A class is found to be one of areas if relevance of its median image has a local extent beyond the first of the
    `limits`, see :func:`~lrp_edge.training.heads.extents`; only labels are read. Without such a class, each frame whose
    relevance has one beyond the second is taken for one, if that is finite.
    """
    if spec.area_classes:
        return dataclasses.replace(spec, found=f"{spec.found}; area classes as named")
    if not find_areas:
        return spec
    of_class, of_frame = limits
    medians = _median_extents(deployable, part)
    names = tuple(name for name in deployable.card.defects if medians.get(name, 0.0) > of_class)
    if names:
        found = f"relevance of their median image has a local extent of more than {of_class:.0f} pixels"
        found = f"{spec.found}; area classes by labels: {found}, halfway from drawn fine defects to drawn areas"
        return dataclasses.replace(spec, area_classes=names, found=found)
    if np.isinf(of_frame):
        found = f"{spec.found}; no areas: relevance of drawn ones extends no farther than that of drawn fine defects"
        return dataclasses.replace(spec, found=found)
    found = f"{spec.found}; areas by the frame: its relevance has a local extent of more than {of_frame:.0f} pixels"
    parameters = {**spec.parameters, "area_extent": of_frame}
    return dataclasses.replace(spec, parameters=parameters, found=f"{found}, as drawn areas have")


def _median_extents(deployable: Deployable, part: Dataset) -> dict[str, float]:
    """Return the median local extent of relevance, in pixels, of each defect class's images decided as defects."""
    card, found = deployable.card, {}
    for index in card.defect_indices:
        images = Frames(part.subset(np.flatnonzero(part.labels == index)[:MOST_OF_CLASS]), _is_gray(card))
        areas = []
        for place in range(len(images)):
            batch = as_frames(images[place][0], card)
            logits, relevance = deployable.explain(batch)
            if deployable.decided_defect(deployable.decision(logits)):
                areas.append(float(local_extent(relevance)))
        if areas:
            found[card.classes[index]] = float(np.median(areas))
    return found


def _with_areas(spec: MaskSpec, drawn: Sequence[SyntheticDefect]) -> MaskSpec:
    """Fit the head of large areas where one is used, to synthetic areas if any was detected."""
    if not drawn or not (spec.area_classes or "area_extent" in spec.parameters):
        return spec
    parameters, iou = fit_area(drawn, spec.smoothing)
    found = f"{spec.found}; filled by the best mean IoU ({iou:.2f}) with {len(drawn)} drawn areas"
    return dataclasses.replace(spec, parameters={**spec.parameters, **parameters}, found=found)


def _floor(deployable: Deployable, frames: Frames, head: MaskHead, budget: float, seed: int) -> float:
    """Return the floor that leaves the budgeted share of OK pixels in masks; frames decided OK have none."""
    values = []
    for index in range(len(frames)):
        batch = as_frames(frames[index][0], deployable.card)
        logits, relevance = deployable.explain(batch)
        label = deployable.decision(logits)
        areas = torch.tensor([deployable.card.classes[int(label)] in head.spec.area_classes])
        strength = head.strength(relevance, batch.float().mean(3), areas)
        few = np.random.default_rng((seed, index, 5)).integers(0, strength.numel(), PIXELS)
        values.append(strength.flatten()[few] * deployable.decided_defect(label))
    return calibrate(torch.cat(values), budget)


def _is_gray(card: ModelCard) -> bool:
    return card.input.network_order == "GRAY"
