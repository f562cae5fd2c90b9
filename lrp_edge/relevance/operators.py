"""The registry: for each ATen operator, how relevance goes back through it.

An operator is one function, registered under its targets. It is called once, when a model is unrolled, with the
node and the rule that the composite chose; it returns a step ``(inputs, output, relevance) -> shares`` that gives
each input that depends on the image its share of the relevance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from lrp_edge.errors import LrpEdgeError
from lrp_edge.relevance import pooling
from lrp_edge.relevance.affine import Affine, Convolution, Linear, Scale
from lrp_edge.relevance.canonize import batch_norm_affine
from lrp_edge.relevance.capture import Capture, module_path
from lrp_edge.relevance.pooling import (
    Windows,
    adaptive_matrix,
    average_divisor,
    proportional,
    spread_windows,
    winner_takes_all,
)
from lrp_edge.relevance.rules import (
    AffineRule,
    Density,
    Norm,
    Pass,
    Proportional,
    Rule,
    Sign,
    WinnerTakesAll,
    stabilize,
)

aten = torch.ops.aten

Step = Callable[[list[Tensor], Tensor, Tensor], Sequence[Tensor]]


class Kind(str, Enum):
    """What a composite chooses rules for."""

    CONVOLUTION = "convolution"
    LINEAR = "linear"
    BATCH_NORM = "batch_norm"
    ACTIVATION = "activation"
    AVERAGE_POOL = "average_pool"
    MAX_POOL = "max_pool"
    SOFT_MAXIMUM = "soft_maximum"
    SUM = "sum"
    SHAPE = "shape"


@dataclass(frozen=True)
class Layer:
    """A node on the way from image to logits, with all that its step is prepared from.

    Attributes
    ----------
    node : torch.fx.Node
        The operation.
    kind : Kind
        What it is to a composite.
    captured : Capture
        The graph that it is in.
    inputs : tuple of fx.Node
        Those of its inputs that depend on the image, in order.
    nonnegative : bool
        Whether its first input has no negative value.
    sums_channels : bool
        Whether the relevance of its input is read summed over channels only, so that it may be handed on so.
    """

    node: fx.Node
    kind: Kind
    captured: Capture
    inputs: tuple[fx.Node, ...]
    nonnegative: bool
    sums_channels: bool = False

    @property
    def path(self) -> str:
        """Where the layer stands in the user's model."""
        return module_path(self.node)

    def argument(self, index: int, default: Any = None) -> Any:
        """Return an argument of the operation, constants by their value."""
        args = self.node.args
        return self.captured.value(args[index]) if len(args) > index else default


@dataclass(frozen=True)
class Operator:
    """An entry of the registry.

    Attributes
    ----------
    kind : callable
        Kind of a node, from the inputs that depend on the image.
    prepare : callable
        ``(layer, rule) -> Step``.
    nonnegative : callable
        Whether the output has no negative value, from whether each input has none.
    """

    kind: Callable[[Sequence[fx.Node]], Kind]
    prepare: Callable[[Layer, Rule], Step]
    nonnegative: Callable[[fx.Node, list[bool]], bool]


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


def register(
    *targets: Any,
    kind: Kind | Callable[[Sequence[fx.Node]], Kind],
    nonnegative: Callable[[fx.Node, list[bool]], bool] = never,
) -> Callable[[Callable[[Layer, Any], Step]], Callable[[Layer, Any], Step]]:
    """Register how relevance goes back through an operator.

    Parameters
    ----------
    *targets
        ATen overloads, e.g. ``torch.ops.aten.relu.default``.
    kind : Kind or callable
        What it is to a composite; a function of the inputs that depend on the image where that decides.
    nonnegative : callable
        What is known of the output's sign.
    """

    def decorate(prepare: Callable[[Layer, Any], Step]) -> Callable[[Layer, Any], Step]:
        kind_of = kind if not isinstance(kind, Kind) else lambda inputs: kind
        for target in targets:
            OPERATORS[target] = Operator(kind_of, prepare, nonnegative)
        return prepare

    return decorate


def expect(layer: Layer, rule: Rule, *allowed: type[Rule]) -> None:
    """Refuse a rule that an operator cannot follow.

    Raises
    ------
    LrpEdgeError
        Naming the layer, the rule, and those that it takes.
    """
    if not isinstance(rule, allowed):
        names = ", ".join(kind.__name__ for kind in allowed)
        raise LrpEdgeError(
            f"{type(rule).__name__} is no rule for {layer.node.target} at {layer.path or 'the model itself'}; "
            f"expected one of {names}"
        )


class _OnFirstInput(nn.Module):
    """A rule ``(x, y, R) -> R_x`` as a step; a module, so that its constants move with the model."""

    def __init__(self, rule: nn.Module) -> None:
        super().__init__()
        self.rule = rule

    def forward(self, inputs: list[Tensor], output: Tensor, relevance: Tensor) -> list[Tensor]:
        return [self.rule(inputs[0], output, relevance)]


