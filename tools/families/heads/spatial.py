"""Convolutions, padding, resampling, and what moves positions and channels."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from tools.families.heads.parts import CHANNELS, Head, between, conv, first, function, tail


class BlurPool(nn.Module):
    """A fixed binomial filter before a stride of two."""

    kernel: Tensor

    def __init__(self, padding: str) -> None:
        super().__init__()
        line = torch.tensor([1.0, 2.0, 1.0]) / 4
        self.register_buffer("kernel", torch.outer(line, line).expand(CHANNELS, 1, 3, 3).clone())
        self.padding = padding

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, (1, 1, 1, 1), mode=self.padding), self.kernel, stride=2, groups=CHANNELS)


def _activated(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers, nn.ReLU())


def _focus(x: Tensor) -> Tensor:
    return torch.cat([x[..., i::2, j::2] for i in (0, 1) for j in (0, 1)], 1)


def _shifted(x: Tensor) -> Tensor:
    return x + x.roll((2, 3), (2, 3))


def _with_finer(x: Tensor) -> Tensor:
    return x + F.interpolate(F.max_pool2d(x, 2), size=x.shape[-2:], mode="nearest")


def _laid_out_again(x: Tensor) -> Tensor:
    return F.fold(F.unfold(x, 3, padding=1, stride=2), x.shape[-2:], 3, padding=1, stride=2)


_PADDINGS = ("reflect", "circular", "replicate")

HEADS = {
    "depthwise, pointwise": between(lambda: _activated(conv(groups=CHANNELS), conv(kernel=1))),
    "dilated, grouped, strided": between(lambda: _activated(conv(padding=2, dilation=2, stride=2, groups=4))),
    "padding same, even kernel": between(lambda: _activated(conv(kernel=4, padding="same"))),
    "weight_norm": between(lambda: _activated(weight_norm(conv()))),
    "ConvTranspose2d": between(lambda: _activated(nn.ConvTranspose2d(CHANNELS, CHANNELS, 4, 2, 1))),
    **{f"padding {mode}": between(partial(conv, padding_mode=mode)) for mode in _PADDINGS},
    "BlurPool, reflect": between(lambda: BlurPool("reflect")),
    "BlurPool, zeros": between(lambda: BlurPool("constant")),
    "pad, negative (crop)": between(function(lambda x: F.pad(x, (-2, -2, -1, -1)))),
    "Upsample nearest": between(lambda: nn.Upsample(scale_factor=2)),
    "Upsample bilinear": between(lambda: nn.Upsample(scale_factor=2, mode="bilinear")),
    "interpolate to a skip's size": between(function(_with_finer)),
    "PixelShuffle": between(lambda: nn.Sequential(nn.Conv2d(CHANNELS, 64, 1), nn.PixelShuffle(2))),
    "PixelUnshuffle": between(lambda: nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(64, CHANNELS, 1))),
    "ChannelShuffle": between(lambda: nn.ChannelShuffle(4)),
    "space to depth by slices": Head(lambda: nn.Sequential(function(_focus)(), _activated(conv(12, CHANNELS)), tail())),
    "flip": between(function(lambda x: x + x.flip(3))),
    "roll": between(function(_shifted)),
    "windows (unfold)": between(function(lambda x: x.unfold(2, 3, 2).unfold(3, 3, 2).mean((-2, -1)))),
    "F.unfold, F.fold": between(function(_laid_out_again)),
    "crop": first(function(lambda x: x[:, :, 4:-4, 2:-2])),
}
