"""Training modules: windows of labelled images, and synthetic defects drawn on windows of OK images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from lrp_edge.card import ModelCard
from lrp_edge.classifiers import SMALLEST_SIDE, Classifier, evidence, standardise
from lrp_edge.errors import LrpEdgeError, needs_extra
from lrp_edge.training.metrics import Figures, measure
from lrp_edge.training.options import Options
from lrp_edge.training.synthetic_defects import KINDS, Curriculum

with needs_extra("train"):
    import lightning
    import torch
    from kornia import augmentation
    from torch import Tensor, nn
    from torch.nn import functional
    from torch.utils.data import DataLoader

#: Loss weight of background positions, which are by far the most.
BACKGROUND_WEIGHT = 0.3


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

    def on_train_batch_start(self, batch: Any, index: int) -> None:
        torch.manual_seed(self.options.seed * 1_000_003 + self.global_step)

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
        # Weight decay applies to weights only; on normalisation scales and shifts it just slows learning.
        decay = self.options.weight_decay
        groups = [
            {"params": [p for p in self.parameters() if p.ndim > 1], "weight_decay": decay},
            {"params": [p for p in self.parameters() if p.ndim <= 1], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=self.options.lr)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.options.lr, total_steps=steps, pct_start=0.1)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["history"] = self.history

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.history = list(checkpoint["history"])


class LabelModule(TrainingModule):
    """Learn image labels from windows that follow the model's own evidence, alongside synthetic defects.

    The loss is a sum of three: the label of a window, by cross-entropy; the kind of synthetic defect at each position
    of a window of an OK image, which teaches the features to see detail long before labels could; and whether such a
    window has any synthetic defect, which should be classified as some defect and ties the two together.
    """

    items: Curriculum

    def __init__(self, model: nn.Module, card: ModelCard, options: Options, items: Curriculum) -> None:
        super().__init__(model, card, options, items)
        self.positions = isinstance(model, Classifier)
        if isinstance(model, Classifier):
            if not options.weights:
                centre_first_filters(model)
            if isinstance(model.head, nn.Conv2d):
                fix_ok(model.head, card.ok_indices)
            self.mark_head = nn.Conv2d(model.width, 1 + len(KINDS), 1)
        self.geometric = augmentation.AugmentationSequential(*geometric(), data_keys=["input"])
        self.photometric = augmentation.AugmentationSequential(*photometric(), data_keys=["input"])
        self.register_buffer("mark_weights", torch.tensor([BACKGROUND_WEIGHT] + [1.0] * len(KINDS)), persistent=False)
        self._answers: list[tuple[Tensor, Tensor]] = []

    def train_dataloader(self) -> DataLoader[Any]:
        since = self.current_epoch - self.options.look_from
        if self.options.guided and since >= 0 and since % self.options.look_every == 0:
            self.update_evidence()
        return super().train_dataloader()

    def loss(self, *batch: Tensor) -> Tensor:
        images, labels, kinds = batch
        labelled = labels >= 0
        with torch.autocast(self.device.type, enabled=False):
            frames = images / 255
            if labelled.any():
                frames = frames.clone()
                frames[labelled] = self.geometric(frames[labelled])
            frames = self.normalise(self.photometric(frames).clamp(0, 1))
        if not self.positions:
            return self._label_loss(self.model(frames).float(), labels, kinds)
        features = self.model.features(frames)
        logits = self.model.classify(features).float()
        loss = self._label_loss(logits, labels, kinds)
        if labelled.all():
            return loss
        kind_logits = self.mark_head(features[~labelled]).float()
        weights = self.mark_weights
        return loss + functional.cross_entropy(kind_logits, kinds[~labelled], weight=weights)  # type: ignore[arg-type]

    def _label_loss(self, logits: Tensor, labels: Tensor, kinds: Tensor) -> Tensor:
        labelled = labels >= 0
        loss = logits.sum() * 0
        if labelled.any():
            smoothing = self.options.label_smoothing
            loss = functional.cross_entropy(logits[labelled], labels[labelled], label_smoothing=smoothing)
        if labelled.all():
            return loss
        has_defect = (kinds[~labelled] > 0).flatten(1).any(1)
        log_scores = logits[~labelled].log_softmax(1)
        defect, ok = (
            log_scores[:, list(side)].logsumexp(1) for side in (self.card.defect_indices, self.card.ok_indices)
        )
        share = 1 - labelled.float().mean()
        return loss - share * torch.where(has_defect, defect, ok).mean()

    @torch.no_grad()
    def update_evidence(self) -> None:
        """Update the evidence map of each training image, which the windows follow."""
        self.model.eval()
        frames, maps = self.items.windows.frames, []
        with self.trainer.precision_plugin.forward_context():
            for image, label in DataLoader(frames, 1, num_workers=self.options.workers):
                # The features end at a multiple of the stride anyway; each size costs new kernels.
                height, width = (size - size % SMALLEST_SIDE for size in image.shape[2:])
                frame = self.normalise(image[..., :height, :width].to(self.device) / 255)
                maps.append(self._sought(self._evidence(frame)[0].float(), int(label)).cpu())
        self.items.windows.follow([evidence.numpy() for evidence in maps])
        self.model.train()

    def _evidence(self, frame: Tensor) -> Tensor:
        """Logits [N, K, h, w] across an image: at the positions of the features, or of windows on a grid."""
        if isinstance(self.model, Classifier):
            return evidence(self.model, frame)
        side = min(self.options.patch, *frame.shape[2:])
        grid = frame.unfold(2, side, max(side // 2, 1)).unfold(3, side, max(side // 2, 1))
        rows, columns = grid.shape[2:4]
        logits = self.model(grid.permute(0, 2, 3, 1, 4, 5).flatten(0, 2))
        return logits.reshape(len(frame), rows, columns, -1).permute(0, 3, 1, 2)  # type: ignore[no-any-return]

    def _sought(self, scores: Tensor, label: int) -> Tensor:
        """Evidence for the image's class, or for the strongest defect in an OK image, against OK, from [K, h, w]."""
        defects, ok = list(self.card.defect_indices), list(self.card.ok_indices)
        wanted = scores[label] if label in defects else scores[defects].amax(0)
        return wanted - scores[ok].amax(0)

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

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["evidence"] = [torch.from_numpy(found) for found in self.items.windows.evidence]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self.items.windows.follow([found.numpy() for found in checkpoint["evidence"]])


def centre_first_filters(model: Classifier) -> None:
    """Initialise the first filters with zero mean.

    Exposure varies between images far more than a defect's contrast within one. Filters that respond to exposure
    pass on little else once batch normalisation has scaled them by it; they can still learn brightness later.
    """
    first = next(module for module in model.features if isinstance(module, nn.Conv2d))
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
