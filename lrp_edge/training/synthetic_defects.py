"""Synthetic defects drawn on windows: pretraining on small local changes, without labels or pixel truth.

Trained directly on image-level labels, a network picks up exposure and texture long before a spot ten pixels
wide. Trained first on what kind of synthetic defect was drawn where on a window, it learns within minutes to
see detail; where it then finds such defects in real images is where the first windows are cut.

References
----------
The idea is that of Li et al. 2021, "CutPaste: Self-Supervised Learning for Anomaly Detection and
Localization", arXiv 2104.04015; the defects here are drawn, not pasted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from lrp_edge.errors import needs_extra
from lrp_edge.synthetic import draw as draw_part
from lrp_edge.training.windows import Windows

with needs_extra("train"):
    import cv2
    import torch
    from torch import Tensor, nn
    from torch.utils.data import Dataset

Shape = NDArray[np.float32]


def spot(side: int, generator: np.random.Generator) -> Shape:
    """Draw an ellipse of 2 to 24 pixels."""
    shape = np.zeros((side, side), np.float32)
    length = 2 * float(np.exp(generator.uniform(np.log(1.5), np.log(12))))
    axes = (length * generator.uniform(0.5, 1), length)
    cv2.ellipse(shape, (_position(side, generator).tolist(), axes, generator.uniform(0, 180)), 1.0, -1)
    return _soften(shape, generator.uniform(0.5, 1.5))


def crack(side: int, generator: np.random.Generator) -> Shape:
    """Draw a line that wanders, one to three pixels wide."""
    return _line(side, generator, turn=0.35, steps=(4, 14), margin=0.08)


def long_crack(side: int, generator: np.random.Generator) -> Shape:
    """Draw a line as wide through the middle of the window, straight or wandering, which may leave it."""
    return _line(side, generator, turn=float(generator.choice([0.0, 0.2])), steps=(15, 60), margin=0.25)


def _line(side: int, generator: np.random.Generator, turn: float, steps: tuple[int, int], margin: float) -> Shape:
    shape = np.zeros((side, side), np.float32)
    angles = generator.uniform(0, 2 * np.pi) + np.cumsum(generator.normal(0, turn, generator.integers(*steps)))
    moves = generator.uniform(4, 10, angles.size)[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)
    points = _position(side, generator, margin) + np.vstack([np.zeros((1, 2)), np.cumsum(moves, 0)])
    # Three fractional bits: OpenCV draws between pixel centres in fixed point.
    cv2.polylines(
        shape,
        [np.round(points * 8).astype(np.int32)],
        False,
        1.0,
        int(generator.integers(1, 4)),
        cv2.LINE_8,
        3,
    )
    return _soften(shape, generator.uniform(0.4, 1.0))


def area(side: int, generator: np.random.Generator) -> Shape:
    """Draw a polygon that covers a good part of the window."""
    shape = np.zeros((side, side), np.float32)
    angles = generator.uniform(0, 2 * np.pi) + np.linspace(0, 2 * np.pi, generator.integers(4, 9), endpoint=False)
    radii = side * generator.uniform(0.12, 0.6) * generator.uniform(0.6, 1.2, 2)
    corners = _position(side, generator) + radii * np.stack([np.cos(angles), np.sin(angles)], 1)
    cv2.fillPoly(shape, [corners.astype(np.int32)], 1.0)
    return 0.6 * _soften(shape, generator.uniform(0.5, 3))


#: What can be drawn; the index plus one is the class, and class 0 is background.
KINDS: tuple[Callable[[int, np.random.Generator], Shape], ...] = (spot, crack, area)
MOST_DEFECTS = 2
#: The share of a defect's full strength that a position's cell must exceed to be labelled with its kind.
VISIBLE = 0.3
#: Share of windows with synthetic defects during pretraining.
FIRST_SHARE = 0.75


class SyntheticDefectWindows(Dataset[tuple[Tensor, Tensor]]):
    """Windows with or without synthetic defects, and what was drawn where.

    Items are uint8 [C, side, side] and int64 [side / stride, side / stride], the kind of defect at each position
    of the features, 0 for background.

    Parameters
    ----------
    windows : dataset
        Where the windows come from, see :class:`~lrp_edge.training.windows.Windows`.
    stride : int
        Pixels from one position of the features to the next.
    """

    def __init__(self, windows: Windows | SurfaceWindows, stride: int) -> None:
        self.windows, self.stride = windows, stride

    def draw(self, epoch: int) -> None:
        """Choose the windows of an epoch."""
        self.windows.draw(epoch)

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        index %= len(self.windows)
        image, _ = self.windows[index]
        generator = np.random.default_rng((self.windows.seed, self.windows.epoch, index, 1))
        window, strength, kinds = draw_defects(image.float(), generator)
        places = torch.zeros(self.windows.side // self.stride, self.windows.side // self.stride, dtype=torch.int64)
        for shape, kind in zip(strength, kinds, strict=True):
            places[nn.functional.max_pool2d(shape[None], self.stride)[0] > VISIBLE] = kind
        return window.round().clamp(0, 255).to(torch.uint8), places


def draw_defects(
    image: Tensor,
    generator: np.random.Generator,
    kinds: Sequence[Callable[[int, np.random.Generator], Shape]] = KINDS,
    fewest: int = 0,
    most: int = MOST_DEFECTS,
    uneven: float = 0.0,
    stronger: float = 1.0,
) -> tuple[Tensor, list[Tensor], list[int]]:
    """Draw `fewest` to `most` synthetic defects of the given `kinds` on a square image, float [C, H, W], 0 to 255.

    They are so many times `stronger` than usual; and their depth, not their outline, varies within each by a share of
    up to `uneven`.

    Returns
    -------
    image : Tensor, float [C, H, W]
    strength : list of Tensor, float [H, W]
        Of each defect, from 0 to 1.
    kinds : list of int
        One more than the index in `kinds`.
    """
    strength, drawn = [], []
    for _ in range(generator.integers(fewest, most + 1)):
        kind = int(generator.integers(1, len(kinds) + 1))
        dark = generator.random() < 0.7
        depth = generator.uniform(0.12, 0.5) if dark else -generator.uniform(0.15, 0.6)
        shape = torch.from_numpy(kinds[kind - 1](image.shape[-1], generator))
        change = stronger * depth * shape
        if uneven:
            change = change * (1 - uneven * torch.from_numpy(_unevenness(image.shape[-1], generator)))
        image = image * (1 - change)
        strength.append(shape)
        drawn.append(kind)
    return image, strength, drawn


class SurfaceWindows(Dataset[tuple[Tensor, int]]):
    """Windows of synthetic defect-free surfaces of several materials, for data with few OK images."""

    def __init__(self, count: int, side: int, channels: int, seed: int) -> None:
        self.count, self.side, self.channels, self.seed, self.epoch = count, side, channels, seed, 0

    def draw(self, epoch: int) -> None:
        """Choose the windows of an epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        seed = int(np.random.default_rng((self.seed, self.epoch, index, 2)).integers(2**31))
        surface, _ = draw_part("ok", seed, (max(self.side, 64),) * 2)
        window = torch.from_numpy(surface[: self.side, : self.side])
        return window.expand(self.channels, -1, -1), 0


