r"""The rules of Layer-wise Relevance Propagation.

For an affine layer a rule is a sum of terms. Each term compares what parts of the input x contribute through
parts of the weights W (Montavon et al. 2019, "Layer-Wise Relevance Propagation: An Overview"):

.. math:: R_i = \sum_{t} f_t \sum_{p \in t} u_p(x)_i \sum_j v_p(W)_{ij} \frac{g_t(y)_j R_j}{z_{t,j} \pm \epsilon},
          \qquad z_t = \sum_{p \in t} A(u_p(x); v_p(W)) + w_t(b)

where u picks a part of the input, v of the weights, w of the bias, g gates the term by the sign of the layer's
output y, and f is the term's factor. The stabilizer takes the sign of the denominator, + at zero. Names, defaults,
stabilizers and the handling of biases are those of zennit.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lrp_edge.errors import LrpEdgeError
from lrp_edge.relevance.affine import Affine, Convolution
from lrp_edge.relevance.layers import Kind, Layer, Live
from lrp_edge.relevance.rules.base import Function, Pick, Rule, Sign, positive, stabilize


def whole(x: Tensor) -> Tensor:
    """Return x."""
    return x


def negative(x: Tensor) -> Tensor:
    """Return min(x, 0)."""
    return x.clamp(max=0)


def _ones(x: Tensor) -> Tensor:
    return torch.ones_like(x[:1])


@dataclass(frozen=True)
class Part:
    """What a part of the input contributes through a part of the weights."""

    input: Pick
    weight: Pick


@dataclass(frozen=True)
class Term:
    """Contributions that share one denominator.

    Attributes
    ----------
    parts : tuple of Part
        The contributions.
    bias : callable or None
        The part of the bias in the denominator; None leaves it out.
    factor : float
        Factor of the relevance that the term passes on.
    sign : {-1, 0, 1}
        Sign of the denominator where the parts fix it, else 0.
    gate : {-1, 0, 1}
        Sign that the layer's output must have for the term to count; 0 for any.
    """

    parts: tuple[Part, ...]
    bias: Pick | None = whole
    factor: float = 1.0
    sign: Sign = 0
    gate: Sign = 0

    @property
    def is_output(self) -> bool:
        """Whether the denominator is the layer's own output."""
        return self.parts == (Part(whole, whole),) and self.bias is whole


class AffineRule(Rule):
    """A rule of an affine layer, as a sum of terms."""

    kinds = frozenset({Kind.CONVOLUTION, Kind.LINEAR, Kind.BATCH_NORM, Kind.OFFSET, Kind.ATTENTION})
    stabilizer: float

    def terms(self) -> tuple[Term, ...]:
        """Return the terms whose sum is the rule."""
        raise NotImplementedError(f"{type(self).__name__} declares no terms")

    def step(self, layer: Layer) -> nn.Module:
        one = _LiveTerm if isinstance(layer.form, Live) else _Term
        return _Terms(one(term, self.stabilizer, layer) for term in self.terms() if term.factor)


class _Terms(nn.ModuleList):
    """The sum of a rule's terms for one layer."""

    def forward(self, inputs: list[Tensor], output: Tensor, relevance: Tensor, *given: Tensor) -> list[Tensor]:
        shares = [term.share(inputs[0], output, relevance, *given) for term in self]  # type: ignore[operator]
        return [sum(shares[1:], start=shares[0])]


