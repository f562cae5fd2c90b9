"""Activations and norms, each after a convolution."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tools.families.heads.parts import CHANNELS, Head, between, conv, function

#: PyTorch's own, by their names.
_NAMES = ("ReLU6", "LeakyReLU", "PReLU", "RReLU", "ELU", "SELU", "CELU", "GELU", "SiLU", "Mish", "Softplus",
          "Hardswish", "Hardsigmoid", "Hardtanh", "Sigmoid", "LogSigmoid", "Tanh", "Tanhshrink", "Softsign",
          "Hardshrink", "Softshrink")  # fmt: skip
_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    **{name: getattr(nn, name) for name in _NAMES},
    "GELU, tanh": lambda: nn.GELU("tanh"),
    "Threshold": lambda: nn.Threshold(0.1, 0.0),
    "x · sigmoid(x)": function(lambda x: x * x.sigmoid()),
    "x · relu6(x + 3) / 6": function(lambda x: x * F.relu6(x + 3) / 6),
    "|x| + x²": function(lambda x: x.abs() + x.square()),
    "1 - x": function(lambda x: 1 - x),
    "where(x > 0.5, x, 0.1 x)": function(lambda x: torch.where(x > 0.5, x, 0.1 * x)),
}


def _channels_last(x: Tensor, norm: nn.Module) -> Tensor:
    normed: Tensor = norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    return normed


_NORMS: dict[str, Callable[[], nn.Module]] = {
    "GroupNorm": lambda: nn.GroupNorm(4, CHANNELS),
    "InstanceNorm": lambda: nn.InstanceNorm2d(CHANNELS, affine=True),
    "InstanceNorm, tracked": lambda: nn.InstanceNorm2d(CHANNELS, affine=True, track_running_stats=True),
    "LayerNorm, channels last": function(_channels_last, norm=lambda: nn.LayerNorm(CHANNELS)),
    "RMSNorm, channels last": function(_channels_last, norm=lambda: nn.RMSNorm(CHANNELS)),
    "LocalResponseNorm": lambda: nn.LocalResponseNorm(5),
    # Not after a convolution alone: there it would be folded.
    "BatchNorm after ReLU": lambda: nn.Sequential(nn.ReLU(), nn.BatchNorm2d(CHANNELS)),
}


def _after_convolution(create: Callable[[], nn.Module]) -> Head:
    return between(lambda: nn.Sequential(conv(), create()))


HEADS = {
    **{f"activation {name}": _after_convolution(create) for name, create in _ACTIVATIONS.items()},
    "activation GLU": between(lambda: nn.Sequential(conv(out=2 * CHANNELS), nn.GLU(1))),
    **{name: _after_convolution(create) for name, create in _NORMS.items()},
}
