"""The two lessons of a classifier, as Lightning modules: drawn marks first, then the labels of images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lrp_edge.card import ModelCard
from lrp_edge.classifiers import SMALLEST_SIDE, Classifier, build, evidence
from lrp_edge.errors import LrpEdgeError, needs_extra
from lrp_edge.marks import KINDS, MarkedWindows
from lrp_edge.windows import Windows

with needs_extra("train"):
    from lrp_edge import _torchvision  # noqa: F401
with needs_extra("train"):
    import lightning
    import torch
    from kornia import augmentation
    from torch import Tensor, nn
    from torch.utils.data import DataLoader
    from torchmetrics.functional.classification import binary_auroc, multiclass_confusion_matrix

if TYPE_CHECKING:
    from lrp_edge.training import Options


@dataclass(frozen=True)
class Figures:
    """What a classifier reaches on whole images.

    Attributes
    ----------
    images : int
        How many.
    accuracy : float
        Fraction of images given their own class.
    auroc : float or None
        Area under the ROC curve of OK against defect, by the summed scores of the defect classes; None where
        only one of the two is present.
    recall : dict
        By class, the fraction of its images given it; None where there is none.
    """

    images: int
    accuracy: float
    auroc: float | None
    recall: dict[str, float | None]


class Lesson(lightning.LightningModule):
    """What both lessons share: windows in, augmentation, cross-entropy, AdamW on a one-cycle schedule."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: Classifier, card: ModelCard, options: Options, windows: Windows | MarkedWindows) -> None:
        super().__init__()
        self.model: Classifier = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.card, self.options, self.windows = card, options, windows
        self.augment: nn.Module = nn.Identity()
        self.register_buffer("mean", torch.tensor(card.input.mean)[:, None, None])
        self.register_buffer("std", torch.tensor(card.input.std)[:, None, None])
        self.history: list[dict[str, float]] = []
        self._losses: list[Tensor] = []

    def normalise(self, image: Tensor) -> Tensor:
        """Normalise images of shape [N, C, H, W] in [0, 1]."""
        return ((image - self.mean) / self.std).contiguous(memory_format=torch.channels_last)

    def train_dataloader(self) -> DataLoader[Any]:
        self.windows.draw(self.current_epoch)
        batch, workers = self.options.batch, self.options.workers
        return DataLoader(self.windows, batch, num_workers=workers, drop_last=len(self.windows) > batch)

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        images, labels = batch
        with torch.autocast(self.device.type, enabled=False):
            frames = self.normalise(self.augment(images / 255).clamp(0, 1))
        loss = self.loss(frames, labels)
        self._losses.append(loss.detach())
        return loss

    def loss(self, frames: Tensor, labels: Tensor) -> Tensor:
        """Loss of normalised frames [N, C, H, W]."""
        raise NotImplementedError

    def on_train_epoch_end(self) -> None:
        loss = float(torch.stack(self._losses).mean())
        self._losses.clear()
        if not math.isfinite(loss):
            raise LrpEdgeError(
                f"the training diverged in epoch {self.current_epoch + 1}: the loss is {loss}; use a lower "
                f"--lr than {self.options.lr:g}"
            )
        self.history.append({"epoch": self.current_epoch + 1, "loss": round(loss, 5)})
        self.log("loss", loss, prog_bar=True)

    def configure_optimizers(self) -> Any:
        # Decay is for weights; on the scales and shifts of normalisation it only slows learning.
        groups = [
            {
                "params": [p for p in self.model.parameters() if p.ndim > 1],
                "weight_decay": self.options.weight_decay,
            },
            {"params": [p for p in self.model.parameters() if p.ndim <= 1], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=self.options.lr)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            self.options.lr,
            total_steps=int(self.trainer.estimated_stepping_batches),
            pct_start=0.15,
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    @torch.no_grad()
    def look(self, windows: Windows) -> None:
        """Map the evidence in each training image, for the windows to follow."""
        self.model.eval()
        maps = []
        with self.trainer.precision_plugin.forward_context():
            for image, label in DataLoader(windows.frames, 1, num_workers=self.options.workers):
                # The features end at a multiple of the stride anyway; each size costs new kernels.
                height, width = (size - size % SMALLEST_SIDE for size in image.shape[2:])
                frame = self.normalise(image[..., :height, :width].to(self.device) / 255)
                scores = evidence(self.model, frame)[0].float()
                maps.append(self.sought(scores, int(label)).cpu().numpy())
        windows.look(maps)
        self.model.train()

    def sought(self, scores: Tensor, label: int) -> Tensor:
        """Map [h, w] of what the windows of an image of this class are to show, from scores [K, h, w]."""
        raise NotImplementedError


class MarkLesson(Lesson):
    """Tell what kind of mark was drawn, if any, at each position of a window."""

    balance: Tensor

    def __init__(self, card: ModelCard, options: Options, windows: MarkedWindows) -> None:
        model = build({**card.architecture, "classes": 1 + len(KINDS)})
        centre_first_filters(model)
        super().__init__(model, card, options, windows)
        # Most positions have no mark.
        self.register_buffer("balance", torch.tensor([0.3] + [1.0] * len(KINDS)))
        self.augment = augmentation.AugmentationSequential(*photometric(), data_keys=["input"])

    def loss(self, frames: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(evidence(self.model, frames).float(), labels, weight=self.balance)

    def sought(self, scores: Tensor, label: int) -> Tensor:
        """Whatever the class: any mark against none."""
        return scores[1:].amax(0) - scores[0]


class LabelLesson(Lesson):
    """Learn the labels of images from windows that follow the model's own evidence."""

    windows: Windows

    def __init__(self, features: nn.Module | None, card: ModelCard, options: Options, windows: Windows) -> None:
        model = build(card.architecture)
        if features is None:
            centre_first_filters(model)
        else:
            model.features.load_state_dict(features.state_dict())
        super().__init__(model, card, options, windows)
        self.augment = augmentation.AugmentationSequential(*geometric(), *photometric(), data_keys=["input"])
        self.figures: Figures | None = None
        self._answers: list[tuple[Tensor, Tensor]] = []

    def train_dataloader(self) -> DataLoader[Any]:
        since = self.current_epoch - self.options.look_from
        if self.options.guided and since >= 0 and since % self.options.look_every == 0:
            self.look(self.windows)
        return super().train_dataloader()

    def sought(self, scores: Tensor, label: int) -> Tensor:
        """In a defect image its class, in an OK image the strongest defect, each against OK."""
        defects, ok = list(self.card.defect_indices), list(self.card.ok_indices)
        wanted = scores[label] if label in defects else scores[defects].amax(0)
        return wanted - scores[ok].amax(0)

    def loss(self, frames: Tensor, labels: Tensor) -> Tensor:
        logits = self.model(frames).float()
        return nn.functional.cross_entropy(logits, labels, label_smoothing=self.options.label_smoothing)

    def on_train_epoch_end(self) -> None:
        super().on_train_epoch_end()
        if self.figures:
            self.history[-1]["val_accuracy"] = round(self.figures.accuracy, 5)
            if self.figures.auroc is not None:
                self.history[-1]["val_auroc"] = round(self.figures.auroc, 5)
            self.figures = None

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        images, labels = batch
        logits = self.model(self.normalise(images / 255)).float()
        self._answers.append((logits.softmax(1).cpu(), labels.cpu()))

    def on_validation_epoch_end(self) -> None:
        scores, labels = (torch.cat(part) for part in zip(*self._answers, strict=True))
        self._answers.clear()
        self.figures = measure(scores, labels, self.card)
        self.log("val_accuracy", self.figures.accuracy, prog_bar=True)
        if self.figures.auroc is not None:
            self.log("val_auroc", self.figures.auroc, prog_bar=True)


def centre_first_filters(model: Classifier) -> None:
    """Start with first filters that have no mean.

    Exposure varies between images far more than a defect's contrast within one. Filters that see it first
    pass on little else once batch normalisation has scaled them by it; they may learn brightness later.
    """
    first = next(module for module in model.features if isinstance(module, nn.Conv2d))
    with torch.no_grad():
        first.weight -= first.weight.mean((1, 2, 3), keepdim=True)


def geometric() -> list[Any]:
    """Return flips, small rotation and scale."""
    return [
        augmentation.RandomHorizontalFlip(p=0.5),
        augmentation.RandomVerticalFlip(p=0.5),
        augmentation.RandomAffine(degrees=10.0, scale=(0.9, 1.1), padding_mode="reflection", p=1.0),
    ]


def photometric() -> list[Any]:
    """Return brightness and contrast of the whole window; what differs within a window stays as it is."""
    return [
        augmentation.RandomBrightness((0.9, 1.1), p=1.0),
        augmentation.RandomContrast((0.8, 1.25), p=1.0),
    ]


def measure(scores: Tensor, labels: Tensor, card: ModelCard) -> Figures:
    """Compare scores with labels.

    Parameters
    ----------
    scores : Tensor, float [N, K]
        Softmax scores.
    labels : Tensor, int64 [N]
        Class indices.
    card : ModelCard
        Names the classes, and which are defects.
    """
    confusion = multiclass_confusion_matrix(scores, labels, num_classes=len(card.classes))
    hits, present = confusion.diagonal(), confusion.sum(1)
    defect = torch.isin(labels, torch.tensor(card.defect_indices))
    both = bool(defect.any()) and not bool(defect.all())
    defect_scores = scores[:, list(card.defect_indices)].sum(1)
    return Figures(
        images=len(labels),
        accuracy=float(hits.sum() / present.sum()),
        auroc=float(binary_auroc(defect_scores, defect.long())) if both else None,
        recall={name: float(hits[i] / present[i]) if present[i] else None for i, name in enumerate(card.classes)},
    )
