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

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from lrp_edge.errors import LrpEdgeError
from lrp_edge.relevance.affine import Affine, Convolution, summed_to
from lrp_edge.relevance.layers import Back, Kind, Layer, Live, Standardised, unchanged
from lrp_edge.relevance.pooling import Axes, Windows

Pick = Callable[[Tensor], Tensor]
Sign = Literal[-1, 0, 1]


def whole(x: Tensor) -> Tensor:
    """Return x."""
    return x


def positive(x: Tensor) -> Tensor:
    """Return max(x, 0)."""
    return x.clamp(min=0)


def negative(x: Tensor) -> Tensor:
    """Return min(x, 0)."""
    return x.clamp(max=0)


def _ones(x: Tensor) -> Tensor:
    return torch.ones_like(x[:1])


def stabilize(z: Tensor, epsilon: float, sign: Sign = 0) -> Tensor:
    """Return ``z ± epsilon``, away from zero; `sign` is that of z where it is known beforehand."""
    if sign:
        return z + sign * epsilon
    return z + torch.where(z >= 0, epsilon, -epsilon)


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


def prepare(rule: Rule, layer: Layer) -> nn.Module:
    """Return a layer's step by a rule.

    Raises
    ------
    LrpEdgeError
        If the rule is not for such a layer: names the layer, the rule, and those that it takes.
    """
    if layer.kind not in rule.kinds:
        names = ", ".join(name for name, known in RULES.items() if layer.kind in known.kinds)
        raise LrpEdgeError(
            f"{type(rule).__name__} is not a rule for {layer.node.target} at {layer.path or 'the model itself'}; "
            f"expected one of {names}"
        )
    return rule.step(layer)


class Function(nn.Module):
    """A function as a module: exporters know its operations by the module's name."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)


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


RULES: dict[str, type[Rule]] = {
    rule.__name__: rule
    for rule in (
        Epsilon,
        Gamma,
        AlphaBeta,
        ZPlus,
        ZBox,
        WSquare,
        Flat,
        Pass,
        Norm,
        Magnitude,
        Centred,
        DeepTaylor,
        WinnerTakesAll,
        Proportional,
        Density,
    )
}