class _Term(nn.Module):
    """A term for one layer, with its constants; parts that pick values which the input cannot have are left out."""

    affine: Affine
    offset: Tensor | None

    def __init__(self, term: Term, stabilizer: float, layer: Layer) -> None:
        super().__init__()
        self.affine, weight, bias = layer.form
        self.term, self.stabilizer = term, stabilizer
        parts = [part for part in term.parts if not (layer.nonnegative and part.input is negative)]
        self.picks = [whole if layer.nonnegative and part.input is positive else part.input for part in parts]
        for i, part in enumerate(parts):
            picked = part.weight(weight)
            if not term.is_output:
                self.register_buffer(f"weight_{i}", picked.contiguous())
            self.register_buffer(f"transposed_{i}", self.affine.transpose(picked).contiguous())
        self.register_buffer("offset", None if term.is_output else self._offset(weight, bias))

    def _offset(self, weight: Tensor, bias: Tensor | None) -> Tensor | None:
        """Return the bias of the denominator, which takes in the stabilizer where its sign is known."""
        offset = self.term.bias(bias) if self.term.bias is not None and bias is not None else None
        if not self.term.sign:
            return offset
        shift = self.term.sign * self.stabilizer
        return weight.new_full(weight.shape[:1], shift) if offset is None else offset + shift

    def _denominator(self, inputs: list[Tensor], y: Tensor) -> Tensor:
        if self.term.is_output:
            return stabilize(y, self.stabilizer)
        z = self.affine.apply(inputs[0], self.get_buffer("weight_0"), self.offset)
        for i, x in enumerate(inputs[1:], start=1):
            z = z + self.affine.apply(x, self.get_buffer(f"weight_{i}"), None)
        return z if self.term.sign else stabilize(z, self.stabilizer)

    def share(self, x: Tensor, y: Tensor, relevance: Tensor) -> Tensor:
        """Return what the layer's input `x` gets of the relevance of its output `y` by this term."""
        inputs = [pick(x) for pick in self.picks]
        s = relevance / self._denominator(inputs, y)
        if self.term.gate:
            s = torch.where(y * self.term.gate > 0, s, 0.0)
        shares = [u * self.affine.adjoint(s, self.get_buffer(f"transposed_{i}"), x) for i, u in enumerate(inputs)]
        share = sum(shares[1:], start=shares[0])
        return share if self.term.factor == 1 else self.term.factor * share


class _LiveTerm(nn.Module):
    """A term for a layer whose weights are computed from the image, such as those of attention."""

    def __init__(self, term: Term, stabilizer: float, layer: Layer) -> None:
        super().__init__()
        self.term, self.stabilizer = term, stabilizer
        self.affine: Affine = layer.form.affine
        parts = [part for part in term.parts if not (layer.nonnegative and part.input is negative)]
        self.parts = [part for part in parts if not (layer.form.nonnegative and part.weight is negative)]

    def share(self, x: Tensor, y: Tensor, relevance: Tensor, weight: Tensor) -> Tensor:
        """Return what the layer's input `x` gets of the relevance of its output `y` by this term."""
        picked = [(part.input(x), part.weight(weight)) for part in self.parts]
        z = y
        if not self.term.is_output:
            contributions = [self.affine.apply(u, w, None) for u, w in picked]
            z = sum(contributions[1:], start=contributions[0])
        s = relevance / stabilize(z, self.stabilizer, self.term.sign)
        if self.term.gate:
            s = torch.where(y * self.term.gate > 0, s, 0.0)
        shares = [u * self.affine.adjoint(s, self.affine.transpose(w), x) for u, w in picked]
        share = sum(shares[1:], start=shares[0])
        return share if self.term.factor == 1 else self.term.factor * share


@dataclass(frozen=True)
class Epsilon(AffineRule):
    """Relevance in proportion to each contribution (Bach et al. 2015, eq. 58); LRP-0 for ``epsilon=0``."""

    epsilon: float = 1e-6

    @property
    def stabilizer(self) -> float:  # type: ignore[override]
        """The stabilizer, which is the rule's own parameter."""
        return self.epsilon

    def terms(self) -> tuple[Term, ...]:
        return (Term((Part(whole, whole),)),)


@dataclass(frozen=True)
class ZPlus(AffineRule):
    """Positive contributions only: α = 1, β = 0 (Bach et al. 2015; Montavon et al. 2017)."""

    keeps_signs = True
    stabilizer: float = 1e-6

    def terms(self) -> tuple[Term, ...]:
        return (Term((Part(positive, positive), Part(negative, negative)), positive, sign=1),)


