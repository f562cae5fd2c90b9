"""A small classifier and its card, which the tests of the export share."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from lrp_edge import ModelCard
from lrp_edge.card import InputSpec
from lrp_edge.export import to_onnx

UInt8 = NDArray[np.uint8]
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


def export_once(model: nn.Module, folder: Path, *, card: ModelCard = CARD, frames: Sequence[UInt8] = ()) -> Path:
    """Return a copy in a test's own folder of a file that is exported once for all tests that ask for the same.

    Exporting takes PyTorch seconds, whatever the model's size; this is for tests of what comes after it.
    """
    kept = Path(os.environ["LRP_EDGE_TEST_EXPORTS"]) / _key(model, card, frames)
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(dir=kept.parent))
        to_onnx(model, fresh, card=card, frames=frames)
        try:
            fresh.rename(kept)
        except OSError:  # another worker was faster
            shutil.rmtree(fresh)
    shutil.copytree(kept, folder, dirs_exist_ok=True)
    return folder / "model.onnx"


def _key(model: nn.Module, card: ModelCard, frames: Sequence[UInt8]) -> str:
    digest = hashlib.sha256(f"{model!r} {model.training} {card.to_json()}".encode())
    for tensor in (*model.state_dict().values(), *map(torch.from_numpy, frames)):
        digest.update(f"{tensor.dtype} {list(tensor.shape)}".encode() + tensor.numpy().tobytes())
    return digest.hexdigest()
