"""From maps to features or logits."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tools.families.heads.parts import CHANNELS, CLASSES, Head, between, conv, ending, function, pooled, stem


class GeneralisedMean(nn.Module):
    """The mean of powers of what is positive, to the inverse power."""

    def __init__(self, power: float = 3.0, learned: bool = True, windows: bool = False) -> None:
        super().__init__()
        self.power = nn.Parameter(torch.tensor([power])) if learned else power
        self.windows = windows

    def forward(self, x: Tensor) -> Tensor:
        raised = x.clamp(min=1e-6).pow(self.power)
        mean = F.avg_pool2d(raised, x.shape[-2:]).flatten(1) if self.windows else raised.mean((2, 3))
        return mean.pow(1.0 / self.power)


class _TwoSizes(nn.Module):
    """The same layers on an image and on its half."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(stem(), conv(), nn.ReLU(), nn.MaxPool2d(2))
        self.head = nn.Linear(2 * CHANNELS, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        both = [self.backbone(each).mean((2, 3)) for each in (x, F.avg_pool2d(x, 2))]
        logits: Tensor = self.head(torch.cat(both, 1))
        return logits


def _both_pools(x: Tensor) -> Tensor:
    return torch.cat([F.adaptive_avg_pool2d(x, 1), F.adaptive_max_pool2d(x, 1)], 1).flatten(1)


def _bilinear(x: Tensor) -> Tensor:
    maps = x.flatten(2)
    return (maps @ maps.transpose(1, 2) / maps.shape[2]).flatten(1)


def _by_positions(x: Tensor, head: nn.Module) -> Tensor:
    logits: Tensor = head(x).flatten(2)
    return logits


_LOGITS = {"head": lambda: nn.Conv2d(CHANNELS, CLASSES, 1)}

HEADS = {
    "mean((2, 3))": pooled(function(lambda x: x.mean((2, 3)))),
    "mean(-1).mean(-1)": pooled(function(lambda x: x.mean(-1).mean(-1))),
    "sum((2, 3))": pooled(function(lambda x: x.sum((2, 3)) / 100)),
    "amax((2, 3))": pooled(function(lambda x: x.amax((2, 3)))),
    "AdaptiveMaxPool2d(1)": pooled(lambda: nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten())),
    "average and maximum": pooled(function(_both_pools), 2 * CHANNELS),
    "GeM, learned power": pooled(GeneralisedMean),
    "GeM, avg_pool2d": pooled(lambda: GeneralisedMean(windows=True)),
    "GeM, fixed power": pooled(lambda: GeneralisedMean(learned=False)),
    "LPPool": between(lambda: nn.LPPool2d(2, 2)),
    "logsumexp": ending(function(lambda x, head: head(x).logsumexp((2, 3)), **_LOGITS)),
    "maximum over positions": ending(function(lambda x, head: _by_positions(x, head).max(2)[0], **_LOGITS)),
    "top-k mean of positions": ending(
        function(lambda x, head: _by_positions(x, head).topk(8, 2)[0].mean(2), **_LOGITS)
    ),
    "1x1 head, squeezed": ending(function(lambda x, head: head(F.adaptive_avg_pool2d(x, 1))[:, :, 0, 0], **_LOGITS)),
    "flatten, Linear": pooled(lambda: nn.Sequential(nn.MaxPool2d(4), nn.Flatten()), CHANNELS * 64),
    "Linear, BatchNorm1d": pooled(
        lambda: nn.Sequential(
            nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * CHANNELS, 16), nn.BatchNorm1d(16), nn.ReLU()
        )
    ),
    "bilinear pooling (x xᵀ)": pooled(function(_bilinear), CHANNELS * CHANNELS),
    "L2-normalised features": pooled(function(lambda x: F.normalize(x.mean((2, 3))))),
    "cosine head": ending(
        function(
            lambda x, head: 16 * F.linear(F.normalize(x.mean((2, 3))), F.normalize(head.weight)),
            head=lambda: nn.Linear(CHANNELS, CLASSES, bias=False),
        )
    ),
    "two branches of one backbone": Head(_TwoSizes),
}