def _pass(inputs: list[Tensor], output: Tensor, relevance: Tensor) -> list[Tensor]:
    return [relevance]


def _affine(layer: Layer, rule: Rule, affine: Affine, weight: Tensor, bias: Tensor | None) -> Step:
    expect(layer, rule, AffineRule, Pass)
    if isinstance(rule, AffineRule):
        return _OnFirstInput(rule.prepare(affine, weight, bias, layer.nonnegative))
    return _pass


@register(aten.conv2d.default, kind=Kind.CONVOLUTION)
def convolution(layer: Layer, rule: Rule) -> Step:
    weight = layer.argument(1)
    stride, padding, dilation = (_pair(layer.argument(i, default)) for i, default in ((3, 1), (4, 0), (5, 1)))
    kernel = (weight.shape[2], weight.shape[3])
    affine = Convolution(kernel, stride, padding, dilation, layer.argument(6, 1))
    return _affine(layer, rule, affine, weight, layer.argument(2))


@register(aten.linear.default, kind=Kind.LINEAR)
def linear(layer: Layer, rule: Rule) -> Step:
    return _affine(layer, rule, Linear(), layer.argument(1), layer.argument(2))


@register(aten.batch_norm.default, kind=Kind.BATCH_NORM)
def batch_norm(layer: Layer, rule: Rule) -> Step:
    scale, shift = batch_norm_affine(layer.captured, layer.node)
    return _affine(layer, rule, Scale(), scale, shift)


def _clamps_below(node: fx.Node, inputs: list[bool]) -> bool:
    low = node.args[1] if len(node.args) > 1 else None
    return all(inputs) or (isinstance(low, int | float) and low >= 0)


def _even_power(node: fx.Node, inputs: list[bool]) -> bool:
    exponent = node.args[1]
    return all(inputs) or (isinstance(exponent, int | float) and exponent % 2 == 0)


def activation(layer: Layer, rule: Rule) -> Step:
    """Elementwise operations hand relevance on as it is."""
    expect(layer, rule, Pass)
    return _pass


for _sign, _targets in (
    (always, (aten.relu.default, aten.sigmoid.default, aten.softplus.default, aten.hardsigmoid.default)),
    (
        inherited,
        (
            aten.clone.default,
            aten.alias.default,
            aten.dropout.default,
            aten._to_copy.default,
            aten.leaky_relu.default,
            aten.elu.default,
            aten.silu.default,
            aten.gelu.default,
            aten.hardswish.default,
            aten.tanh.default,
            aten.sqrt.default,
        ),
    ),
    (_clamps_below, (aten.clamp.default, aten.clamp_min.default, aten.hardtanh.default)),
    (_even_power, (aten.pow.Tensor_Scalar,)),
    (never, (aten.prelu.default, aten._prelu_kernel.default)),
):
    register(*_targets, kind=Kind.ACTIVATION, nonnegative=_sign)(activation)


def _sum_of_two(inputs: Sequence[fx.Node]) -> Kind:
    return Kind.SUM if len(inputs) == 2 else Kind.ACTIVATION


def _offset_keeps_sign(node: fx.Node, inputs: list[bool]) -> bool:
    numbers = [value for value in (*node.args, _alpha(node)) if isinstance(value, int | float)]
    return all(inputs) and len(inputs) + len(numbers) == 3 and min(numbers) >= 0


def _alpha(node: fx.Node) -> float:
    """Return the factor of a sum's second summand."""
    return float(node.kwargs.get("alpha", 1))  # type: ignore[arg-type]


@register(aten.add.Tensor, aten.add.Scalar, kind=_sum_of_two, nonnegative=_offset_keeps_sign)
def add(layer: Layer, rule: Rule) -> Step:
    """A residual sum splits in proportion to its summands; a constant summand takes nothing."""
    return _weighted_sum(layer, rule, (1.0, _alpha(layer.node)))


@register(aten.sub.Tensor, aten.sub.Scalar, aten.rsub.Scalar, kind=_sum_of_two)
def subtract(layer: Layer, rule: Rule) -> Step:
    return _weighted_sum(layer, rule, (1.0, -_alpha(layer.node)))


def _weighted_sum(layer: Layer, rule: Rule, weights: tuple[float, float]) -> Step:
    expect(layer, rule, Pass if layer.kind is Kind.ACTIVATION else Norm)
    if not isinstance(rule, Norm):
        return _pass

    def step(inputs: list[Tensor], output: Tensor, relevance: Tensor) -> list[Tensor]:
        s = relevance / stabilize(output, rule.stabilizer)
        return [_like(x * (s if weight == 1 else weight * s), x) for x, weight in zip(inputs, weights, strict=True)]

    return step


