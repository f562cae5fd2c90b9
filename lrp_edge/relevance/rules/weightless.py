"""Rules of layers without weights: what is passed on, sums, norms and maxima."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lrp_edge.relevance.affine import summed_to
from lrp_edge.relevance.layers import Back, Kind, Layer, Standardised, unchanged
from lrp_edge.relevance.pooling import Axes, Windows
from lrp_edge.relevance.rules.affine import AffineRule
from lrp_edge.relevance.rules.base import Function, Rule, Sign, positive, stabilize


@dataclass(frozen=True)
class Pass(Rule):
    """Relevance is passed on unchanged to where the values came from: elementwise layers, and those that reorder."""

    kinds = AffineRule.kinds - {Kind.ATTENTION} | {Kind.NORM, Kind.SOFTMAX, Kind.ACTIVATION, Kind.RESAMPLED, Kind.SHAPE}
    keeps_signs = True

    def step(self, layer: Layer) -> nn.Module:
        back: Back = layer.form
        if layer.kind in AffineRule.kinds | {Kind.SOFTMAX}:
            back = unchanged if layer.keeps_shape else lambda s, inputs: [summed_to(s, inputs[0])]
        return Function(lambda inputs, output, relevance, *given: back(relevance, inputs, *given))

    def reads_channel_sum(self, layer: Layer) -> bool:
        return layer.kind is Kind.ACTIVATION and layer.sums_channels and layer.keeps_shape


@dataclass(frozen=True)
class Norm(Rule):
    """Relevance in proportion to the summands: sums and averages; of a product of two signals, half to each."""

    kinds = frozenset({Kind.SUM, Kind.AVERAGE_POOL, Kind.RESAMPLED, Kind.PRODUCT})
    stabilizer: float = 1e-6

    def step(self, layer: Layer) -> nn.Module:
        back: Back = layer.form
        sign: Sign = 1 if layer.nonnegative and len(layer.inputs) == 1 else 0

        def step(inputs: list[Tensor], output: Tensor, relevance: Tensor) -> list[Tensor]:
            s = relevance / stabilize(output, self.stabilizer, sign)
            return [x * share for x, share in zip(inputs, back(s, inputs), strict=True)]

        return Function(step)


@dataclass(frozen=True)
class Centred(Rule):
    """Relevance of a norm in proportion to contributions to what is less its mean; its deviation is a constant.

    AttnLRP's rule for LayerNorm (Achtibat et al. 2024, section 3.3.3). Without a mean and a bias it is `Pass`.
    """

    kinds = frozenset({Kind.NORM})
    stabilizer: float = 1e-6

    def step(self, layer: Layer) -> nn.Module:
        return _Centred(layer.form, self.stabilizer)


class _Centred(nn.Module):
    """`Centred` for one layer, with its weight."""

    weight: Tensor | None

    def __init__(self, form: Standardised, stabilizer: float) -> None:
        super().__init__()
        self.form, self.stabilizer = form._replace(weight=None), stabilizer
        self.register_buffer("weight", form.weight)

    def forward(self, inputs: list[Tensor], output: Tensor, relevance: Tensor) -> list[Tensor]:
        s = relevance / stabilize(output, self.stabilizer)
        (x,) = inputs
        return [x * self.form.adjoint(s if self.weight is None else s * self.weight, x)]


@dataclass(frozen=True)
class DeepTaylor(Rule):
    """Relevance of a softmax s of x: ``x (R − s ΣR)`` (Achtibat et al. 2024, proposition 3.1)."""

    kinds = frozenset({Kind.SOFTMAX})

    def step(self, layer: Layer) -> nn.Module:
        (axis,) = layer.form.axes

        def step(inputs: list[Tensor], output: Tensor, relevance: Tensor) -> list[Tensor]:
            # What a mask excludes takes nothing, whatever its weight would have been computed from.
            x = torch.where(output > 0, inputs[0], 0.0)
            return [x * (relevance - output * relevance.sum(axis, keepdim=True))]

        return Function(step)


@dataclass(frozen=True)
class Magnitude(Rule):
    """Relevance of a sum in proportion to the magnitudes of its summands, in the manner of Otsuki et al. 2024.

    Where no summand is negative it is `Norm`. Where summands cancel, relevance neither explodes nor changes its sign
    ("Layer-Wise Relevance Propagation with Conservation Property for ResNet", arXiv 2407.09115).
    """

    kinds = frozenset({Kind.SUM})
    keeps_signs = True
    stabilizer: float = 1e-6

    def step(self, layer: Layer) -> nn.Module:
        factors = [abs(factor) for factor in layer.form.factors]

        def step(inputs: list[Tensor], output: Tensor, relevance: Tensor) -> list[Tensor]:
            sizes = [x.abs() if factor == 1 else factor * x.abs() for x, factor in zip(inputs, factors, strict=True)]
            s = relevance / (sum(sizes[1:], start=sizes[0]) + self.stabilizer)
            return [size * summed_to(s, size) for size in sizes]

        return Function(step)


@dataclass(frozen=True)
class WinnerTakesAll(Rule):
    """All relevance of a maximum goes to the first element that attains it.

    A soft maximum's is shared by softmax, so that all goes to one input that is far above the others.
    """

    kinds = frozenset({Kind.MAX_POOL, Kind.SOFT_MAXIMUM})
    keeps_signs = True

    def step(self, layer: Layer) -> nn.Module:
        award, sums = layer.form.award, layer.sums_channels
        return Function(lambda inputs, output, relevance: [award(inputs[0], output, relevance, sums)])


@dataclass(frozen=True)
class Proportional(Rule):
    """Relevance of a maximum goes to all elements of its window in proportion to their (positive) values."""

    kinds = frozenset({Kind.MAX_POOL, Kind.SOFT_MAXIMUM})
    stabilizer: float = 1e-6

    def step(self, layer: Layer) -> nn.Module:
        pool: Windows | Axes = layer.form

        def step(inputs: list[Tensor], output: Tensor, relevance: Tensor) -> list[Tensor]:
            x = positive(inputs[0])
            return [x * pool.spread(relevance / (pool.total(x, output) + self.stabilizer), x)]

        return Function(step)


@dataclass(frozen=True)
class Density(Rule):
    """Relevance of a soft maximum y goes to each position by its own positive part: ``R_i = x_i⁺ R / y``.

    It is not shared out, so that its sum grows with the number of positions that speak for the class. Relevance of a
    pixel then does not depend on how large the defect is, and one threshold serves small and large ones.
    """

    kinds = frozenset({Kind.SOFT_MAXIMUM})
    stabilizer: float = 1e-6

    def step(self, layer: Layer) -> nn.Module:
        pool: Axes = layer.form

        def step(inputs: list[Tensor], output: Tensor, relevance: Tensor) -> list[Tensor]:
            x = positive(inputs[0])
            output, relevance = pool.open(x, output, relevance)
            return [x * (relevance / stabilize(output, self.stabilizer))]

        return Function(step)
