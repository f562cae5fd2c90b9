"""The deletion curve, on a network that looks at one known place, and on a photograph."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from tools import deletion

SIDE, PATCH = 32, 8
PATCHES = (SIDE // PATCH) ** 2


class Place(nn.Module):
    """Sees how bright the pixels of one patch are, and nothing else."""

    place: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Conv2d(3, 2, 1), nn.Linear(2, 2)
        self.register_buffer("place", torch.zeros(1, 1, SIDE, SIDE))
        self.place[..., 8:16, 16:24] = 1
        for name, value in (("layer.weight", 0.5), ("layer.bias", 0.0), ("head.bias", 0.0)):
            nn.init.constant_(self.get_parameter(name), value)
        self.head.weight.data = torch.tensor([[0.3, 0.3], [-0.3, -0.3]])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head((self.layer(x).relu() * self.place).sum((2, 3)) / PATCH**2)
        return logits


@pytest.fixture
def image() -> NDArray[np.uint8]:
    image = np.random.default_rng(0).integers(100, 180, (SIDE, SIDE, 3)).astype(np.uint8)
    image[8:16, 16:24] = 200
    return image


def probability(image: NDArray[np.uint8]) -> float:
    with torch.no_grad():
        return float(Place()(deletion.normalised(image[None])).softmax(1)[0, 0])


@pytest.mark.parametrize("fill", deletion.FILLS)
def test_what_the_class_rests_on_goes_first(image: NDArray[np.uint8], fill: str) -> None:
    deleted = image.copy()
    there = slice(8, 16), slice(16, 24)
    deleted[there] = image.mean((0, 1)).round() if fill == "mean" else cv2.GaussianBlur(image, (0, 0), 12.0)[there]
    left = probability(deleted) / probability(image)
    assert left < 0.99
    found = deletion.measure(Place().eval(), {"image": image}, PATCH, fill, PATCHES, 3)
    for name in (*deletion.COMPOSITES, deletion.GRADIENT):
        np.testing.assert_allclose(found[name].left, [[1] + [left] * PATCHES], rtol=1e-6)
        assert found[name].areas == pytest.approx([left + (1 - left) / (2 * PATCHES)])
    for curve in found[deletion.RANDOM].left:
        # It falls once, wherever in a random order that patch comes.
        place = int((curve > (1 + left) / 2).sum())
        np.testing.assert_allclose(curve, [1] * place + [left] * (PATCHES + 1 - place), rtol=1e-6)
    assert len({tuple(curve) for curve in found[deletion.RANDOM].left}) > 1


def test_a_photograph_loses_its_class_sooner_than_by_chance() -> None:
    images = deletion.photographs()
    assert all(image.shape == (deletion.SIDE, deletion.SIDE, 3) for image in images.values())
    model = deletion.lite0()
    with torch.no_grad():
        logits = model(deletion.normalised(np.stack([images["coffee"], images["chelsea"]])))
    # An espresso and a cat, by their places in ImageNet's list.
    assert logits.argmax(1).tolist()[0] == 967
    assert 281 <= logits.argmax(1).tolist()[1] <= 285
    found = deletion.measure(model, {"coffee": images["coffee"]}, 32, "blur", 7, 2)
    chance = found[deletion.RANDOM].areas.min()
    assert all(found[composite].areas[0] < chance for composite in deletion.COMPOSITES)


def test_the_program_prints_figures_and_draws_curves(
    image: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(deletion, "lite0", lambda: Place().eval())
    monkeypatch.setattr(deletion, "photographs", lambda: {"image": image})
    arguments = ["deletion", "-o", str(tmp_path / "curve.png"), "--steps", "4", "--patches", "8", "--seeds", "2"]
    monkeypatch.setattr(sys, "argv", arguments)
    deletion.main()
    lines = capsys.readouterr().out.splitlines()
    area = deletion.measure(Place().eval(), {"image": image}, 8, "blur", 4, 2)["Segmentation"].areas[0]
    assert lines[0] == "| deleted first | 8 px, blur | 8 px, mean |"
    assert lines[2].startswith(f"| Segmentation | {area:.3f} | ")
    drawn = cv2.imread(str(tmp_path / "curve.png"))
    assert drawn is not None
    assert drawn.std() > 10
