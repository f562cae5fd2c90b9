"""Learning that resists shortcuts: defects are told from what comes with them, such as stains, wear and exposure.

The label of an image does not say what in it is the defect. Where soiled parts are the defective ones, soil explains
labels as well as defects do, and a network learns whichever is easier. Three pieces work against that, each an option:

- marks are drawn on OK images, and each position learns whether it has one: a mark on clean ground is a defect, before
  labels say anything (:class:`Surroundings`, :func:`mark_loss`);
- soil is drawn on images of all labels, so that it comes with OK too (:func:`soiled`);
- in a defect image only the strongest positions may be a defect, the others learn that they are OK (:func:`beyond`).

References
----------
Marks: Li et al. 2021, "CutPaste: Self-Supervised Learning for Anomaly Detection and Localization", arXiv 2104.04015.
Soil: Tobin et al. 2017, "Domain Randomization for Transferring Deep Neural Networks from Simulation to the Real World",
arXiv 1703.06907.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lrp_edge.errors import needs_extra
from lrp_edge.training.synthetic_defects import FIRST_SHARE, KINDS, VISIBLE, draw_defects
from lrp_edge.training.windows import WholeImages

with needs_extra("train"):
    import cv2
    import torch
    from torch import Tensor
    from torch.nn import functional
    from torch.utils.data import Dataset

#: Share of the epochs after which the area prior sets in: by then the strongest positions mean something.
PRIOR_FROM = 0.25
#: Label of an image with marks, which is some defect.
MARKED = -1


def soiled(image: Tensor, generator: np.random.Generator) -> Tensor:
    """Draw on an image, float [C, H, W] from 0 to 255, what is no defect: shading, a soft blot, and a rubbed patch.

    Shading is a slope across the image. Blot and patch are where smooth noise is high, without an outline: the one is
    darker or lighter, the other has fine streaks in one direction.
    """
    rows, columns = image.shape[1:]
    angle, slope = generator.uniform(0, 2 * np.pi), generator.uniform(0, 0.25)
    y, x = np.mgrid[-0.5 : 0.5 : rows * 1j, -0.5 : 0.5 : columns * 1j]
    factor = 1 + slope * (np.cos(angle) * x + np.sin(angle) * y)
    factor += generator.uniform(-0.35, 0.2) * _patch((rows, columns), generator)
    streaks = _streaks((rows, columns), generator) * _patch((rows, columns), generator)
    drawn = image * torch.from_numpy(factor).float() + generator.uniform(0, 15) * torch.from_numpy(streaks).float()
    return drawn.clamp(0, 255)


def _patch(size: tuple[int, int], generator: np.random.Generator) -> NDArray[np.float64]:
    """Return where smooth noise is high, from 0 to 1, softly."""
    noise = cv2.resize(generator.normal(0, 1, generator.integers(3, 7, 2)), size[::-1], interpolation=cv2.INTER_CUBIC)
    return np.asarray(1 / (1 + np.exp(-generator.uniform(3, 6) * (noise - generator.uniform(0.3, 1.2)))))


def _streaks(size: tuple[int, int], generator: np.random.Generator) -> NDArray[np.float64]:
    """Return noise of unit deviation, blurred far more along one direction than across it."""
    side = 2 * max(size)
    across, along = generator.uniform(0.7, 1.6), generator.uniform(5, 15)
    noise = cv2.GaussianBlur(generator.normal(0, 1, (side, side)), (0, 0), along, sigmaY=across)
    turn = cv2.getRotationMatrix2D((side / 2, side / 2), generator.uniform(0, 180), 1.0)
    turned = cv2.warpAffine(noise, turn, (side, side), borderMode=cv2.BORDER_REFLECT)
    top, left = ((side - length) // 2 for length in size)
    streaks = turned[top : top + size[0], left : left + size[1]]
    return np.asarray(streaks / max(float(streaks.std()), 1e-9))


def beyond(strength: Tensor, share: float) -> Tensor:
    """Tell which positions are not of the strongest share of their image.

    Parameters
    ----------
    strength : Tensor, float [N, h, w]
        How much each position looks like a defect.
    share : float
        Share of the positions that may be a defect, above 0; one of them may in any case.

    Returns
    -------
    Tensor, bool [N, h, w]
    """
    flat = strength.flatten(1)
    count = min(max(1, round(share * flat.shape[1])), flat.shape[1])
    least = flat.topk(count, 1).values[:, -1:]
    return (flat < least).view_as(strength)


def mark_loss(log_odds: Tensor, marks: Tensor) -> Tensor:
    """Return the loss by which positions on drawn marks are some defect and those off them are OK.

    Parameters
    ----------
    log_odds : Tensor, float [N, h, w]
        Of a defect at each position.
    marks : Tensor, float [N, H, W]
        Strength of the marks, from 0 to 1. Positions where it is between 0 and what is visible are left out.

    Returns
    -------
    Tensor, float
        The means on and off the marks, added: however few positions a mark has, they count as much as the others.
    """
    strength = functional.adaptive_max_pool2d(marks, log_odds.shape[1:])
    on, off = strength > VISIBLE, strength <= VISIBLE / 10
    losses = (functional.softplus(sign * log_odds[where]) for sign, where in ((-1, on), (1, off)) if where.any())
    return torch.stack([loss.mean() for loss in losses]).sum()


class Surroundings(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Whole images, some of them with drawn soil, mixed with OK images that have drawn marks.

    Items are an image, uint8 [C, H, W]; its label, int64, :data:`MARKED` for one with marks; and the strength of its
    marks, float [H, W], zero without any.

    Parameters
    ----------
    images : WholeImages
        The images of an epoch.
    ok : sequence of int
        Indices of the OK classes.
    soil : float
        Share of the images that get drawn soil, whatever their label.
    mark_epochs : int
        Epochs in which a share of :data:`~lrp_edge.training.synthetic_defects.FIRST_SHARE` has marks.
    mark_share : float
        Share that has marks after that.
    """

    def __init__(
        self,
        images: WholeImages,
        ok: Sequence[int],
        *,
        soil: float = 0.0,
        mark_epochs: int = 0,
        mark_share: float = 0.0,
    ) -> None:
        self.images, self.soil, self.mark_epochs, self.mark_share = images, soil, mark_epochs, mark_share
        self._is_ok = np.isin(images.frames.labels, ok)

    def draw(self, epoch: int) -> None:
        """Choose the images of an epoch."""
        self.images.draw(epoch)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        epoch = self.images.epoch
        generator = np.random.default_rng((self.images.seed, epoch, index, 7))
        share = FIRST_SHARE if epoch < self.mark_epochs else self.mark_share
        marked = bool(self._is_ok.any()) and generator.random() < share
        chosen = int(generator.choice(np.flatnonzero(self._is_ok))) if marked else self.images.chosen(index)
        image, label = self.images.varied(chosen, index)
        if generator.random() < self.soil:
            image = soiled(image.float(), generator)
        marks = torch.zeros(image.shape[1:])
        if marked:
            image, marks, label = *_marked(image.float(), generator), MARKED
        return image.round().clamp(0, 255).to(torch.uint8), torch.tensor(label), marks


def _marked(image: Tensor, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Draw marks in a square of an image [C, H, W]; return it with their strength, [H, W]."""
    side = min(image.shape[1:])
    top, left = (int(generator.integers(size - side + 1)) for size in image.shape[1:])
    place = np.s_[..., top : top + side, left : left + side]
    drawn, strength, _ = draw_defects(image[place], generator, KINDS[:2], fewest=1)
    image, marks = image.clone(), torch.zeros(image.shape[1:])
    image[place] = drawn
    marks[place] = torch.stack(strength).amax(0)
    return image, marks
