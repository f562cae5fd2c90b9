"""Sums, products, concatenations and splits, and weights that are multiplied by hand."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tools.families.heads.parts import CHANNELS, CLASSES, between, conv, ending, function

_HALF = CHANNELS // 2


class Gated(nn.Module):
    """A residual branch times one learned number (ReZero)."""

    def __init__(self) -> None:
        super().__init__()
        self.alpha, self.branch = nn.Parameter(torch.zeros(1)), conv()

    def forward(self, x: Tensor) -> Tensor:
        branch: Tensor = self.branch(x)
        return x + self.alpha * branch


class DroppedAtRandom(nn.Module):
    """A residual branch that training drops."""

    def __init__(self) -> None:
        super().__init__()
        self.branch, self.drop = conv(), nn.Dropout2d(0.5)

    def forward(self, x: Tensor) -> Tensor:
        branch: Tensor = self.drop(self.branch(x))
        return x + branch


def _with_rows(x: Tensor) -> Tensor:
    rows = torch.linspace(-1, 1, x.shape[2], dtype=x.dtype)[None, None, :, None]
    return torch.cat([x, rows.expand(x.shape[0], 1, x.shape[2], x.shape[3])], 1)


def _with_ones(x: Tensor) -> Tensor:
    return torch.cat([x, x.new_ones(x.shape[0], 1, x.shape[2], x.shape[3])], 1)


def _then(call: Callable[[Tensor], Tensor], channels: int) -> Callable[[], nn.Module]:
    """Return what calls a function that makes `channels` maps, and a convolution that makes 16 of them."""
    return lambda: nn.Sequential(function(call)(), nn.Conv2d(channels, CHANNELS, 1))


_WEIGHTS = {"head": lambda: nn.Linear(CHANNELS, CLASSES)}

HEADS = {
    "sum of two branches": between(function(lambda x, a, b: a(x).relu() + b(x).relu(), a=conv, b=conv)),
    "difference of two branches": between(function(lambda x, a: x - a(x), a=conv)),
    "product of two branches": between(function(lambda x, a, b: a(x).relu() * b(x), a=conv, b=conv)),
    "quotient of two branches": between(function(lambda x, a: x / (1 + a(x).square()), a=conv)),
    "maximum of two halves": between(_then(lambda x: torch.maximum(*x.tensor_split(2, 1)), _HALF)),
    "residual, learned factor": between(Gated),
    "residual, stochastic depth": between(DroppedAtRandom),
    "cat": between(_then(lambda x: torch.cat([x, (1 - x).relu()], 1), 2 * CHANNELS)),
    "cat with ones": between(_then(_with_ones, CHANNELS + 1)),
    "CoordConv": between(_then(_with_rows, CHANNELS + 1)),
    "chunk": between(_then(lambda x: torch.add(*x.chunk(2, 1)), _HALF)),
    "split": between(function(lambda x: torch.cat(x.split([4, CHANNELS - 4], 1)[::-1], 1))),
    "unbind, stack": between(function(lambda x: torch.stack(x.unbind(1)[::-1], 1))),
    "index of channels": between(_then(lambda x: x[:, [3, 1, 2, 0]], 4)),
    "einsum with a weight": ending(
        function(lambda x, head: torch.einsum("nchw,kc->nkhw", x, head.weight).mean((2, 3)), **_WEIGHTS)
    ),
    "matmul with a weight": ending(function(lambda x, head: x.mean((2, 3)) @ head.weight.T + head.bias, **_WEIGHTS)),
    "addmm": ending(function(lambda x, head: torch.addmm(head.bias, x.mean((2, 3)), head.weight.T), **_WEIGHTS)),
}
