"""Is the mask about the classifier at all? Two checks that an explanation must pass.

References
----------
Adebayo et al. 2018, "Sanity Checks for Saliency Maps", arXiv 1810.03292: an explanation that stays the same when the
weights are random does not explain the model. LRP with z⁺ rules has been said to fail it (Sixt et al. 2020, "When
Explanations Lie", arXiv 1912.09818), so it is measured here and not assumed.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np

from lrp_edge.datasets import Dataset, read_mask
from lrp_edge.errors import LrpEdgeError, needs_extra

with needs_extra("evaluate"):
    from scipy.stats import spearmanr
    from sklearn.metrics import roc_auc_score
with needs_extra("export"):
    import torch
    from torch import nn

    from lrp_edge.checkpoint import load_checkpoint
    from lrp_edge.export.deployable import Deployable

#: At most this many defect images are used.
MOST_IMAGES = 24
#: Rank correlation is taken over this many pixels of each image.
PIXELS = 20_000


def check_sanity(checkpoint: str | Path, dataset: Dataset, seed: int = 0) -> dict[str, float]:
    """Compare relevance with that of a classifier with random weights, and with that for another defect.

    Parameters
    ----------
    checkpoint : path
        A checkpoint of a classifier.
    dataset : Dataset
        Images; defect images with pixel truth are used, evenly drawn from all of them.
    seed : int
        Random seed of the shuffled weights.

    Returns
    -------
    dict
        ``images``: how many. ``pixel_auroc``: mean over images of the relevance for the image's own class against pixel
        truth. ``pixel_auroc_random``: the same with random weights; it must fall towards 0.5.
        ``pixel_auroc_other_class``: that of the relevance for another defect class, the next one in order.
        ``rank_correlation_random`` and ``rank_correlation_other_class``: mean Spearman correlation of the two with the
        first; far below 1 if the explanation is the model's, and about the class.

    Raises
    ------
    LrpEdgeError
        If the checkpoint is not a classifier's, or no defect image has pixel truth.
    """
    network, card = load_checkpoint(checkpoint)
    if card.architecture.get("family") == "unet":
        raise LrpEdgeError(f"{checkpoint} is a U-Net; sanity checks are for a classifier's relevance")
    chosen = [i for i, sample in enumerate(dataset.samples) if sample.label in card.defects and sample.mask]
    if not chosen:
        raise LrpEdgeError("sanity checks need defect images with pixel truth, and there is none; give --masks")
    chosen = [chosen[int(i)] for i in np.linspace(0, len(chosen) - 1, min(MOST_IMAGES, len(chosen)))]
    shuffled = randomise(network, seed)
    explainers: dict[tuple[str, str], Deployable] = {}
    rows = []
    for index in chosen:
        sample = dataset.samples[index]
        frame = torch.from_numpy(sample.read(card.input.order)[None])
        truth = read_mask(sample, tuple(frame.shape[1:3]))  # type: ignore[arg-type]
        if not truth.any() or truth.all():
            continue
        other = card.defects[(card.defects.index(sample.label) + 1) % len(card.defects)]
        maps = []
        for which, model, explained in (
            ("trained", network, sample.label),
            ("shuffled", shuffled, sample.label),
            ("trained", network, other),
        ):
            if (which, explained) not in explainers:
                explainers[which, explained] = Deployable(model, card, (128, 128), explained=explained).eval()
            with torch.no_grad():
                maps.append(explainers[which, explained].explain(frame)[1][0].numpy().ravel())
        rows.append(_row(truth.ravel(), maps, index))
    names = (
        "pixel_auroc",
        "pixel_auroc_random",
        "pixel_auroc_other_class",
        "rank_correlation_random",
        "rank_correlation_other_class",
    )
    return {"images": float(len(rows)), **dict(zip(names, np.mean(rows, axis=0).tolist(), strict=True))}


def randomise(network: nn.Module, seed: int) -> nn.Module:
    """Return a copy of a network whose weights are shuffled within each output channel: same values, none learned."""
    shuffled = copy.deepcopy(network)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in shuffled.parameters():
            if weight.ndim > 1:
                rows = weight.flatten(1)
                order = torch.rand(rows.shape, generator=generator).argsort(1)
                weight.copy_(rows.gather(1, order).reshape(weight.shape))
    return shuffled


def _row(truth: Any, maps: list[Any], seed: int) -> list[float]:
    few = np.random.default_rng(seed).permutation(truth.size)[:PIXELS]
    aurocs = [float(roc_auc_score(truth, found)) for found in maps]
    return [*aurocs, *(_rank_correlation(maps[0][few], found[few]) for found in maps[1:])]


def _rank_correlation(first: Any, second: Any) -> float:
    """Spearman's; a constant map agrees with nothing."""
    return float(spearmanr(first, second).statistic) if np.ptp(first) and np.ptp(second) else 0.0
