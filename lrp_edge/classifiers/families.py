"""The families of classifiers, and the baseline: functions of what a model card says of an architecture."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from lrp_edge.backbones import efficientnet_lite0 as lite
from lrp_edge.backbones.cut import cut as cut_at
from lrp_edge.backbones.cut import in_gray
from lrp_edge.backbones.library import LIBRARIES, library_network
from lrp_edge.backbones.unet import EncodedUNet
from lrp_edge.classifiers.heads import Classifier, GlobalPool, LogSumExp, on_features, started
from lrp_edge.errors import LrpEdgeError, needs_extra

with needs_extra("export"):
    from torch import nn

CONVOLUTIONS = {"A": (1, 1, 2, 2, 2), "B": (2, 2, 2, 2, 2), "D": (2, 2, 3, 3, 3), "E": (2, 2, 4, 4, 4)}
CHANNELS = (64, 128, 256, 512, 512)


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
        head = started(nn.Conv2d(inputs, classes, 1))
        return Classifier(features, LogSumExp(), head, nn.Dropout(dropout), stride)
    pool = GlobalPool(pooling, power)
    return Classifier(features, pool, started(nn.Linear(inputs, classes)), nn.Dropout(dropout), stride)


def _convolution(inputs: int, outputs: int, batch_norm: bool, stride: int) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, 2 * stride + 1, stride, padding=stride, bias=not batch_norm)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)
    return [convolution, *([nn.BatchNorm2d(outputs)] if batch_norm else []), nn.ReLU()]


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
) -> Classifier:
    """Build the first part of a network of timm or torchvision, with random weights; see :func:`of_colour_network`.

    Raises
    ------
    LrpEdgeError
        If there is no such network, or it cannot be cut so.
    """
    network = library_network(library, name)
    return of_colour_network(
        network, channels=channels, classes=classes, cut=cut, stride=stride, pooling=pooling, dropout=dropout
    )


def of_colour_network(
    network: nn.Module,
    *,
    channels: int,
    classes: int,
    cut: str = "",
    stride: int = 8,
    pooling: str = "lse",
    dropout: float = 0.1,
) -> Classifier:
    """Put a head that learns from image labels on the first part of a network of colour images.

    Parameters
    ----------
    network : nn.Module
        A classifier; see :func:`lrp_edge.backbones.cut.cut`, for `cut` and `stride` too.
    channels : int
        Channels of the image: 3, or 1, for which the first convolution's weights are summed over colours.
    classes, pooling, dropout
        See :func:`on_features`.

    Raises
    ------
    LrpEdgeError
        If it cannot be cut so.
    """
    part = cut_at(network, 3, cut, stride)
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
        With ``cut`` and ``stride`` where the network is to be cut; see :func:`of_colour_network`.
    """
    if not architecture.get("cut"):
        return network
    part = cut_at(network, architecture["channels"], architecture["cut"], architecture["stride"])
    return on_cut(part, **{name: architecture[name] for name in ("classes", "pooling", "dropout")})


def on_cut(part: nn.Module, *, classes: int, pooling: str = "lse", dropout: float = 0.1) -> Classifier:
    """Put a head on what :func:`lrp_edge.backbones.cut.cut` returned; see :func:`on_features`."""
    known: Any = part.meta
    return on_features(part, known["width"], known["stride"], classes=classes, pooling=pooling, dropout=dropout)


def unet(*, channels: int, width: float = 0.25, stem: int = 2, dropout: float = 0.0, encoder: str = "") -> nn.Module:
    """Build the baseline that is trained with pixel masks, giving one logit for each pixel.

    Parameters
    ----------
    channels : int
        Channels of the image.
    width : float
        Factor on the number of channels of each level; at 1 they are 64, 64, 128, 256, 512 and 64.
    stem : int
        1 works on all pixels; 2 on means of 2 × 2 of them, and enlarges the logits in the end. Not for an encoder.
    dropout : float
        Probability of dropout in each block; with an encoder, before the last convolution.
    encoder : {"", "efficientnet_lite0"}
        Nothing for MONAI's ``BasicUNet``, or the network that is :class:`lrp_edge.backbones.unet.EncodedUNet`'s.

    Raises
    ------
    LrpEdgeError
        If the encoder is unknown.

    References
    ----------
    Ronneberger et al. 2015, "U-Net: Convolutional Networks for Biomedical Image Segmentation", arXiv 1505.04597.
    """
    if encoder not in ("", "efficientnet_lite0"):
        raise LrpEdgeError(f"the U-Net's encoder is {encoder!r}; expected efficientnet_lite0, or nothing")
    if encoder:
        return EncodedUNet(channels, width, dropout)
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
