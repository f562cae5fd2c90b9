"""A small classifier and its card, which the tests of the export share."""

from __future__ import annotations

import torch
from torch import nn

from lrp_edge import ModelCard
from lrp_edge.card import InputSpec

CLASSES = ("ok", "crack", "scratch", "hole", "stain")
RGB = InputSpec("BGR", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), size=(64, 64))
CARD = ModelCard(CLASSES, CLASSES[1:], RGB)


def tiny(seed: int = 0, channels: int = 3, classes: int = 5, favour: int | None = None) -> nn.Sequential:
    """Return a CNN of two convolutions with random weights; one class may be favoured in every frame."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(channels, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, classes),
    ).eval()
    if favour is not None:
        model[-1].bias.data = nn.functional.one_hot(torch.tensor(favour), classes) * 100.0
    return model
