"""Training modules: what all share, and learning from the labels of whole images."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from lrp_edge.backbones.unet import EncodedUNet
from lrp_edge.card import ModelCard
from lrp_edge.classifiers import Classifier, standardise
from lrp_edge.errors import LrpEdgeError, needs_extra
from lrp_edge.training.metrics import Figures, measure
from lrp_edge.training.options import NONE, Options
from lrp_edge.training.surroundings import MARKED, PRIOR_FROM, beyond, mark_loss

with needs_extra("train"):
    import lightning
    import torch
    from kornia import augmentation
    from torch import Tensor, nn
    from torch.nn import functional
    from torch.nn.modules.batchnorm import _BatchNorm
    from torch.utils.data import DataLoader

#: Share of the steps in which learning rates rise. PyTorch divides by zero where this times the steps is exactly 1.
RISE = 0.15
#: Factors on the contrast of an image that is taken whole.
GAINS = (0.8, 1.25)


class TrainingModule(lightning.LightningModule):
    """What all trainings share: normalised frames, AdamW on a one-cycle schedule, a resumable history.

    Each step has its own random state, so that an interrupted training resumes as if it had never stopped.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, card: ModelCard, options: Options, items: Any) -> None:
        super().__init__()
        self.model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.card, self.options, self.items = card, options, items
        self.register_buffer("mean", torch.tensor(card.input.mean)[:, None, None])
        self.register_buffer("std", torch.tensor(card.input.std)[:, None, None])
        self.history: list[dict[str, float]] = []
        self.figures: Any = None
        self._losses: list[Tensor] = []
        self.train()

    def normalise(self, image: Tensor) -> Tensor:
        """Normalise images of shape [N, C, H, W] in [0, 1], as the deployed graph does."""
        image = (image - self.mean) / self.std
        if self.card.input.standardise:
            image = standardise(image)
        return image.contiguous(memory_format=torch.channels_last)

    def train_dataloader(self) -> DataLoader[Any]:
        self.items.draw(self.current_epoch)
        batch, workers = self.options.batch, self.options.workers
        return DataLoader(self.items, batch, num_workers=workers, drop_last=len(self.items) > batch)

    def train(self, mode: bool = True) -> TrainingModule:
        """Train or evaluate; the statistics of BatchNorm are kept where they are frozen."""
        super().train(mode)
        # A decoder's statistics are those of nothing yet.
        started = self.model.features if isinstance(self.model, EncodedUNet) else self.model
        for module in started.modules() if mode and self.options.freeze_batch_norm else ():
            if isinstance(module, _BatchNorm):
                module.eval()
        return self

    def on_train_batch_start(self, batch: Any, index: int) -> None:
        step = self.current_epoch * int(self.trainer.num_training_batches) + index
        torch.manual_seed(self.options.seed * 1_000_003 + step)

    def training_step(self, batch: Any, index: int) -> Tensor:
        loss = self.loss(*batch)
        self._losses.append(loss.detach())
        return loss

    def loss(self, *batch: Tensor) -> Tensor:
        """Loss of one batch of items."""
        raise NotImplementedError

    def on_train_epoch_end(self) -> None:
        loss = float(torch.stack(self._losses).mean())
        self._losses.clear()
        if not math.isfinite(loss):
            raise LrpEdgeError(
                f"the training diverged in epoch {self.current_epoch + 1}: the loss is {loss}; use a lower "
                f"--lr than {self.options.lr:g}"
            )
        self.history.append({"epoch": self.current_epoch + 1, "loss": round(loss, 5), **self.validated()})
        self.log("loss", loss, prog_bar=True)

    def validated(self) -> dict[str, float]:
        """Return the validation metrics since the last call, by name."""
        raise NotImplementedError

    def configure_optimizers(self) -> Any:
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for parameter, factor in self._rates():
            # Weight decay applies to weights only; on normalisation scales and shifts it just slows learning.
            decay = self.options.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((self.options.lr * factor, decay), []).append(parameter)
        optimizer = torch.optim.AdamW(
            [{"params": found, "lr": rate, "weight_decay": decay} for (rate, decay), found in groups.items()]
        )
        steps = int(self.trainer.estimated_stepping_batches)
        rates = [rate for rate, _ in groups]
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, total_steps=steps, pct_start=RISE)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _rates(self) -> Iterator[tuple[nn.Parameter, float]]:
        """Yield each parameter and the factor on its learning rate."""
        features = self.model.features if isinstance(self.model, Classifier | EncodedUNet) else nn.Module()
        depths: dict[int, int] = {}
        depth = -1
        for module in features.modules():
            # What follows a convolution, such as its BatchNorm, is as deep as it.
            depth += isinstance(module, nn.Conv2d | nn.Linear)
            depths |= {id(parameter): depth for parameter in module.parameters(recurse=False)}
        for parameter in self.parameters():
            below = depths.get(id(parameter))
            decay = 1.0 if below is None else self.options.backbone_lr * self.options.layer_decay ** (depth - below)
            yield parameter, decay

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["history"] = self.history

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.history = list(checkpoint["history"])


