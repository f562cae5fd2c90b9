"""EfficientNet-Lite0, whose every layer has a rule and a kernel on edge devices: no gates, and ReLU6 throughout."""

from __future__ import annotations

from lrp_edge.errors import LrpEdgeError, needs_extra

with needs_extra("export"):
    from torch import Tensor, nn

#: By stage: blocks, kernel, stride, expansion, channels. Table 1 of the paper; stem and stages are those of B0.
STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
          (1, 3, 1, 6, 320))  # fmt: skip
STEM = 32
STRIDES = (4, 8, 16, 32)


class InvertedResidual(nn.Module):
    """Expand the channels, filter each by itself, project them to few: [N, C, H, W] → [N, C', H / stride, W / stride].

    References
    ----------
    Sandler et al. 2018, "MobileNetV2: Inverted Residuals and Linear Bottlenecks", arXiv 1801.04381, figure 3.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.expand = _convolution(inputs, inner) if expansion > 1 else nn.Identity()
        self.filter = _convolution(inner, inner, kernel, stride, groups=inner)
        self.project = _convolution(inner, outputs)[:-1]
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.project(self.filter(self.expand(x)))
        return x + y if self.adds else y


def efficientnet_lite0(*, channels: int, stages: int = 5, stride: int = 8, width: float = 1.0) -> nn.Sequential:
    """Build the stem and the first stages of EfficientNet-Lite0.

    Parameters
    ----------
    channels : int
        Channels of the image.
    stages : int
        How many of the seven stages are kept; five give 112 channels.
    stride : {4, 8, 16, 32}
        The most pixels between positions of the features: later stages that would halve their number do not.
    width : float
        Factor on the number of channels of each stage; pretrained weights are those of 1.

    Returns
    -------
    nn.Sequential
        Float image [N, C, H, W] to features [N, c, h, w]; stem and stages are its children.

    Raises
    ------
    LrpEdgeError
        If a number is out of its range.

    References
    ----------
    Tan and Le 2019, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", arXiv 1905.11946,
    table 1; Liu 2020, "Higher accuracy on vision models with EfficientNet-Lite", TensorFlow blog, for what Lite leaves
    out.
    """
    if not (channels >= 1 and 1 <= stages <= len(STAGES) and stride in STRIDES and width > 0):
        raise LrpEdgeError(
            f"EfficientNet-Lite0 with {channels=}, {stages=}, {stride=}, {width=}; expected channels ≥ 1, "
            f"1 ≤ stages ≤ {len(STAGES)}, a stride of {', '.join(map(str, STRIDES))}, and width > 0"
        )
    inputs, reached = _scaled(STEM, width), 2
    layers: list[nn.Module] = [_convolution(channels, inputs, 3, 2)]
    for repeats, kernel, wanted, expansion, outputs in STAGES[:stages]:
        step = wanted if reached * wanted <= stride else 1
        outputs, reached = _scaled(outputs, width), reached * step
        blocks = [
            InvertedResidual(inputs if first else outputs, outputs, kernel, step if first else 1, expansion)
            for first in (True, *[False] * (repeats - 1))
        ]
        layers.append(nn.Sequential(*blocks))
        inputs = outputs
    return nn.Sequential(*layers)


def features_of(stages: int, stride: int, width: float) -> tuple[int, int]:
    """Return channels of the features that :func:`efficientnet_lite0` gives, and pixels between their positions."""
    reached = 2
    for _, _, wanted, _, _ in STAGES[:stages]:
        reached *= wanted if reached * wanted <= stride else 1
    return _scaled(STAGES[stages - 1][-1], width), reached


def _scaled(channels: int, width: float) -> int:
    return max(1, round(channels * width))


def _convolution(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Return convolution, BatchNorm and ReLU6.

    At stride 2 the image is extended as TensorFlow, in which the weights were trained, extends one of even size.
    """
    before, after = (kernel - 2) // 2, (kernel - 1) // 2
    padding = [nn.ZeroPad2d((before, after, before, after))] if stride == 2 else []
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, 0 if padding else kernel // 2, groups=groups, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(*padding, convolution, nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01), nn.ReLU6())
