"""Learn from windows of labelled images, and from synthetic defects drawn on windows of OK images."""

from __future__ import annotations

from typing import Any

from lrp_edge.card import ModelCard
from lrp_edge.classifiers import SMALLEST_SIDE, Classifier, evidence
from lrp_edge.errors import needs_extra
from lrp_edge.training.modules import LabelModule, TrainingModule, geometric, photometric
from lrp_edge.training.options import Options
from lrp_edge.training.synthetic_defects import KINDS, Curriculum

with needs_extra("train"):
    import torch
    from kornia import augmentation
    from torch import Tensor, nn
    from torch.nn import functional
    from torch.utils.data import DataLoader

#: Loss weight of background positions, which are by far the most.
BACKGROUND_WEIGHT = 0.3


class WindowModule(LabelModule):
    """Learn image labels from windows that follow the model's own evidence, alongside synthetic defects.

    The loss is a sum of three: the label of a window, by cross-entropy; the kind of synthetic defect at each position
    of a window of an OK image, which teaches the features to see detail long before labels could; and whether such a
    window has any synthetic defect, which should be classified as some defect and ties the two together.
    """

    items: Curriculum
    mark_weights: Tensor

    def __init__(self, model: nn.Module, card: ModelCard, options: Options, items: Curriculum) -> None:
        super().__init__(model, card, options, items)
        if isinstance(model, Classifier):
            self.mark_head = nn.Conv2d(model.width, 1 + len(KINDS), 1)
        self.geometric = augmentation.AugmentationSequential(*geometric(), data_keys=["input"])
        self.photometric = augmentation.AugmentationSequential(*photometric(), data_keys=["input"])
        self.register_buffer("mark_weights", torch.tensor([BACKGROUND_WEIGHT] + [1.0] * len(KINDS)), persistent=False)

    def train_dataloader(self) -> DataLoader[Any]:
        since = self.current_epoch - self.options.look_from
        if self.options.guided and since >= 0 and since % self.options.look_every == 0:
            self.update_evidence()
        return TrainingModule.train_dataloader(self)

    def loss(self, *batch: Tensor) -> Tensor:
        images, labels, kinds = batch
        labelled = labels >= 0
        with torch.autocast(self.device.type, enabled=False):
            frames = images / 255
            if labelled.any():
                frames = frames.clone()
                frames[labelled] = self.geometric(frames[labelled])
            frames = self.normalise(self.photometric(frames).clamp(0, 1))
        logits, features = self.answer(frames)
        loss = logits.sum() * 0
        if labelled.any():
            of_labelled = None if features is None else features[labelled]
            loss = self.label_loss(logits[labelled], of_labelled, labels[labelled])
        if labelled.all():
            return loss
        share = 1 - labelled.float().mean()
        loss = loss - share * self._agreement(logits[~labelled], kinds[~labelled])
        if features is None:
            return loss
        kind_logits = self.mark_head(features[~labelled]).float()
        return loss + functional.cross_entropy(kind_logits, kinds[~labelled], weight=self.mark_weights)

    def _agreement(self, logits: Tensor, kinds: Tensor) -> Tensor:
        """Return the mean log-score of some defect where synthetic ones are, and of OK elsewhere."""
        has_defect = (kinds > 0).flatten(1).any(1)
        log_scores = logits.log_softmax(1)
        defect, ok = (
            log_scores[:, list(side)].logsumexp(1) for side in (self.card.defect_indices, self.card.ok_indices)
        )
        return torch.where(has_defect, defect, ok).mean()

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
        self.train()

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

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["evidence"] = [torch.from_numpy(found) for found in self.items.windows.evidence]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self.items.windows.follow([found.numpy() for found in checkpoint["evidence"]])