@dataclass(frozen=True)
class ZPlusOfPositive(AffineRule):
    """ZPlus of the positive inputs alone: what a negative one contributes through a negative weight is left out.

    For layers whose inputs have both signs, such as those after a linear bottleneck: half of ZPlus's arithmetic there,
    and ZPlus itself where no input is negative. Outputs without a positive contribution lose their relevance.
    """

    keeps_signs = True
    stabilizer: float = 1e-6

    def terms(self) -> tuple[Term, ...]:
        return (Term((Part(positive, positive),), positive, sign=1),)


@dataclass(frozen=True)
class AlphaBeta(AffineRule):
    """Positive contributions weigh α, negative ones −β (Bach et al. 2015, eq. 60); α − β = 1."""

    alpha: float = 2.0
    beta: float = 1.0
    stabilizer: float = 1e-6

    def __post_init__(self) -> None:
        if self.alpha < 0 or self.beta < 0 or self.alpha - self.beta != 1:
            raise LrpEdgeError(
                f"AlphaBeta has alpha {self.alpha} and beta {self.beta}; both must be non-negative and alpha - beta = 1"
            )

    def terms(self) -> tuple[Term, ...]:
        return (
            Term((Part(positive, positive), Part(negative, negative)), positive, self.alpha, sign=1),
            Term((Part(positive, negative), Part(negative, positive)), negative, -self.beta, sign=-1),
        )


@dataclass(frozen=True)
class Gamma(AffineRule):
    """Positive contributions weigh 1 + γ (Montavon et al. 2019).

    The generalised form (Andéol et al. 2021) takes inputs of either sign: where the output is negative it favours
    the negative contributions. For non-negative inputs and outputs both forms agree.
    """

    gamma: float = 0.25
    stabilizer: float = 1e-6

    def _favour(self, sign: Pick) -> Pick:
        return lambda w: w + self.gamma * sign(w)

    def terms(self) -> tuple[Term, ...]:
        up, down = self._favour(positive), self._favour(negative)
        return (
            Term((Part(positive, up), Part(negative, down)), up, gate=1),
            Term((Part(positive, down), Part(negative, up)), down, gate=-1),
        )


@dataclass(frozen=True)
class ZBox(AffineRule):
    """For inputs bounded by a box, such as pixels (Montavon et al. 2017, "Explaining nonlinear classification").

    Attributes
    ----------
    low, high : float or tuple of float
        Least and greatest value that the input can take, one for all or one a channel.
    """

    low: float | tuple[float, ...]
    high: float | tuple[float, ...]
    stabilizer: float = 1e-6

    def terms(self) -> tuple[Term, ...]:
        return (
            Term(
                (
                    Part(whole, whole),
                    Part(_bound(self.low), lambda w: -positive(w)),
                    Part(_bound(self.high), lambda w: -negative(w)),
                ),
                bias=None,
            ),
        )


def _bound(value: float | tuple[float, ...]) -> Pick:
    def bound(x: Tensor) -> Tensor:
        levels = torch.as_tensor(value, dtype=x.dtype, device=x.device)
        return levels.reshape(1, -1, *[1] * (x.ndim - 2)).expand_as(x[:1])

    return bound


@dataclass(frozen=True)
class WSquare(AffineRule):
    """Relevance in proportion to the squared weights, whatever the input (Montavon et al. 2017)."""

    keeps_signs = True
    stabilizer: float = 1e-6

    def terms(self) -> tuple[Term, ...]:
        return (Term((Part(_ones, torch.square),), torch.square, sign=1),)


@dataclass(frozen=True)
class Flat(AffineRule):
    """Relevance spread evenly over all inputs that an output sees (Lapuschkin et al. 2019)."""

    keeps_signs = True
    stabilizer: float = 1e-6

    def step(self, layer: Layer) -> nn.Module:
        affine: Affine = layer.form.affine
        return Function(lambda inputs, output, relevance, *given: [affine.flat(relevance, inputs[0], self.stabilizer)])

    def reads_channel_sum(self, layer: Layer) -> bool:
        affine = layer.form.affine
        return isinstance(affine, Convolution) and affine.groups == 1