class Curriculum(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Labelled windows mixed with windows that may have synthetic defects: mostly the latter at first, few later.

    Items are a window, uint8 [C, side, side]; its label, int64, -1 for a synthetic one; and the kinds of synthetic
    defects, int64 [h, w], -1 for a labelled one.

    Parameters
    ----------
    windows : Windows
        Windows of all training images.
    synthetic : SyntheticDefectWindows or None
        Windows of OK surfaces with synthetic defects; None trains without them.
    first_epochs : int
        Epochs in which a share of :data:`FIRST_SHARE` is synthetic.
    share : float
        Share that is synthetic after that.
    """

    def __init__(
        self, windows: Windows, synthetic: SyntheticDefectWindows | None, first_epochs: int, share: float
    ) -> None:
        self.windows, self.synthetic, self.first_epochs, self.share = windows, synthetic, first_epochs, share
        self._none = torch.full((windows.side // (synthetic.stride if synthetic else windows.side),) * 2, -1)

    def draw(self, epoch: int) -> None:
        """Choose the windows of an epoch."""
        self.windows.draw(epoch)
        if self.synthetic:
            self.synthetic.draw(epoch)

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        epoch = self.windows.epoch
        share = FIRST_SHARE if epoch < self.first_epochs else self.share
        if self.synthetic and np.random.default_rng((self.windows.seed, epoch, index, 3)).random() < share:
            image, kinds = self.synthetic[index]
            return image, torch.tensor(-1), kinds
        image, label = self.windows[index]
        return image, torch.tensor(label), self._none


def _position(side: int, generator: np.random.Generator, margin: float = 0.08) -> NDArray[np.float64]:
    return generator.uniform(margin * side, (1 - margin) * side, 2)


def _unevenness(side: int, generator: np.random.Generator) -> NDArray[np.float32]:
    """Return a field [side, side] from 0 to 1 that changes over an eighth of the side."""
    field = cv2.GaussianBlur(generator.normal(0, 1, (side, side)), (0, 0), side / 8)
    return np.asarray((field - field.min()) / (field.max() - field.min()), np.float32)


def _soften(shape: Shape, sigma: float) -> Shape:
    return np.asarray(cv2.GaussianBlur(shape, (0, 0), sigma), np.float32)
