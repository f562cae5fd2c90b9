"""What a trained classifier shows on images that it was not trained on, for its card."""

from __future__ import annotations

from lrp_edge.card import ModelCard
from lrp_edge.datasets import Dataset
from lrp_edge.errors import needs_extra
from lrp_edge.evaluation.predictors import RelevancePredictor
from lrp_edge.usability import Usability, examine

with needs_extra("train"):
    from torch import nn


def shown(model: nn.Module, card: ModelCard, part: Dataset, images: str, seed: int = 0) -> tuple[ModelCard, Usability]:
    """Examine a classifier as it is deployed, and note in its card what came out; pixel truth is not opened.

    Parameters
    ----------
    model : nn.Module
        The trained classifier.
    card : ModelCard
        Its card, with the mask head that is examined.
    part : Dataset
        Images that were not trained on.
    images : str
        What they are called, e.g. ``"validation images"``.
    seed : int
        Random seed of fillings and resampling.
    """
    usability = examine(RelevancePredictor(model.cpu(), card), part, images, seed)
    return card.replace(usable=usability.as_dict()), usability
