"""Heads: features to logits, by position or pooled; and how images and positions are looked at alone."""

from __future__ import annotations

from typing import TypeVar

from lrp_edge.errors import LrpEdgeError, needs_extra

with needs_extra("export"):
    import torch
    from torch import Tensor, nn

POOLINGS = ("gem", "average", "max", "lse")
#: Log-odds of a defect at a position, before anything is learnt.
FIRST_LOGIT = -2.0

Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)


class GlobalPool(nn.Module):
    """Pool non-negative features [N, C, H, W] to [N, C], over all positions.

    Parameters
    ----------
    pooling : {"gem", "average", "max"}
        Generalised mean, mean or maximum. The generalised mean ``(mean of x^p)^(1/p)`` lies between the two
        others: a small defect in a large frame still counts, and more than one position learns from each
        frame.
    power : float
        The generalised mean's p; 1 is the mean, and the larger p, the closer to the maximum.

    References
    ----------
    Radenović et al. 2018, "Fine-tuning CNN Image Retrieval with No Human Annotation", arXiv 1711.02512,
    equation 3.
    """

    def __init__(self, pooling: str = "gem", power: float = 3.0) -> None:
        super().__init__()
        if pooling not in POOLINGS:
            raise LrpEdgeError(f"pooling is {pooling!r}; expected one of {', '.join(POOLINGS)}")
        if power < 1:
            raise LrpEdgeError(f"the power of the generalised mean is {power}; it must be 1 or more")
        self.pooling, self.power = pooling, float(power)

    def forward(self, features: Tensor) -> Tensor:
        if self.pooling == "average":
            return features.mean((2, 3))
        if self.pooling == "max":
            return nn.functional.max_pool2d(features, features.shape[2:]).flatten(1)
        # The offset keeps the derivative of the root finite where a channel is zero everywhere.
        return (features.pow(self.power).mean((2, 3)) + 1e-6).pow(1 / self.power)

    def extra_repr(self) -> str:
        return f"{self.pooling}, power={self.power}" if self.pooling == "gem" else self.pooling


class LogSumExp(nn.Module):
    """Pool the logits of positions [N, K, H, W] to logits [N, K]: a soft maximum over all positions.

    This is multiple-instance learning: an image is a defect if any position is, and positions learn by how much they
    contribute. The logarithm of the number of positions is added to all classes alike and leaves scores as they are.

    References
    ----------
    Pinheiro and Collobert 2015, "From Image-level to Pixel-level Labeling with Convolutional Networks",
    arXiv 1411.6228, equation 6.
    """

    def forward(self, logits: Tensor) -> Tensor:
        return torch.logsumexp(logits, (2, 3))


class Classifier(nn.Module):
    """Features, dropout, a linear layer and global pooling: float image [N, C, H, W] to logits [N, K].

    The pooling comes before the linear layer, but for ``lse``, which pools the logits of positions.

    Attributes
    ----------
    stride : int
        Pixels from one position of the features to the next.
    """

    def __init__(
        self, features: nn.Module, pool: nn.Module, head: nn.Linear | nn.Conv2d, dropout: nn.Module, stride: int
    ) -> None:
        super().__init__()
        self.features, self.pool, self.dropout, self.head, self.stride = features, pool, dropout, head, stride

    def forward(self, image: Tensor) -> Tensor:
        return self.classify(self.features(image))

    def classify(self, features: Tensor) -> Tensor:
        """Return the logits [N, K] of features [N, C, h, w]."""
        if isinstance(self.head, nn.Conv2d):
            logits: Tensor = self.pool(self.head(self.dropout(features)))
        else:
            logits = self.head(self.dropout(self.pool(features)))
        return logits

    def positions(self, features: Tensor) -> Tensor:
        """Return the logits [N, K, h, w] that the linear layer gives the features of each position alone."""
        weight, bias = self.head.weight.reshape(*self.head.weight.shape[:2], 1, 1), self.head.bias
        return nn.functional.conv2d(self.dropout(features), weight, bias)

    @property
    def width(self) -> int:
        """Channels of the features."""
        return self.head.weight.shape[1]


def on_features(
    features: nn.Module, width: int, stride: int, *, classes: int, pooling: str = "lse", dropout: float = 0.1
) -> Classifier:
    """Put a head that learns from image labels on a feature extractor.

    Parameters
    ----------
    features : nn.Module
        Float image [N, C, H, W] to features [N, width, h, w], of either sign.
    width, stride : int
        Channels of the features, and pixels from one position to the next.
    classes : int
        Number of classes K.
    pooling : {"lse", "average", "max"}
        See :class:`LogSumExp` and :class:`GlobalPool`.
    dropout : float
        Probability with which a channel of the features is dropped, at all positions.

    Raises
    ------
    LrpEdgeError
        If the pooling is none of these, or a number out of its range.
    """
    if pooling not in POOLINGS or pooling == "gem":
        why = "; a generalised mean needs features that are not negative" if pooling == "gem" else ""
        raise LrpEdgeError(f"pooling is {pooling!r}; expected lse, average or max{why}")
    if classes < 2 or not 0 <= dropout < 1:
        raise LrpEdgeError(f"a head with {classes=}, {dropout=}; expected classes ≥ 2 and 0 ≤ dropout < 1")
    if pooling != "lse":
        return Classifier(
            features, GlobalPool(pooling), started(nn.Linear(width, classes)), nn.Dropout(dropout), stride
        )
    head = started(nn.Conv2d(width, classes, 1))
    # Most positions show no defect.
    nn.init.constant_(head.bias, FIRST_LOGIT)  # type: ignore[arg-type]
    return Classifier(features, LogSumExp(), head, nn.Dropout2d(dropout), stride)


def started(head: Layer) -> Layer:
    """Start a last layer with small weights, so that no class is favoured."""
    nn.init.normal_(head.weight, std=0.01)
    nn.init.zeros_(head.bias)  # type: ignore[arg-type]
    return head


def standardise(image: Tensor) -> Tensor:
    """Normalise each image of [N, C, H, W] to mean 0 and standard deviation 1 over its pixels; a flat one becomes 0."""
    centred = image - image.mean((1, 2, 3), keepdim=True)
    # The floor is far below the noise of a camera and keeps a black frame finite.
    return centred / (centred.square().mean((1, 2, 3), keepdim=True) + 1e-4).sqrt()


def evidence(model: Classifier, image: Tensor) -> Tensor:
    """Score each position of an image as if it stood alone.

    Parameters
    ----------
    model : Classifier
        A classifier.
    image : Tensor, float [N, C, H, W]
        Normalised images.

    Returns
    -------
    Tensor, float [N, K, h, w]
        The logits that the linear layer gives the features of each position.
    """
    return model.positions(model.features(image))
