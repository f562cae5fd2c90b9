"""The baseline trained with pixel masks: a U-Net, in the same harness as the classifier."""

from __future__ import annotations

from typing import Any

import numpy as np

from lrp_edge.card import ModelCard
from lrp_edge.datasets import read_mask
from lrp_edge.errors import needs_extra
from lrp_edge.training.modules import TrainingModule, geometric, photometric
from lrp_edge.training.options import Options
from lrp_edge.training.windows import Draw, Frames, cut, place

with needs_extra("train"):
    import torch
    from kornia import augmentation
    from torch import Tensor, nn
    from torch.nn import functional
    from torch.utils.data import Dataset
with needs_extra("baselines"):
    from monai.losses.dice import DiceCELoss

#: Images are extended by reflection to a multiple of this before they enter the U-Net.
MULTIPLE = 32


class TruthFrames(Dataset[tuple[Tensor, Tensor]]):
    """Whole images, uint8 [C, H, W], and their pixel truth, uint8 [1, H, W], 0 or 1; all 0 for an OK image."""

    def __init__(self, frames: Frames) -> None:
        self.frames = frames

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, _ = self.frames[index]
        height, width = image.shape[1:]
        truth = read_mask(self.frames.dataset.samples[index], (height, width))
        return image, torch.from_numpy(truth[None].astype(np.uint8))


class TruthWindows(Dataset[tuple[Tensor, Tensor]]):
    """Windows of one epoch with their pixel truth: as many as images, from all of them, OK images included.

    Parameters
    ----------
    frames : Frames
        The training images.
    side : int
        Side of a window in pixels.
    draw : Draw
        Which images an epoch has.
    focus : float
        Fraction of the windows of defect images that are placed on the defect; the others lie anywhere.
    seed : int
        Random seed.
    """

    def __init__(self, frames: Frames, side: int, draw: Draw, focus: float, seed: int) -> None:
        self.truths, self.side, self.focus, self.seed, self.epoch = TruthFrames(frames), side, focus, seed, 0
        self._draw = draw
        self.draw(0)

    def draw(self, epoch: int) -> None:
        """Choose the images of an epoch."""
        self.epoch, self._chosen = epoch, self._draw(self.seed, epoch)

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        generator = np.random.default_rng((self.seed, self.epoch, index))
        image, truth = self.truths[int(self._chosen[index])]
        size = np.array(image.shape[1:])
        centre = generator.random(2) * size
        inside = np.argwhere(truth[0].numpy())
        if len(inside) and generator.random() < self.focus:
            centre = inside[generator.integers(len(inside))] + 0.5
        corner = place(centre, self.side, np.maximum(size, self.side), generator)
        return cut(image, corner, self.side), cut(truth, corner, self.side)


class PixelModule(TrainingModule):
    """Learn pixel truth with Dice plus cross-entropy, on windows of defect and OK images.

    Dice is computed per window: pooled over a batch, large defects would drown out small ones.
    """

    def __init__(self, model: nn.Module, card: ModelCard, options: Options, items: TruthWindows) -> None:
        super().__init__(model, card, options, items)
        keys = ["input", "mask"]
        self.geometric = augmentation.AugmentationSequential(*geometric(), data_keys=keys)
        self.photometric = augmentation.AugmentationSequential(*photometric(), data_keys=["input"])
        self.criterion = DiceCELoss(sigmoid=True)
        self._counts: list[tuple[int, int]] = []

    def loss(self, *batch: Tensor) -> Tensor:
        images, truths = batch
        with torch.autocast(self.device.type, enabled=False):
            frames, wanted = self.geometric(images / 255, truths.float())
            frames = self.normalise(self.photometric(frames).clamp(0, 1))
        loss: Tensor = self.criterion(self.model(frames).float(), (wanted > 0.5).float())
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        images, truths = batch
        found = pixel_logits(self.model, self.normalise(images / 255)) > 0
        wanted = truths > 0
        self._counts.append((int((found & wanted).sum()), int((found | wanted).sum())))

    def on_validation_epoch_end(self) -> None:
        inside, together = (sum(part) for part in zip(*self._counts, strict=True))
        self._counts.clear()
        self.figures = inside / together if together else 0.0
        self.log("val_iou", self.figures, prog_bar=True)

    def validated(self) -> dict[str, float]:
        iou, self.figures = self.figures, None
        return {} if iou is None else {"val_iou": round(iou, 5)}


def pixel_logits(model: nn.Module, image: Tensor) -> Tensor:
    """Return the logits [N, 1, H, W] of a U-Net for normalised images [N, C, H, W] of any size from 32 pixels on."""
    height, width = image.shape[2:]
    below, right = -height % MULTIPLE, -width % MULTIPLE
    logits: Any = model(functional.pad(image, (0, right, 0, below), mode="reflect"))
    return logits[..., :height, :width].float()  # type: ignore[no-any-return]