def _like(share: Tensor, x: Tensor) -> Tensor:
    """Sum a share over the axes along which `x` was broadcast."""
    return share.sum_to_size(x.shape) if share.ndim != x.ndim or share.shape != x.shape else share


@register(aten.mul.Tensor, aten.mul.Scalar, aten.div.Tensor, aten.div.Scalar, kind=Kind.ACTIVATION)
def scale(layer: Layer, rule: Rule) -> Step:
    """A product with a constant hands relevance on as it is."""
    expect(layer, rule, Pass)
    if len(layer.inputs) != 1:
        raise LrpEdgeError(
            f"{layer.node.target} at {layer.path or 'the model itself'} multiplies two tensors that depend on the "
            "image; relevance is defined here for a product with a constant only"
        )
    return _pass


@register(aten.max_pool2d.default, kind=Kind.MAX_POOL, nonnegative=inherited)
def max_pool(layer: Layer, rule: Rule) -> Step:
    expect(layer, rule, WinnerTakesAll, Proportional)
    windows = _windows(*layer.node.args[1:5])._replace(ceil=bool(layer.argument(5, False)))

    def step(inputs: list[Tensor], output: Tensor, relevance: Tensor) -> list[Tensor]:
        if isinstance(rule, Proportional):
            return [proportional(inputs[0], relevance, windows, rule.stabilizer)]
        return [winner_takes_all(inputs[0], relevance, windows, layer.sums_channels)]

    return step


def _windows(kernel: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1) -> Windows:
    return Windows(_pair(kernel), _pair(stride or kernel), _pair(padding), _pair(dilation))


