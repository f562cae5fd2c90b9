"""Classifiers that the trainer knows, each rebuilt from a JSON-able description of its architecture.

They are fully convolutional: global pooling before one linear layer, so that a network trained on windows
takes frames of any size. They use only operations that relevance has rules for.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from lrp_edge.errors import LrpEdgeError, needs_extra

with needs_extra("export"):
    import torch
    from torch import Tensor, nn

CONVOLUTIONS = {"A": (1, 1, 2, 2, 2), "B": (2, 2, 2, 2, 2), "D": (2, 2, 3, 3, 3), "E": (2, 2, 4, 4, 4)}
CHANNELS = (64, 128, 256, 512, 512)
POOLINGS = ("gem", "average", "max")
SMALLEST_SIDE = 32


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


class Classifier(nn.Module):
    """Features, global pooling, dropout and one linear layer: float image [N, C, H, W] to logits [N, K]."""

    def __init__(self, features: nn.Sequential, pool: GlobalPool, head: nn.Linear, dropout: float) -> None:
        super().__init__()
        self.features, self.pool, self.dropout, self.head = features, pool, nn.Dropout(dropout), head

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.head(self.dropout(self.pool(self.features(image))))
        return logits


def vgg(
    variant: str = "A",
    *,
    channels: int,
    classes: int,
    width: float = 1.0,
    batch_norm: bool = True,
    pools: int = 5,
    pooling: str = "gem",
    power: float = 3.0,
    dropout: float = 0.0,
) -> Classifier:
    """Build the convolutions of a VGG network under global pooling and a linear layer.

    Parameters
    ----------
    variant : {"A", "B", "D", "E"}
        The configuration of the paper's table 1: VGG-11, 13, 16 and 19.
    channels, classes : int
        Channels of the image and number of classes K.
    width : float
        Factor on the number of channels of each convolution; 1 is the paper's.
    batch_norm : bool
        Normalise after each convolution, which then has no bias.
    pools : int
        How many of the five poolings by two are kept, from the first on; the features' stride is
        ``2 ** pools`` pixels.
    pooling, power
        Global pooling, see :class:`GlobalPool`.
    dropout : float
        Probability of dropout before the linear layer.

    Returns
    -------
    Classifier
        Randomly initialised (He et al. 2015); takes images of 32 pixels and more on each side.

    Raises
    ------
    LrpEdgeError
        If the variant is unknown or a number out of its range.

    References
    ----------
    Simonyan and Zisserman 2015, "Very Deep Convolutional Networks for Large-Scale Image Recognition",
    arXiv 1409.1556.
    """
    if variant not in CONVOLUTIONS:
        raise LrpEdgeError(f"VGG variant is {variant!r}; expected one of {', '.join(CONVOLUTIONS)}")
    if not (channels >= 1 and classes >= 2 and width > 0 and 1 <= pools <= 5 and 0 <= dropout < 1):
        raise LrpEdgeError(
            f"VGG with {channels=}, {classes=}, {width=}, {pools=}, {dropout=}; expected channels ≥ 1, "
            "classes ≥ 2, width > 0, 1 ≤ pools ≤ 5 and 0 ≤ dropout < 1"
        )
    layers: list[nn.Module] = []
    inputs = channels
    for stage, (outputs, repeats) in enumerate(zip(CHANNELS, CONVOLUTIONS[variant], strict=True)):
        outputs = max(1, round(outputs * width))
        for _ in range(repeats):
            layers += _convolution(inputs, outputs, batch_norm)
            inputs = outputs
        if stage < pools:
            layers.append(nn.MaxPool2d(2))
    return Classifier(nn.Sequential(*layers), GlobalPool(pooling, power), _linear(inputs, classes), dropout)


def _convolution(inputs: int, outputs: int, batch_norm: bool) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=not batch_norm)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)
    return [convolution, *([nn.BatchNorm2d(outputs)] if batch_norm else []), nn.ReLU()]


def _linear(inputs: int, classes: int) -> nn.Linear:
    linear = nn.Linear(inputs, classes)
    nn.init.normal_(linear.weight, std=0.01)
    nn.init.zeros_(linear.bias)
    return linear


FAMILIES: dict[str, Callable[..., Classifier]] = {"vgg": vgg}


def build(architecture: Mapping[str, Any]) -> Classifier:
    """Build a classifier from its description in a model card.

    Parameters
    ----------
    architecture : mapping
        ``family`` names one of :data:`FAMILIES`; all other items are that function's arguments, e.g.
        ``{"family": "vgg", "variant": "A", "width": 0.25, "channels": 1, "classes": 6}``.

    Raises
    ------
    LrpEdgeError
        If the family is unknown or an argument missing, unknown or out of its range.
    """
    arguments = dict(architecture)
    family = arguments.pop("family", None)
    if family not in FAMILIES:
        raise LrpEdgeError(f"classifier family is {family!r}; expected one of {', '.join(FAMILIES)}")
    try:
        inspect.signature(FAMILIES[family]).bind(**arguments)
        return FAMILIES[family](**arguments)
    except TypeError as error:
        raise LrpEdgeError(f"classifier {family}: {error}") from error


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
    return torch.einsum("nchw,kc->nkhw", model.features(image), model.head.weight) + model.head.bias[:, None, None]
