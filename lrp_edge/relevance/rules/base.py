"""What a rule is, and what all share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from lrp_edge.relevance.layers import Kind, Layer

Pick = Callable[[Tensor], Tensor]
Sign = Literal[-1, 0, 1]


def positive(x: Tensor) -> Tensor:
    """Return max(x, 0)."""
    return x.clamp(min=0)


def stabilize(z: Tensor, epsilon: float, sign: Sign = 0) -> Tensor:
    """Return ``z ± epsilon``, away from zero; `sign` is that of z where it is known beforehand."""
    if sign:
        return z + sign * epsilon
    return z + torch.where(z >= 0, epsilon, -epsilon)


class Rule:
    """How a layer distributes the relevance of its output over its inputs.

    Attributes
    ----------
    kinds : frozenset of Kind
        The layers that it is for.
    keeps_signs : bool
        Whether shares have the sign of the relevance that they are of, whatever that of the output.
    """

    kinds: ClassVar[frozenset[Kind]] = frozenset(Kind)
    keeps_signs: ClassVar[bool] = False

    def step(self, layer: Layer) -> nn.Module:
        """Return the rule for one layer: a module ``(inputs, output, relevance, *given) -> shares``.

        `inputs` are the values of the layer's inputs that take relevance, `shares` their relevance, of the same
        shapes; `given` are those of :attr:`Layer.given`. The module holds the rule's constants, so that they move with
        the model.
        """
        raise NotImplementedError(f"{type(self).__name__} has no step")

    def reads_channel_sum(self, layer: Layer) -> bool:
        """Whether it reads the relevance of the layer's output summed over channels only."""
        return False


class Function(nn.Module):
    """A function as a module: exporters know its operations by the module's name."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)
