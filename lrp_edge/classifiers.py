"""Classifiers that the trainer knows, each rebuilt from a JSON-able description of its architecture.

They are fully convolutional: global pooling before one linear layer, so that a network trained on windows
takes frames of any size. They use only operations that relevance has rules for.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from lrp_edge.backbones import efficientnet_lite0 as lite
from lrp_edge.backbones.cut import cut as cut_at
from lrp_edge.backbones.cut import in_gray
from lrp_edge.backbones.library import LIBRARIES, library_network
from lrp_edge.errors import LrpEdgeError, check_arguments, needs_extra

with needs_extra("export"):
    import torch
    from torch import Tensor, nn

CONVOLUTIONS = {"A": (1, 1, 2, 2, 2), "B": (2, 2, 2, 2, 2), "D": (2, 2, 3, 3, 3), "E": (2, 2, 4, 4, 4)}
CHANNELS = (64, 128, 256, 512, 512)
POOLINGS = ("gem", "average", "max", "lse")
SMALLEST_SIDE = 32
#: Log-odds of a defect at a position, before anything is learnt.
FIRST_LOGIT = -2.0

Head = TypeVar("Head", nn.Linear, nn.Conv2d)


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


def vgg(
    variant: str = "A",
    *,
    channels: int,
    classes: int,
    width: float = 1.0,
    batch_norm: bool = True,
    stem: int = 1,
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
    stem : int
        Stride of the first convolution: 1, with a kernel of 3 × 3 as in the paper, or 2, with one of 5 × 5, which
        makes everything after it four times as fast.
    pools : int
        How many of the five poolings by two are kept, from the first on; the features' stride is
        ``stem * 2 ** pools`` pixels.
    pooling, power
        Global pooling, see :class:`GlobalPool`; ``"lse"`` is that of :class:`LogSumExp` and has no power.
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
    if stem not in (1, 2) or not (
        channels >= 1 and classes >= 2 and width > 0 and 1 <= pools <= 5 and 0 <= dropout < 1
    ):
        raise LrpEdgeError(
            f"VGG with {channels=}, {classes=}, {width=}, {stem=}, {pools=}, {dropout=}; expected channels ≥ 1, "
            "classes ≥ 2, width > 0, stem 1 or 2, 1 ≤ pools ≤ 5 and 0 ≤ dropout < 1"
        )
    layers: list[nn.Module] = []
    inputs = channels
    for stage, (outputs, repeats) in enumerate(zip(CHANNELS, CONVOLUTIONS[variant], strict=True)):
        outputs = max(1, round(outputs * width))
        for _ in range(repeats):
            layers += _convolution(inputs, outputs, batch_norm, 1 if layers else stem)
            inputs = outputs
        if stage < pools:
            layers.append(nn.MaxPool2d(2))
    features, stride = nn.Sequential(*layers), stem * 2**pools
    if pooling == "lse":
        head = _started(nn.Conv2d(inputs, classes, 1))
        return Classifier(features, LogSumExp(), head, nn.Dropout(dropout), stride)
    pool = GlobalPool(pooling, power)
    return Classifier(features, pool, _started(nn.Linear(inputs, classes)), nn.Dropout(dropout), stride)


def _convolution(inputs: int, outputs: int, batch_norm: bool, stride: int) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, 2 * stride + 1, stride, padding=stride, bias=not batch_norm)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)
    return [convolution, *([nn.BatchNorm2d(outputs)] if batch_norm else []), nn.ReLU()]


def _started(head: Head) -> Head:
    nn.init.normal_(head.weight, std=0.01)
    nn.init.zeros_(head.bias)  # type: ignore[arg-type]
    return head


def efficientnet_lite0(
    *,
    channels: int,
    classes: int,
    stages: int = 5,
    stride: int = 8,
    width: float = 1.0,
    pooling: str = "lse",
    dropout: float = 0.1,
) -> Classifier:
    """Build the first stages of EfficientNet-Lite0 under a head that learns from image labels.

    Parameters
    ----------
    channels, stages, stride, width
        See :func:`lrp_edge.backbones.efficientnet_lite0.efficientnet_lite0`.
    classes, pooling, dropout
        See :func:`on_features`.

    Raises
    ------
    LrpEdgeError
        If a number is out of its range.
    """
    features = lite.efficientnet_lite0(channels=channels, stages=stages, stride=stride, width=width)
    outputs, reached = lite.features_of(stages, stride, width)
    return on_features(features, outputs, reached, classes=classes, pooling=pooling, dropout=dropout)


def of_library(
    library: str,
    *,
    name: str,
    channels: int,
    classes: int,
    cut: str = "",
    stride: int = 8,
    pooling: str = "lse",
    dropout: float = 0.1,
    imagenet: bool = False,
) -> Classifier:
    """Build the first part of a network of timm or torchvision under a head that learns from image labels.

    Parameters
    ----------
    library, name, imagenet
        See :func:`lrp_edge.backbones.library.library_network`.
    channels : int
        Channels of the image: 3, or 1, for which the first convolution's weights are summed over colours.
    cut, stride
        See :func:`lrp_edge.backbones.cut.cut`.
    classes, pooling, dropout
        See :func:`on_features`.

    Raises
    ------
    LrpEdgeError
        If there is no such network, it cannot be cut so, or its weights cannot be downloaded.
    """
    part = cut_at(library_network(library, name, imagenet), 3, cut, stride)
    if channels == 1:
        in_gray(part)
    return on_cut(part, classes=classes, pooling=pooling, dropout=dropout)


def of_factory(network: nn.Module, architecture: Mapping[str, Any]) -> nn.Module:
    """Return what a card's architecture makes of a user's network: the network, or its first part under a head of ours.

    Parameters
    ----------
    network : nn.Module
        What the factory returned.
    architecture : mapping
        With ``cut`` and ``stride`` where the network is to be cut; see :func:`of_library`.
    """
    if not architecture.get("cut"):
        return network
    part = cut_at(network, architecture["channels"], architecture["cut"], architecture["stride"])
    return on_cut(part, **{name: architecture[name] for name in ("classes", "pooling", "dropout")})


def on_cut(part: nn.Module, *, classes: int, pooling: str = "lse", dropout: float = 0.1) -> Classifier:
    """Put a head on what :func:`lrp_edge.backbones.cut.cut` returned; see :func:`on_features`."""
    known: Any = part.meta
    return on_features(part, known["width"], known["stride"], classes=classes, pooling=pooling, dropout=dropout)


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
            features, GlobalPool(pooling), _started(nn.Linear(width, classes)), nn.Dropout(dropout), stride
        )
    head = _started(nn.Conv2d(width, classes, 1))
    # Most positions show no defect.
    nn.init.constant_(head.bias, FIRST_LOGIT)  # type: ignore[arg-type]
    return Classifier(features, LogSumExp(), head, nn.Dropout2d(dropout), stride)


def unet(*, channels: int, width: float = 0.25, stem: int = 2, dropout: float = 0.0) -> nn.Module:
    """Build the baseline that is trained with pixel masks: MONAI's ``BasicUNet``, giving one logit for each pixel.

    Parameters
    ----------
    channels : int
        Channels of the image.
    width : float
        Factor on the number of channels of each level; at 1 they are 64, 64, 128, 256, 512 and 64.
    stem : int
        1 works on all pixels; 2 on means of 2 × 2 of them, and enlarges the logits in the end.
    dropout : float
        Probability of dropout in each block.

    References
    ----------
    Ronneberger et al. 2015, "U-Net: Convolutional Networks for Biomedical Image Segmentation", arXiv 1505.04597.
    """
    with needs_extra("baselines"):
        from monai.networks.nets.basic_unet import BasicUNet
    features = tuple(max(1, round(width * count)) for count in (64, 64, 128, 256, 512, 64))
    core = BasicUNet(2, channels, 1, features, act="RELU", norm="BATCH", dropout=dropout)
    if stem == 1:
        return core
    grown = nn.Upsample(scale_factor=stem, mode="bilinear", align_corners=False)
    return nn.Sequential(nn.AvgPool2d(stem), core, grown)


FAMILIES: dict[str, Callable[..., nn.Module]] = {
    "efficientnet_lite0": efficientnet_lite0,
    "vgg": vgg,
    "unet": unet,
    **{library: functools.partial(of_library, library) for library in LIBRARIES},
}


def build(architecture: Mapping[str, Any]) -> nn.Module:
    """Build a network from its description in a model card.

    Parameters
    ----------
    architecture : mapping
        ``family`` names one of :data:`FAMILIES`; all other items are that function's arguments, e.g.
        ``{"family": "vgg", "variant": "A", "width": 0.25, "channels": 1, "classes": 6}``.

    Raises
    ------
    LrpEdgeError
        If the family is unknown or an argument missing, unknown or out of its range, or the network is that of a
        user's factory, which no file may name for us to run.
    """
    arguments = dict(architecture)
    family = arguments.pop("family", None)
    if family == "factory":
        name = arguments.get("factory")
        raise LrpEdgeError(
            f"these are weights for {name}: give {name} in place of the checkpoint, and this as --weights"
        )
    if family not in FAMILIES:
        raise LrpEdgeError(f"classifier family is {family!r}; expected one of {', '.join(FAMILIES)}")
    check_arguments(f"classifier {family}", FAMILIES[family], arguments)
    try:
        return FAMILIES[family](**arguments)
    except TypeError as error:
        given = ", ".join(f"{name} {value!r}" for name, value in arguments.items())
        raise LrpEdgeError(
            f"classifier {family} cannot be built with {given}; expected a number where one is needed, and text where "
            "text is: train again"
        ) from error


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
