"""What can be measured: an exported file, a checkpoint explained in different ways, and the baselines.

Each takes a camera frame and returns a :class:`~lrp_edge.runtime.Segmentation`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lrp_edge.card import MaskSpec, ModelCard
from lrp_edge.decision import decide, with_decision
from lrp_edge.errors import LrpEdgeError, needs_extra
from lrp_edge.evaluation.options import EvaluateOptions
from lrp_edge.options import accepted
from lrp_edge.runtime.result import Segmentation

UInt8 = NDArray[np.uint8]


class Predictor(Protocol):
    """Anything that answers a frame, uint8 [H, W, C], with class and mask, as `Segmenter` does."""

    card: ModelCard

    def __call__(self, frame: UInt8) -> Segmentation: ...


def open_predictor(model: str | Path, method: str = EvaluateOptions.method) -> Predictor:
    """Open what is to be measured.

    Parameters
    ----------
    model : path
        A file of ``lrp-edge export``, or a checkpoint.
    method : {"lrp", "gradcam", "inverted-gray"}
        How a checkpoint's masks are made; a U-Net's are its own, and an exported file's are those in its graph.

    Raises
    ------
    LrpEdgeError
        If the model cannot be read, or the method is unknown or not one for it.
    """
    accepted(EvaluateOptions, method=method)
    if Path(model).suffix != ".safetensors":
        from lrp_edge.runtime.segmenter import Segmenter

        if method != "lrp":
            raise LrpEdgeError(f"{model} answers with the masks of its own graph; --method is for a checkpoint")
        return Segmenter(model)
    from lrp_edge.checkpoint import load_checkpoint

    network, card = load_checkpoint(model)
    if card.architecture["family"] == "unet":
        if method != "lrp":
            raise LrpEdgeError(f"{model} is a U-Net, which makes masks of its own; --method is for a classifier")
        return PixelPredictor(network, card)
    return METHODS[method](network, with_decision(card))


class NetworkPredictor:
    """What all predictors of a checkpoint share.

    Parameters
    ----------
    network : nn.Module
        Takes a float image [N, C, H, W]; a classifier returns logits [N, K], a U-Net [N, 1, H, W].
    card : ModelCard
        Its card.
    """

    def __init__(self, network: Any, card: ModelCard) -> None:
        with needs_extra("export"):
            from lrp_edge.export.deployable import Preprocess
        self.card = card
        self.network = network.eval()
        self._preprocess = Preprocess(card.input)


class RelevancePredictor(NetworkPredictor):
    """A checkpoint in PyTorch: what its exported file computes, without the export."""

    def __init__(self, network: Any, card: ModelCard) -> None:
        with needs_extra("export"):
            from lrp_edge.export.deployable import Deployable
        super().__init__(network, card)
        self.deployable = Deployable(self.network, card, (128, 128)).eval()

    def __call__(self, frame: UInt8) -> Segmentation:
        import torch

        started = time.perf_counter()
        with torch.no_grad():
            scores, label, mask, relevance = (
                part[0].numpy() for part in self.deployable(torch.from_numpy(frame[None]))
            )
        return _segmentation(self.card, scores, int(label), mask, relevance, started)


class CamPredictor(NetworkPredictor):
    """Grad-CAM of the same classifier at its last features, for the strongest defect; MONAI's implementation.

    The mask is the map above Otsu's threshold.

    References
    ----------
    Selvaraju et al. 2017, "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization",
    arXiv 1610.02391, equations 1 and 2.
    """

    def __init__(self, network: Any, card: ModelCard) -> None:
        with needs_extra("baselines"):
            from monai.visualize.class_activation_maps import GradCAM
        with needs_extra("export"):
            from lrp_edge.relevance.masks import MaskHead
        super().__init__(network, card)
        self._cam = GradCAM(self.network, target_layers=f"features.{len(network.features) - 1}")
        self._head = MaskHead(MaskSpec("otsu"))

    def __call__(self, frame: UInt8) -> Segmentation:
        import torch

        started = time.perf_counter()
        image = self._preprocess(torch.from_numpy(frame[None]))
        with torch.no_grad():
            logits = self.network(image)
            scores = logits.softmax(1)[0].numpy()
        defects = list(self.card.defect_indices)
        explained = defects[int(logits[0, defects].argmax())]
        cam = torch.as_tensor(self._cam(image, class_idx=explained))[:, 0].detach()
        # MONAI scales the map from 1 at its least to 0 at its greatest value when it postprocesses.
        relevance = (1 - cam).clamp(min=0)
        label = int(decide(self.card, scores))
        decided = label in self.card.defect_indices
        mask = np.where(self._head(relevance)[0].numpy() & decided, 255, 0).astype(np.uint8)
        return _segmentation(self.card, scores, label, mask, relevance[0].numpy(), started)


class GrayPredictor(NetworkPredictor):
    """The floor: dark is defect. Relevance is the inverted gray value, the mask Otsu's; the class is the model's."""

    def __call__(self, frame: UInt8) -> Segmentation:
        import torch

        with needs_extra("evaluate"):
            from skimage.filters import threshold_otsu
        started = time.perf_counter()
        with torch.no_grad():
            scores = self.network(self._preprocess(torch.from_numpy(frame[None]))).softmax(1)[0].numpy()
        relevance = 255 - frame.mean(2, dtype=np.float32)
        label = int(decide(self.card, scores))
        flat = relevance.min() == relevance.max()
        above = np.zeros(relevance.shape, bool) if flat else relevance > threshold_otsu(relevance)
        mask = np.where(above & (label in self.card.defect_indices), 255, 0).astype(np.uint8)
        return _segmentation(self.card, scores, label, mask, relevance, started)


class PixelPredictor(NetworkPredictor):
    """The U-Net: a pixel is defect at a probability above one half; the image's score is its greatest probability.

    It knows no kinds of defect: a frame with any mask is classified as the first defect class.
    """

    def __call__(self, frame: UInt8) -> Segmentation:
        import torch

        from lrp_edge.training.unet import pixel_logits

        started = time.perf_counter()
        with torch.no_grad():
            logits = pixel_logits(self.network, self._preprocess(torch.from_numpy(frame[None])))[0, 0]
        probability = logits.sigmoid().numpy()
        mask = np.where(probability > 0.5, 255, 0).astype(np.uint8)
        scores = np.zeros(len(self.card.classes), np.float32)
        highest = float(probability.max())
        scores[self.card.defect_indices[0]] = highest
        scores[self.card.ok_indices[0]] = 1 - highest
        return _segmentation(self.card, scores, int(scores.argmax()), mask, logits.numpy(), started)


def _segmentation(card: ModelCard, scores: Any, label: int, mask: Any, relevance: Any, started: float) -> Segmentation:
    milliseconds = 1000 * (time.perf_counter() - started)
    return Segmentation(label, card.classes[label], label in card.defect_indices, scores, mask, relevance, milliseconds)


METHODS: dict[str, Callable[[Any, ModelCard], Predictor]] = {
    "lrp": RelevancePredictor,
    "gradcam": CamPredictor,
    "inverted-gray": GrayPredictor,
}
