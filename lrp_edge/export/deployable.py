"""The module that is deployed: frames in, class, mask and relevance out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from lrp_edge.card import InputSpec, ModelCard
from lrp_edge.errors import LrpEdgeError, needs_extra

with needs_extra("export"):
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn

    from lrp_edge.classifiers import standardise
    from lrp_edge.relevance import unroll
    from lrp_edge.relevance.composites import Composite
    from lrp_edge.relevance.masks import MaskHead
    from lrp_edge.relevance.targets import OfLogits, Target

OUTPUTS = ("scores", "label", "mask", "relevance")

# ITU-R BT.601 luma, as OpenCV's COLOR_BGR2GRAY and Pillow's "L".
_LUMA = {"RGB": (0.299, 0.587, 0.114), "BGR": (0.114, 0.587, 0.299)}


class Preprocess(nn.Module):
    """Frames, uint8 [N, H, W, C] → the network's input, float [N, c, h, w]: cast, colour, size, normalisation."""

    scale: Tensor
    shift: Tensor

    def __init__(self, spec: InputSpec) -> None:
        super().__init__()
        self.spec = spec
        mean, std = (torch.tensor(values).reshape(1, -1, 1, 1) for values in (spec.mean, spec.std))
        self.register_buffer("scale", 1 / (255 * std))
        self.register_buffer("shift", -mean / std)

    def forward(self, frames: Tensor) -> Tensor:
        # TensorRT takes uint8 for a cast only, so the cast comes first.
        x = frames.to(self.scale.dtype).permute(0, 3, 1, 2)
        x = self._colour(x)
        if self.spec.resize is not None:
            x = F.interpolate(x, self.spec.resize, mode="bilinear", align_corners=False)
        x = x * self.scale + self.shift
        return standardise(x) if self.spec.standardise else x

    def _colour(self, x: Tensor) -> Tensor:
        have, want = self.spec.order, self.spec.network_order
        if have == want:
            return x
        if want == "GRAY":
            weights = torch.tensor(_LUMA[have], dtype=x.dtype, device=x.device).reshape(1, 3, 1, 1)
            return (x * weights).sum(1, keepdim=True)
        if have == "GRAY":
            return x.expand(-1, 3, -1, -1)
        return x.flip(1)

    def pixel_range(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return the least and the greatest value of each channel of the network's input: that of pixels 0 and 255."""
        if self.spec.standardise:
            raise LrpEdgeError(
                "the network's input is standardised by frame, so that its pixels have no fixed range; choose another "
                "composite, or give low and high"
            )
        low, high = self.shift, 255 * self.scale + self.shift
        return tuple(low.flatten().tolist()), tuple(high.flatten().tolist())


class Decision(nn.Module):
    """Logits, float [N, K] → label, int64 [N], by the card's decision; see :mod:`lrp_edge.decision`."""

    is_defect: Tensor
    threshold: Tensor

    def __init__(self, card: ModelCard) -> None:
        super().__init__()
        self.card = card
        defect = torch.zeros(len(card.classes), dtype=torch.bool)
        defect[list(card.defect_indices)] = True
        self.register_buffer("is_defect", defect)
        if card.decision is not None:
            # The name of the buffer is that of the graph's initializer, lrp_edge.card.THRESHOLD.
            self.register_buffer("threshold", torch.tensor(card.decision.threshold, dtype=torch.float32))

    def scores(self, logits: Tensor) -> Tensor:
        """Return the scores [N, K] of logits."""
        return logits.softmax(1) if self.card.activation == "softmax" else logits.sigmoid()

    def probability(self, scores: Tensor) -> Tensor:
        """Return P(defect) [N] of scores [N, K]."""
        defects = torch.where(self.is_defect, scores, 0.0)
        return defects.sum(1) if self.card.activation == "softmax" else defects.amax(1)

    def forward(self, logits: Tensor) -> Tensor:
        if self.card.decision is None:
            return logits.argmax(1)
        # Of the logits, since the scores of two classes may round to the same number.
        least = torch.finfo(logits.dtype).min
        defects, others = torch.where(self.is_defect, logits, least), torch.where(self.is_defect, least, logits)
        exceeds = (self.probability(self.scores(logits)) > self.threshold).unsqueeze(1)
        return torch.where(exceeds, defects, others).argmax(1)

    def decided(self, logits: Tensor) -> Tensor:
        """Return weights [N, K] that are one for the decided class, else zero."""
        classes = torch.arange(logits.shape[1], device=logits.device)
        decided: Tensor = classes == self(logits).unsqueeze(1)
        return decided.to(logits.dtype)


class Deployable(nn.Module):
    """A classifier, its relevance and its mask head behind the graph contract.

    ``forward(frames)`` takes uint8 [N, H, W, C] and returns scores float [N, K], label int32 [N], mask uint8
    [N, H, W] (0 or 255) and relevance float [N, H, W]; see :class:`~lrp_edge.ModelCard` for what each means.

    Parameters
    ----------
    model : nn.Module
        Takes a float image [N, c, h, w], returns logits [N, K].
    card : ModelCard
        Classes, input, composite, explained class and mask head.
    size : (height, width)
        Frames to capture the model with, in pixels.
    composite : Composite, optional
        Takes the place of the card's.
    explained : str, optional
        Takes the place of the card's; also ``"defect"``, the strongest defect class.
    any_size : bool
        Whether it is for frames of other sizes too, see :func:`lrp_edge.relevance.unroll`.

    Raises
    ------
    LrpEdgeError
        If the model cannot be unrolled, or its classes or channels are not those of the card.
    """

    is_area: Tensor

    def __init__(
        self,
        model: nn.Module,
        card: ModelCard,
        size: tuple[int, int],
        composite: Composite | None = None,
        explained: str | None = None,
        any_size: bool = True,
    ) -> None:
        super().__init__()
        self.card = card
        self.preprocess = Preprocess(card.input)
        self.decision = Decision(card)
        frames = torch.zeros(1, *size, card.input.channels, dtype=torch.uint8)
        self.unrolled = unroll(
            model,
            self.preprocess(frames),
            composite or card.composite,
            self._target(explained or card.explained),
            defects=card.defect_indices,
            any_size=any_size,
            stride=card.relevance_stride,
            logits=card.logits or None,
            **({} if composite else self._composite_parameters(card.composite, card.composite_parameters)),
        )
        if self.unrolled.activation is not None:
            # Scores are what the network itself makes of its logits.
            self.card = self.decision.card = replace(card, activation=self.unrolled.activation)
        self.head = MaskHead(card.mask)
        self.register_buffer("is_area", torch.tensor([name in card.mask.area_classes for name in card.classes]))

    def _target(self, named: str) -> str | int | Target:
        if named == "predicted":
            return OfLogits(self.decision.decided)
        return self.card.classes.index(named) if named in self.card.classes else named

    def _composite_parameters(self, name: str, given: Mapping[str, object]) -> dict[str, object]:
        """Return the composite's parameters; a box is by default that of the pixels."""
        if name != "EpsilonGammaBox" or {"low", "high"} <= given.keys():
            return dict(given)
        low, high = self.preprocess.pixel_range()
        return {"low": low, "high": high, **given}

    def explain(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits [N, K] and relevance [N, H, W], at the size of the frames."""
        image = self.preprocess(frames)
        logits, relevance = self.unrolled(image)
        relevance = self.unrolled.stage.enlarge(relevance.sum(1), image.shape[2:])
        if self.card.input.resize is None:
            return logits, relevance
        height, width = frames.shape[1:3]
        share = relevance.shape[1] * relevance.shape[2] / (height * width)
        grown = F.interpolate(relevance.unsqueeze(1), (height, width), mode="bilinear", align_corners=False)
        return logits, grown.squeeze(1) * share

    def decided_defect(self, label: Tensor) -> Tensor:
        """Return of each label, int64 [N], whether it is a defect, bool [N]."""
        return self.decision.is_defect.index_select(0, label)

    def guide(self, frames: Tensor) -> Tensor | None:
        """Return the gray image [N, H, W] that the mask head looks at, where it does."""
        if not self.head.needs_guide:
            return None
        gray: Tensor = frames.to(self.preprocess.scale.dtype).mean(3)
        return gray

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        logits, relevance = self.explain(frames)
        label = self.decision(logits)
        decided_defect = self.decided_defect(label).reshape(-1, 1, 1)
        areas = self.is_area.index_select(0, label)
        mask = torch.where(self.head(relevance, self.guide(frames), areas) & decided_defect, 255.0, 0.0)
        # TensorRT has uint8 at the graph's border only, so that cast comes last.
        return self.decision.scores(logits), label.to(torch.int32), mask.to(torch.uint8), relevance