def max_pooling(
    x: Tensor, kernel: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> Tensor:
    """Max pooling in operations that every backend has."""
    windows = _windows(kernel, stride, padding, dilation)
    if windows.dilation == (1, 1):
        return F.max_pool2d(x, windows.kernel, windows.stride, windows.padding, 1, ceil_mode)
    return pooling.max_pool(x, windows, ceil_mode)


def _norm(layer: Layer, rule: Any, spread: Callable[[Tensor, Tensor], Tensor]) -> Step:
    """Norm for an average with the adjoint ``spread(s, x)``."""
    expect(layer, rule, Norm)
    sign: Sign = 1 if layer.nonnegative else 0

    def step(inputs: list[Tensor], output: Tensor, relevance: Tensor) -> list[Tensor]:
        s = relevance / stabilize(output, rule.stabilizer, sign)
        return [inputs[0] * spread(s, inputs[0])]

    return step


@register(aten.avg_pool2d.default, kind=Kind.AVERAGE_POOL, nonnegative=inherited)
def average_pool(layer: Layer, rule: Rule) -> Step:
    windows = _windows(*layer.node.args[1:4])
    ceil_mode, include_pad, divisor = layer.argument(4, False), layer.argument(5, True), layer.argument(6)

    def spread(s: Tensor, x: Tensor) -> Tensor:
        if divisor is not None:
            share = s / divisor
        elif ceil_mode or (windows.padding != (0, 0) and not include_pad):
            share = s / average_divisor(x, s, windows, include_pad)
        else:
            share = s / (windows.kernel[0] * windows.kernel[1])
        return spread_windows(share, x, windows)

    return _norm(layer, rule, spread)


@register(aten.adaptive_avg_pool2d.default, kind=Kind.AVERAGE_POOL, nonnegative=inherited)
def adaptive_average_pool(layer: Layer, rule: Rule) -> Step:
    rows, columns = layer.argument(1)

    def spread(s: Tensor, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        if (rows, columns) == (1, 1):
            return (s / (height * width)).expand_as(x)
        if (rows, columns) == (height, width):
            return s
        return adaptive_matrix(height, rows, x).T @ s @ adaptive_matrix(width, columns, x)

    return _norm(layer, rule, spread)


def adaptive_average(x: Tensor, size: Sequence[int]) -> Tensor:
    """Adaptive average pooling in operations that every backend has."""
    rows, columns = size
    if (rows, columns) == (1, 1):
        return x.mean((2, 3), keepdim=True)
    if (rows, columns) == tuple(x.shape[-2:]):
        return x
    return adaptive_matrix(x.shape[-2], rows, x) @ x @ adaptive_matrix(x.shape[-1], columns, x).T


#: Operators whose forward pass is computed in another form than ATen's own: exporters lack adaptive pooling, TensorRT
#: lacks dilated max pooling, and a view fails where the tensor's memory format is not that of the capture.
FORWARD: dict[Any, Callable[..., Tensor]] = {
    aten.adaptive_avg_pool2d.default: adaptive_average,
    aten.max_pool2d.default: max_pooling,
    aten.view.default: torch.reshape,
}


@register(aten.mean.dim, kind=Kind.AVERAGE_POOL, nonnegative=inherited)
def mean(layer: Layer, rule: Rule) -> Step:
    axes, keeps = layer.argument(1), layer.argument(2, False)

    def spread(s: Tensor, x: Tensor) -> Tensor:
        positions = sorted(axis % x.ndim for axis in axes)
        count = 1
        for axis in positions:
            count = count * x.shape[axis]
            s = s if keeps else s.unsqueeze(axis)
        return (s / count).expand_as(x)

    return _norm(layer, rule, spread)


@register(aten.logsumexp.default, kind=Kind.SOFT_MAXIMUM)
def soft_maximum(layer: Layer, rule: Rule) -> Step:
    """A logarithm of summed exponentials, by one of three rules.

    `WinnerTakesAll` shares relevance by softmax: that is input times gradient but for a factor that restores the sum,
    and all goes to one input that is far above the others. `Proportional` shares it by the inputs' positive parts.
    `Density` gives to each by its positive part.
    """
    expect(layer, rule, WinnerTakesAll, Proportional, Density)
    axes, keeps = layer.argument(1), layer.argument(2, False)

    def step(inputs: list[Tensor], output: Tensor, relevance: Tensor) -> list[Tensor]:
        x, positive = inputs[0], inputs[0].clamp(min=0)
        if not keeps:
            for axis in sorted(axis % x.ndim for axis in axes):
                output, relevance = output.unsqueeze(axis), relevance.unsqueeze(axis)
        if isinstance(rule, Density):
            return [positive * (relevance / stabilize(output, rule.stabilizer))]
        if isinstance(rule, Proportional):
            return [positive * (relevance / stabilize(positive.sum(axes, keepdim=True), rule.stabilizer))]
        return [(x - output).exp() * relevance]

    return step


def _shape_step(undo: Callable[[Tensor, Tensor], Tensor]) -> Step:
    def step(inputs: list[Tensor], output: Tensor, relevance: Tensor) -> list[Tensor]:
        return [undo(relevance, inputs[0])]

    return step


@register(
    aten.view.default,
    aten.reshape.default,
    aten._unsafe_view.default,
    aten.flatten.using_ints,
    aten.unflatten.int,
    aten.squeeze.dim,
    aten.squeeze.dims,
    aten.unsqueeze.default,
    kind=Kind.SHAPE,
    nonnegative=inherited,
)
def reshape(layer: Layer, rule: Rule) -> Step:
    return _shape_step(lambda relevance, x: relevance.reshape(x.shape))


@register(aten.permute.default, kind=Kind.SHAPE, nonnegative=inherited)
def permute(layer: Layer, rule: Rule) -> Step:
    order = layer.argument(1)
    inverse = [order.index(axis) for axis in range(len(order))]
    return _shape_step(lambda relevance, x: relevance.permute(inverse))


@register(aten.transpose.int, kind=Kind.SHAPE, nonnegative=inherited)
def transpose(layer: Layer, rule: Rule) -> Step:
    first, second = layer.argument(1), layer.argument(2)
    return _shape_step(lambda relevance, x: relevance.transpose(first, second))


@register(aten.constant_pad_nd.default, aten.pad.default, kind=Kind.SHAPE)
def pad(layer: Layer, rule: Rule) -> Step:
    """Zero padding: what falls on the border is lost, as with a padded convolution."""
    amounts = layer.argument(1)
    if layer.node.target == aten.pad.default and layer.argument(2, "constant") != "constant":
        raise LrpEdgeError(f"padding mode {layer.argument(2)!r} at {layer.path} has no rule; use zero padding")

    def undo(relevance: Tensor, x: Tensor) -> Tensor:
        for axis in range(len(amounts) // 2):
            dimension = x.ndim - 1 - axis
            relevance = relevance.narrow(dimension, amounts[2 * axis], x.shape[dimension])
        return relevance

    return _shape_step(undo)


@register(aten.cat.default, kind=Kind.SHAPE, nonnegative=inherited)
def concatenate(layer: Layer, rule: Rule) -> Step:
    axis = layer.argument(1, 0)
    sources = list(layer.argument(0))
    if len(sources) != len(layer.inputs):
        raise LrpEdgeError(
            f"aten.cat at {layer.path or 'the model itself'} joins {len(sources)} tensors of which "
            f"{len(sources) - len(layer.inputs)} do not depend on the image; relevance is defined if all do"
        )

    def step(inputs: list[Tensor], output: Tensor, relevance: Tensor) -> list[Tensor]:
        shares, start = [], 0
        for x in inputs:
            shares.append(relevance.narrow(axis, start, x.shape[axis]))
            start = start + x.shape[axis]
        return shares

    return step


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])
