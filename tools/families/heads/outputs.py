"""What networks return, and what they take: one logit, probabilities, several outputs, frames as they come."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from tools.families.heads.parts import between, conv, first, function, last

_GRAYS = ((0.4, 0.5, 0.6), 0.2)


def _normalised(x: torch.Tensor) -> torch.Tensor:
    means, deviation = _GRAYS
    return (x - torch.tensor(means, dtype=x.dtype)[:, None, None]) / deviation


def _in_autocast(x: torch.Tensor, layer: nn.Module) -> torch.Tensor:
    with torch.autocast("cpu", enabled=False):
        y: torch.Tensor = layer(x)
    return y


HEADS = {
    "single logit": last(nn.Identity, 1),
    "single logit, sigmoid inside": last(nn.Sigmoid, 1),
    "single logit, squeezed [N]": last(function(lambda x: x.squeeze(1)), 1),
    "softmax inside": last(lambda: nn.Softmax(1)),
    "log_softmax inside": last(lambda: nn.LogSoftmax(1)),
    "two logits, sigmoid inside": last(nn.Sigmoid, 2),
    "dict output": last(function(lambda x: {"logits": x}), logits="logits"),
    "tuple (logits, features)": last(function(lambda x: (x, x)), logits="0"),
    "normalisation inside": first(function(_normalised)),
    "normalisation by buffers": first(lambda: nn.BatchNorm2d(3, affine=False)),
    "resize inside (bilinear)": first(function(lambda x: F.interpolate(x, size=(24, 24), mode="bilinear"))),
    "gray to RGB (repeat)": first(function(lambda x: x[:, :1].repeat(1, 3, 1, 1))),
    "gray to RGB (expand)": first(function(lambda x: x.mean(1, keepdim=True).expand(-1, 3, -1, -1))),
    "gray to RGB (constant)": first(
        function(lambda x: x.mean(1, keepdim=True) * x.new_tensor([0.5, 1.0, 1.5])[:, None, None])
    ),
    "cast inside": between(function(lambda x: x.float().to(x.dtype))),
    "autocast inside": between(function(_in_autocast, layer=conv)),
}
