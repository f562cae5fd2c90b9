"""The registry: what each ATen operator is to the rules.

An operator is one function, registered under its targets in :mod:`lrp_edge.relevance.operators`. It is called once,
when a model is unrolled, and returns the layer's form: what rules need to know about it. All else about an operator is
registered in the same place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx

from lrp_edge.errors import LrpEdgeError
from lrp_edge.relevance import receptive_field as reach
from lrp_edge.relevance.affine import Affine, summed_to
from lrp_edge.relevance.capture import Capture, arguments, module_path
from lrp_edge.relevance.pooling import Axes, Windows


class Kind(str, Enum):
    """What a composite chooses rules for.

    A linear layer whose input has positions, [N, ..., I], is a convolution of 1 × 1 in other words, and of its kind.
    """

    CONVOLUTION = "convolution"
    LINEAR = "linear"
    BATCH_NORM = "batch_norm"
    NORM = "norm"
    OFFSET = "offset"
    ACTIVATION = "activation"
    ATTENTION = "attention"
    SOFTMAX = "softmax"
    PRODUCT = "product"
    AVERAGE_POOL = "average_pool"
    RESAMPLED = "resampled"
    MAX_POOL = "max_pool"
    SOFT_MAXIMUM = "soft_maximum"
    SUM = "sum"
    SHAPE = "shape"


class Weighted(NamedTuple):
    """The form of a layer that is affine in its input, with its weights."""

    affine: Affine
    weight: Tensor
    bias: Tensor | None


class Live(NamedTuple):
    """The form of a layer that is linear in its input, with weights that are computed from the image.

    The step is given them as its first value beyond inputs, output and relevance.
    """

    affine: Affine
    nonnegative: bool


#: The form of a layer without weights: its adjoint, ``(s, inputs, *given) -> shares`` for a value `s` of the output's
#: shape; see :attr:`Layer.given`.
Back = Callable[..., Sequence[Tensor]]


class Summands(NamedTuple):
    """The form of a sum of signals, each times a constant factor."""

    factors: tuple[float, ...]

    def __call__(self, s: Tensor, inputs: list[Tensor]) -> list[Tensor]:
        """Return the adjoint, as `Back`."""
        shares = [s if factor == 1 else factor * s for factor in self.factors]
        return [summed_to(share, x) for share, x in zip(shares, inputs, strict=True)]


class Standardised(NamedTuple):
    """The form of a norm: values less their mean, over their deviation, by groups; of RMSNorm without the mean.

    Attributes
    ----------
    groups : callable
        From values of the input's shape to [..., n], of which each row is a group.
    weight : Tensor or None
        Factors of the result, which broadcast to the input's shape.
    epsilon : float
        What is added to the variance.
    centred : bool
        Whether the mean is taken off.
    """

    groups: Callable[[Tensor], Tensor]
    weight: Tensor | None
    epsilon: float
    centred: bool

    def __call__(self, s: Tensor, inputs: list[Tensor]) -> list[Tensor]:
        """Return relevance unchanged, as `Back` of elementwise layers."""
        return [s]

    def adjoint(self, s: Tensor, x: Tensor) -> Tensor:
        """Return the adjoint of the norm with its deviation held fixed, of the shape of `x`."""
        rows = self.groups(x)
        mean = rows.mean(-1, keepdim=True) if self.centred else torch.zeros_like(rows[..., :1])
        scale = ((rows - mean).square().mean(-1, keepdim=True) + self.epsilon).rsqrt()
        t = self.groups(s if self.weight is None else s * self.weight) * scale
        return (t - t.mean(-1, keepdim=True) if self.centred else t).reshape(x.shape)


#: Of a maximum, sharp or soft, the form is what it is taken over.
Form = Back | Summands | Standardised | Weighted | Live | Windows | Axes


def unchanged(s: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    """The form of elementwise layers: relevance is passed on unchanged."""
    return [s]


@dataclass(frozen=True)
class Layer:
    """A node on the way that relevance takes from the logits to the image, with all that its step is prepared from.

    Attributes
    ----------
    node : torch.fx.Node
        The operation.
    kind : Kind
        What it is to a composite.
    captured : Capture
        The graph that it is in.
    inputs : tuple of fx.Node
        Those of its inputs that take relevance, in order.
    nonnegative : bool
        Whether its first input has no negative value.
    sums_channels : bool
        Whether the relevance of its input is read summed over channels only, so that it may be passed on as that sum.
    given : tuple of fx.Node
        What else its step reads, e.g. the weights of an attention.
    nonnegative_given : bool
        Whether the first of those has no negative value.
    """

    node: fx.Node
    kind: Kind
    captured: Capture
    inputs: tuple[fx.Node, ...]
    nonnegative: bool
    sums_channels: bool = False
    given: tuple[fx.Node, ...] = ()
    nonnegative_given: bool = False

    @property
    def path(self) -> str:
        """The layer's place in the user's model."""
        return module_path(self.node)

    @property
    def place(self) -> str:
        """Its place in words, for messages."""
        return self.path or "the model itself"

    @property
    def operator(self) -> Operator:
        """What is registered for it."""
        return OPERATORS[self.node.target]

    @property
    def form(self) -> Any:
        """What rules need to know of it, a `Form` of the type that goes with its kind."""
        return self.operator.form(self)

    @property
    def keeps_shape(self) -> bool:
        """Whether its output has the shape of its first input."""
        return reach.shape_of(self.node) == reach.shape_of(self.inputs[0])

    def values(self, inputs: Sequence[Tensor], given: Sequence[Tensor]) -> dict[fx.Node, Tensor]:
        """Return the values that its step is given by the nodes that they are of."""
        return dict(zip((*self.inputs, *self.given), (*inputs, *given), strict=True))

    def argument(self, name: str) -> Any:
        """Return an argument by its name in the operator's schema, constants by their value.

        Raises
        ------
        LrpEdgeError
            If it is computed from the image, or from its size.
        """
        argument = arguments(self.node)[name]
        if isinstance(argument, fx.Node) and argument not in self.captured.constants:
            raise LrpEdgeError(
                f"{self.node.target} at {self.place} has a {name!r} that is computed from the image or its size; "
                "relevance is defined where it is constant (give --size if it follows the frame's size)"
            )
        return self.captured.value(argument)

    def arguments(self, *names: str) -> tuple[Any, ...]:
        """Return several arguments by their names."""
        return tuple(self.argument(name) for name in names)


#: Whether a node's output has no negative value, from whether each input has none.
Signs = Callable[[fx.Node, list[bool]], bool]

#: Of a node's inputs that depend on the image, those that take relevance.
Takes = Callable[[fx.Node, Sequence[fx.Node]], Sequence[fx.Node]]


@dataclass(frozen=True)
class Operator:
    """An entry of the registry; see :func:`register`."""

    kind: Callable[[Sequence[fx.Node]], Kind]
    form: Callable[[Layer], Form]
    nonnegative: Signs
    reach: reach.Reach
    forward: Callable[..., Tensor] | None
    takes: Takes
    reads: Takes
    follows: Takes


OPERATORS: dict[Any, Operator] = {}


def never(node: fx.Node, inputs: list[bool]) -> bool:
    """The output may be negative."""
    return False


def always(node: fx.Node, inputs: list[bool]) -> bool:
    """The output has no negative value."""
    return True


def inherited(node: fx.Node, inputs: list[bool]) -> bool:
    """The output has no negative value if no input has one."""
    return all(inputs)


def every(node: fx.Node, signals: Sequence[fx.Node]) -> Sequence[fx.Node]:
    """All inputs that depend on the image."""
    return signals


def first(node: fx.Node, signals: Sequence[fx.Node]) -> Sequence[fx.Node]:
    """The first input alone: what else depends on the image only says how it is computed."""
    return signals[:1]


def nothing(node: fx.Node, taking: Sequence[fx.Node]) -> Sequence[fx.Node]:
    """No further value is read."""
    return ()


def others(node: fx.Node, taking: Sequence[fx.Node]) -> Sequence[fx.Node]:
    """The tensors among the arguments that take nothing: constants, indices, conditions."""
    return [source for source in node.all_input_nodes if source not in taking and is_tensor(source)]


def is_tensor(node: fx.Node) -> bool:
    """Whether a node is a tensor, rather than a size or several tensors."""
    return isinstance(node.meta.get("val"), Tensor)


def register(
    *targets: Any,
    kind: Kind | Callable[[Sequence[fx.Node]], Kind],
    nonnegative: Signs = never,
    reach: reach.Reach = reach.unknown,
    forward: Callable[..., Tensor] | None = None,
    takes: Takes = every,
    reads: Takes = nothing,
    follows: Takes | None = None,
) -> Callable[[Callable[[Layer], Form]], Callable[[Layer], Form]]:
    """Register an operator by the function ``layer -> form``.

    Parameters
    ----------
    *targets
        ATen overloads, e.g. ``torch.ops.aten.relu.default``.
    kind : Kind or callable
        What it is to a composite; a function of the inputs that take relevance where that decides.
    nonnegative : callable
        Whether the output has no negative value, from the node and whether each input that depends on the image has
        none.
    reach : callable
        What its units see, from what those of its inputs do: one of :mod:`~lrp_edge.relevance.receptive_field`.
    forward : callable, optional
        The forward pass in another form than ATen's own, where a backend lacks that.
    takes : callable
        Which of the inputs that depend on the image take relevance, from the node and these inputs. What nothing takes
        relevance from needs no rule: the branch that computes a gate may be anything.
    reads : callable
        What else the step is given, from the node and the inputs that take relevance: values that it cannot do without.
    follows : callable, optional
        Which inputs take relevance where a composite follows attention to what it is computed from; by default those of
        `takes`.
    """

    def decorate(form: Callable[[Layer], Form]) -> Callable[[Layer], Form]:
        kind_of = kind if not isinstance(kind, Kind) else lambda inputs: kind
        for target in targets:
            OPERATORS[target] = Operator(kind_of, form, nonnegative, reach, forward, takes, reads, follows or takes)
        return form

    return decorate


def elementwise(*targets: Any, nonnegative: Signs = never, kind: Kind = Kind.ACTIVATION) -> None:
    """Register activations and the like: relevance is passed on unchanged to the first input."""
    register(*targets, kind=kind, nonnegative=nonnegative, reach=reach.unmoved, takes=first)(lambda layer: unchanged)


def forward_of(target: Any) -> Callable[..., Any]:
    """Return how an operator's forward pass is computed."""
    return (target in OPERATORS and OPERATORS[target].forward) or target


def of_one(back: Callable[[Tensor, Tensor], Tensor]) -> Back:
    """Return the form of a layer with one input x from its adjoint ``(s, x) -> share``."""
    return lambda s, inputs: [back(s, inputs[0])]