class LabelModule(TrainingModule):
    """Learn image labels from whole images.

    The loss is the cross-entropy of an image's logits, and for an OK image that of all its positions besides: pooling
    lets an image learn by its strongest positions, but in an OK image every one is known to be OK. What is known of
    positions by drawn marks and the area prior is learnt alike, see :mod:`lrp_edge.training.surroundings`.
    """

    def __init__(self, model: nn.Module, card: ModelCard, options: Options, items: Any) -> None:
        super().__init__(model, card, options, items)
        if isinstance(model, Classifier):
            if not options.starts_pretrained and options.weights == NONE:
                centre_first_filters(model)
            if isinstance(model.head, nn.Conv2d):
                fix_ok(model.head, card.ok_indices)
        self._answers: list[tuple[Tensor, Tensor]] = []

    def train_dataloader(self) -> DataLoader[Any]:
        self.items.draw(self.current_epoch)
        # Of different sizes, they come one by one, and gradients are accumulated.
        return DataLoader(self.items, 1, num_workers=self.options.workers)

    def loss(self, *batch: Tensor) -> Tensor:
        images, labels, *marks = batch
        with torch.autocast(self.device.type, enabled=False):
            gains = torch.empty(len(images), 1, 1, 1, device=self.device).uniform_(*GAINS)
            frames = self.normalise(images / 255) * gains
        logits, features = self.answer(frames)
        # Whole images come one by one, so that all of a batch have marks or none has.
        if (labels == MARKED).all():
            positions = logits[..., None, None] if features is None else self.model.positions(features).float()
            return mark_loss(self._log_odds(positions).logsumexp(1), marks[0])
        return self.label_loss(logits, features, labels)

    def answer(self, frames: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the logits [N, K] of normalised frames, and their features where the network has such."""
        if not isinstance(self.model, Classifier):
            return self.model(frames).float(), None
        features = self.model.features(frames)
        return self.model.classify(features).float(), features

    def label_loss(self, logits: Tensor, features: Tensor | None, labels: Tensor) -> Tensor:
        """Return the loss of labelled frames."""
        loss = functional.cross_entropy(logits, labels, label_smoothing=self.options.label_smoothing)
        is_ok = torch.isin(labels, torch.tensor(self.card.ok_indices, device=labels.device))
        prior = self.options.area_prior if self.current_epoch >= PRIOR_FROM * self.options.epochs else 0.0
        if features is None or not self.options.dense_negatives or not (is_ok.any() or prior):
            return loss
        log_odds = self._log_odds(self.model.positions(features).float())
        negative = is_ok[:, None, None].expand(-1, *log_odds.shape[2:])
        if prior:
            negative = negative | beyond(log_odds.detach().logsumexp(1), prior)
        dense = (functional.softplus(log_odds).mean(1) * negative).sum((1, 2)) / negative.sum((1, 2)).clamp(min=1)
        return loss + self.options.dense_negatives * dense.mean()

    def _log_odds(self, positions: Tensor) -> Tensor:
        """Return the log-odds [N, D, h, w] of each defect against OK, from logits [N, K, h, w]."""
        ok = positions[:, list(self.card.ok_indices)].logsumexp(1, keepdim=True)
        return positions[:, list(self.card.defect_indices)] - ok

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        images, labels = batch
        logits = self.model(self.normalise(images / 255)).float()
        self._answers.append((logits.softmax(1).cpu(), labels.cpu()))

    def on_validation_epoch_end(self) -> None:
        scores, labels = (torch.cat(part) for part in zip(*self._answers, strict=True))
        self._answers.clear()
        self.figures = measure(scores, labels, self.card)
        self.log("val_accuracy", self.figures.accuracy, prog_bar=True)
        self.log("val_auroc", 0.0 if self.figures.auroc is None else self.figures.auroc, prog_bar=True)

    def validated(self) -> dict[str, float]:
        figures: Figures | None = self.figures
        self.figures = None
        if figures is None:
            return {}
        auroc = {} if figures.auroc is None else {"val_auroc": round(figures.auroc, 5)}
        return {"val_accuracy": round(figures.accuracy, 5), **auroc}


def centre_first_filters(model: Classifier) -> None:
    """Initialise the first filters with zero mean.

    Exposure varies between images far more than a defect's contrast within one. Filters that respond to exposure
    pass on little else once batch normalisation has scaled them by it; they can still learn brightness later.
    """
    first = next(module for module in model.features.modules() if isinstance(module, nn.Conv2d))
    with torch.no_grad():
        first.weight -= first.weight.mean((1, 2, 3), keepdim=True)


def fix_ok(head: nn.Conv2d, ok: Sequence[int]) -> None:
    """Fix the logits of the OK classes at zero in each position, so that those of defects are log-odds against them.

    Softmax depends on differences only, so nothing is lost; and a position's positive logit then means a defect, which
    is what relevance is shared by.
    """
    rows = list(ok)

    def without_ok(gradient: Tensor) -> Tensor:
        gradient = gradient.clone()
        gradient[rows] = 0
        return gradient

    with torch.no_grad():
        for parameter in (head.weight, head.bias):
            parameter[rows] = 0  # type: ignore[index]
            parameter.register_hook(without_ok)  # type: ignore[union-attr]


def geometric() -> list[Any]:
    """Return flips, small rotation and scale."""
    return [
        augmentation.RandomHorizontalFlip(p=0.5),
        augmentation.RandomVerticalFlip(p=0.5),
        augmentation.RandomAffine(degrees=10.0, scale=(0.9, 1.1), padding_mode="reflection", p=1.0),
    ]


def photometric() -> list[Any]:
    """Return brightness and contrast changes of the whole window; differences within a window are preserved."""
    return [
        augmentation.RandomBrightness((0.9, 1.1), p=1.0),
        augmentation.RandomContrast((0.8, 1.25), p=1.0),
    ]
