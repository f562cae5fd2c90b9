"""What a classifier reaches on whole images."""

from __future__ import annotations

from dataclasses import dataclass

from lrp_edge.card import ModelCard
from lrp_edge.decision import decide, defect_probability
from lrp_edge.errors import needs_extra

with needs_extra("train"):
    from lrp_edge import _torchvision  # noqa: F401
with needs_extra("train"):
    import torch
    from torch import Tensor
    from torchmetrics.functional.classification import binary_auroc, multiclass_confusion_matrix


@dataclass(frozen=True)
class Figures:
    """What a classifier reaches on whole images.

    Attributes
    ----------
    images : int
        How many.
    accuracy : float
        Fraction of images classified correctly, by the card's decision.
    auroc : float or None
        Area under the ROC curve of OK against defect, by P(defect); None where
        only one of the two is present.
    recall : dict
        By class, the fraction of its images classified as it; None for a class without images.
    """

    images: int
    accuracy: float
    auroc: float | None
    recall: dict[str, float | None]


def measure(scores: Tensor, labels: Tensor, card: ModelCard) -> Figures:
    """Compare scores with labels.

    Parameters
    ----------
    scores : Tensor, float [N, K]
        Softmax scores.
    labels : Tensor, int64 [N]
        Class indices.
    card : ModelCard
        Names the classes, says which are defects and when an image is one.
    """
    decided = torch.from_numpy(decide(card, scores.numpy()))
    confusion = multiclass_confusion_matrix(decided, labels, num_classes=len(card.classes))
    hits, present = confusion.diagonal(), confusion.sum(1)
    defect = torch.isin(labels, torch.tensor(card.defect_indices))
    both = bool(defect.any()) and not bool(defect.all())
    defect_scores = torch.from_numpy(defect_probability(card, scores.numpy()))
    return Figures(
        images=len(labels),
        accuracy=float(hits.sum() / present.sum()),
        auroc=float(binary_auroc(defect_scores, defect.long())) if both else None,
        recall={name: float(hits[i] / present[i]) if present[i] else None for i, name in enumerate(card.classes)},
    )
