"""What heads and single layers stand between, and how a line of code becomes a module."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

CLASSES, CHANNELS = 5, 16


@dataclass(frozen=True)
class Head:
    """A small classifier with the layer in question.

    Attributes
    ----------
    create : callable
        Returns it: float [N, 3, 32, 32] → logits [N, classes].
    classes : int
        Its outputs.
    logits : str
        Which of several outputs they are, see :func:`lrp_edge.unroll`.
    """

    create: Callable[[], nn.Module]
    classes: int = CLASSES
    logits: str = ""


class Calls(nn.Module):
    """A function as a module: ``forward(x)`` returns ``function(x, **modules)``."""

    def __init__(self, function: Callable[..., Any], **modules: nn.Module) -> None:
        super().__init__()
        self.function, self.given = function, nn.ModuleDict(modules)

    def forward(self, x: Any) -> Any:
        return self.function(x, **self.given)


def conv(channels: int = CHANNELS, out: int = CHANNELS, kernel: int = 3, **options: Any) -> nn.Conv2d:
    """Return a convolution that keeps height and width."""
    return nn.Conv2d(channels, out, kernel, padding=options.pop("padding", kernel // 2), **options)


def stem() -> nn.Sequential:
    """Return what comes first: float [N, 3, H, W] → [N, 16, H, W], not negative."""
    return nn.Sequential(conv(3), nn.BatchNorm2d(CHANNELS), nn.ReLU())


def tail(channels: int = CHANNELS, classes: int = CLASSES) -> nn.Sequential:
    """Return what comes last: [N, channels, h, w] → logits [N, classes]."""
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(conv(channels), nn.ReLU(), *pool, nn.Linear(CHANNELS, classes))


def between(create: Callable[[], nn.Module], channels: int = CHANNELS) -> Head:
    """Return a layer of 16 channels in the middle of a network; `channels` are those that it makes of them."""
    return Head(lambda: nn.Sequential(stem(), create(), tail(channels)))


def first(create: Callable[[], nn.Module]) -> Head:
    """Return a layer before the network, of 3 channels."""
    return Head(lambda: nn.Sequential(create(), stem(), tail()))


def last(create: Callable[[], nn.Module], classes: int = CLASSES, logits: str = "") -> Head:
    """Return a layer after the logits."""
    return Head(lambda: nn.Sequential(stem(), tail(classes=classes), create()), classes, logits)


def ending(create: Callable[[], nn.Module]) -> Head:
    """Return what makes logits of 16 maps."""
    return Head(lambda: nn.Sequential(stem(), create()))


def pooled(create: Callable[[], nn.Module], features: int = CHANNELS) -> Head:
    """Return what makes features [N, `features`] of 16 maps, before a linear layer."""
    return Head(lambda: nn.Sequential(stem(), create(), nn.Linear(features, CLASSES)))


def function(call: Callable[..., Any], **modules: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    """Return what creates a module that calls a function."""
    return lambda: Calls(call, **{name: create() for name, create in modules.items()})
