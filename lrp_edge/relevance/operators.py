"""The registry: what each ATen operator is to the rules.

An operator is one function, registered under its targets. It is called once, when a model is unrolled, and returns the
layer's form: what rules need to know about it. All else about an operator is registered in the same place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from lrp_edge.errors import LrpEdgeError
from lrp_edge.relevance import pooling
from lrp_edge.relevance import receptive_field as reach
from lrp_edge.relevance.affine import Affine, Convolution, Linear, Scale
from lrp_edge.relevance.capture import Capture, arguments, module_path
from lrp_edge.relevance.pooling import Axes, Windows, adaptive_matrix, average_divisor

aten = torch.ops.aten


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


class Weighted(NamedTuple):
    """The form of a layer that is affine in its input, with its weights."""

    affine: Affine
    weight: Tensor
    bias: Tensor | None


#: The form of a layer without weights: its adjoint, ``(s, inputs) -> shares`` for a value `s` of the output's shape.
Back = Callable[[Tensor, list[Tensor]], Sequence[Tensor]]

#: Of a maximum, sharp or soft, the form is what it is taken over.
Form = Back | Weighted | Windows | Axes


def unchanged(s: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    """The form of elementwise layers: relevance is passed on unchanged."""
    return [s]


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
        Whether the relevance of its input is read summed over channels only, so that it may be passed on as that sum.
    """

    node: fx.Node
    kind: Kind
    captured: Capture
    inputs: tuple[fx.Node, ...]
    nonnegative: bool
    sums_channels: bool = False

    @property
    def path(self) -> str:
        """The layer's place in the user's model."""
        return module_path(self.node)

    @property
    def operator(self) -> Operator:
        """What is registered for it."""
        return OPERATORS[self.node.target]

    @property
    def form(self) -> Any:
        """What rules need to know of it, a `Form` of the type that goes with its kind."""
        return self.operator.form(self)

    def argument(self, name: str) -> Any:
        """Return an argument by its name in the operator's schema, constants by their value."""
        return self.captured.value(arguments(self.node)[name])

    def arguments(self, *names: str) -> tuple[Any, ...]:
        """Return several arguments by their names."""
        return tuple(self.argument(name) for name in names)


#: Whether a node's output has no negative value, from whether each input has none.
Signs = Callable[[fx.Node, list[bool]], bool]


@dataclass(frozen=True)
class Operator:
    """An entry of the registry; see :func:`register`."""

    kind: Callable[[Sequence[fx.Node]], Kind]
    form: Callable[[Layer], Form]
    nonnegative: Signs
    reach: reach.Reach
    forward: Callable[..., Tensor] | None


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
    nonnegative: Signs = never,
    reach: reach.Reach = reach.unknown,
    forward: Callable[..., Tensor] | None = None,
) -> Callable[[Callable[[Layer], Form]], Callable[[Layer], Form]]:
    """Register an operator by the function ``layer -> form``.

    Parameters
    ----------
    *targets
        ATen overloads, e.g. ``torch.ops.aten.relu.default``.
    kind : Kind or callable
        What it is to a composite; a function of the inputs that depend on the image where that decides.
    nonnegative : callable
        Whether the output has no negative value, from the node and whether each input has none.
    reach : callable
        What its units see, from what those of its inputs do: one of :mod:`~lrp_edge.relevance.receptive_field`.
    forward : callable, optional
        The forward pass in another form than ATen's own, where a backend lacks that.
    """

    def decorate(form: Callable[[Layer], Form]) -> Callable[[Layer], Form]:
        kind_of = kind if not isinstance(kind, Kind) else lambda inputs: kind
        for target in targets:
            OPERATORS[target] = Operator(kind_of, form, nonnegative, reach, forward)
        return form

    return decorate


def elementwise(*targets: Any, nonnegative: Signs = never) -> None:
    """Register activations: relevance is passed on unchanged."""
    register(*targets, kind=Kind.ACTIVATION, nonnegative=nonnegative, reach=reach.unmoved)(lambda layer: unchanged)


def forward_of(target: Any) -> Callable[..., Any]:
    """Return how an operator's forward pass is computed."""
    return (target in OPERATORS and OPERATORS[target].forward) or target


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])


def _windows(kernel: Any, stride: Any, padding: Any, dilation: Any = 1, ceil: bool = False) -> Windows:
    return Windows(_pair(kernel), _pair(stride or kernel), _pair(padding), _pair(dilation), ceil)


def _of_one(back: Callable[[Tensor, Tensor], Tensor]) -> Back:
    """Return the form of a layer with one input x from its adjoint ``(s, x) -> share``."""
    return lambda s, inputs: [back(s, inputs[0])]


# Layers with weights.


def _convolved(layer: Layer) -> Windows:
    return _windows(layer.argument("weight").shape[2:], *layer.arguments("stride", "padding", "dilation"))


@register(aten.conv2d.default, kind=Kind.CONVOLUTION, reach=reach.sliding(_convolved))
def convolution(layer: Layer) -> Form:
    affine = Convolution(*_convolved(layer)[:4], layer.argument("groups"))
    return Weighted(affine, *layer.arguments("weight", "bias"))


@register(aten.linear.default, kind=Kind.LINEAR)
def linear(layer: Layer) -> Form:
    return Weighted(Linear(), *layer.arguments("weight", "bias"))


@register(aten.batch_norm.default, kind=Kind.BATCH_NORM, reach=reach.unmoved)
def batch_norm(layer: Layer) -> Form:
    """At inference: ``scale * x + shift``, each of shape [C]."""
    weight, bias, mean, variance, epsilon = layer.arguments("weight", "bias", "running_mean", "running_var", "eps")
    scale = torch.rsqrt(variance + epsilon)
    if weight is not None:
        scale = scale * weight
    shift = -scale * mean
    return Weighted(Scale(), scale, shift if bias is None else shift + bias)


# Elementwise operations.


def _clamped(bound: str) -> Signs:
    def nonnegative(node: fx.Node, inputs: list[bool]) -> bool:
        low = arguments(node)[bound]
        return all(inputs) or (isinstance(low, int | float) and low >= 0)

    return nonnegative


def _even_power(node: fx.Node, inputs: list[bool]) -> bool:
    exponent = arguments(node)["exponent"]
    return all(inputs) or (isinstance(exponent, int | float) and exponent % 2 == 0)


elementwise(
    aten.relu.default, aten.sigmoid.default, aten.softplus.default, aten.hardsigmoid.default, nonnegative=always
)
elementwise(
    aten.clone.default,
    aten.alias.default,
    aten._to_copy.default,
    aten.leaky_relu.default,
    aten.elu.default,
    aten.silu.default,
    aten.gelu.default,
    aten.hardswish.default,
    aten.tanh.default,
    aten.sqrt.default,
    nonnegative=inherited,
)
elementwise(aten.clamp.default, aten.clamp_min.default, nonnegative=_clamped("min"))
elementwise(aten.hardtanh.default, nonnegative=_clamped("min_val"))
elementwise(aten.pow.Tensor_Scalar, nonnegative=_even_power)
elementwise(aten.prelu.default, aten._prelu_kernel.default)


@register(aten.mul.Tensor, aten.mul.Scalar, aten.div.Tensor, aten.div.Scalar, kind=Kind.ACTIVATION, reach=reach.unmoved)
def scale(layer: Layer) -> Form:
    """A product with a constant passes relevance on unchanged."""
    if len(layer.inputs) != 1:
        raise LrpEdgeError(
            f"{layer.node.target} at {layer.path or 'the model itself'} multiplies two tensors that depend on the "
            "image; relevance is defined here for a product with a constant only"
        )
    return unchanged


# Sums.


def _sum_of_two(inputs: Sequence[fx.Node]) -> Kind:
    return Kind.SUM if len(inputs) == 2 else Kind.ACTIVATION


def _offset_keeps_sign(node: fx.Node, inputs: list[bool]) -> bool:
    given = arguments(node)
    keeps = len(inputs) == 2 or (isinstance(given["other"], int | float) and given["other"] >= 0)
    return all(inputs) and keeps and given["alpha"] >= 0


@register(aten.add.Tensor, aten.add.Scalar, kind=_sum_of_two, nonnegative=_offset_keeps_sign, reach=reach.joined)
def add(layer: Layer) -> Form:
    """A residual sum splits in proportion to its summands; a constant summand takes nothing."""
    return _weighted_sum(layer, float(layer.argument("alpha")))


@register(aten.sub.Tensor, aten.sub.Scalar, aten.rsub.Scalar, kind=_sum_of_two, reach=reach.joined)
def subtract(layer: Layer) -> Form:
    return _weighted_sum(layer, -float(layer.argument("alpha")))


def _weighted_sum(layer: Layer, second: float) -> Form:
    if layer.kind is Kind.ACTIVATION:
        return unchanged

    def back(s: Tensor, inputs: list[Tensor]) -> list[Tensor]:
        return [_like(s if weight == 1 else weight * s, x) for x, weight in zip(inputs, (1.0, second), strict=True)]

    return back


def _like(share: Tensor, x: Tensor) -> Tensor:
    """Sum a share over the axes along which `x` was broadcast."""
    return share.sum_to_size(x.shape) if share.ndim != x.ndim or share.shape != x.shape else share


# Averages.


def _averaged(layer: Layer) -> Windows:
    return _windows(*layer.arguments("kernel_size", "stride", "padding"))


@register(aten.avg_pool2d.default, kind=Kind.AVERAGE_POOL, nonnegative=inherited, reach=reach.pooling(_averaged))
def average_pool(layer: Layer) -> Form:
    windows = _averaged(layer)
    ceil_mode, include_pad, divisor = layer.arguments("ceil_mode", "count_include_pad", "divisor_override")

    def back(s: Tensor, x: Tensor) -> Tensor:
        if divisor is not None:
            share = s / divisor
        elif ceil_mode or (windows.padding != (0, 0) and not include_pad):
            share = s / average_divisor(x, s, windows, include_pad)
        else:
            share = s / (windows.kernel[0] * windows.kernel[1])
        return windows.spread(share, x)

    return _of_one(back)


def adaptive_average(x: Tensor, output_size: Sequence[int]) -> Tensor:
    """Adaptive average pooling in operations that every backend has: exporters lack it."""
    rows, columns = output_size
    if (rows, columns) == (1, 1):
        return x.mean((2, 3), keepdim=True)
    if (rows, columns) == tuple(x.shape[-2:]):
        return x
    return adaptive_matrix(x.shape[-2], rows, x) @ x @ adaptive_matrix(x.shape[-1], columns, x).T


@register(
    aten.adaptive_avg_pool2d.default,
    kind=Kind.AVERAGE_POOL,
    nonnegative=inherited,
    reach=lambda layer, inputs: (),
    forward=adaptive_average,
)
def adaptive_average_pool(layer: Layer) -> Form:
    rows, columns = layer.argument("output_size")

    def back(s: Tensor, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        if (rows, columns) == (1, 1):
            return (s / (height * width)).expand_as(x)
        if (rows, columns) == (height, width):
            return s
        return adaptive_matrix(height, rows, x).T @ s @ adaptive_matrix(width, columns, x)

    return _of_one(back)


@register(aten.mean.dim, kind=Kind.AVERAGE_POOL, nonnegative=inherited, reach=reach.reduced)
def mean(layer: Layer) -> Form:
    axes = Axes(*layer.arguments("dim", "keepdim"))

    def back(s: Tensor, x: Tensor) -> Tensor:
        count = 1
        for axis in axes.places(x):
            count = count * x.shape[axis]
            s = s if axes.keeps else s.unsqueeze(axis)
        return (s / count).expand_as(x)

    return _of_one(back)


# Maxima, sharp and soft.


def _greatest(layer: Layer) -> Windows:
    return _windows(*layer.arguments("kernel_size", "stride", "padding", "dilation", "ceil_mode"))


def max_pooling(
    x: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> Tensor:
    """Max pooling in operations that every backend has: TensorRT lacks dilated windows."""
    windows = _windows(kernel_size, stride, padding, dilation, ceil_mode)
    return F.max_pool2d(x, *windows) if windows.dilation == (1, 1) else pooling.max_pool(x, windows)


@register(
    aten.max_pool2d.default,
    kind=Kind.MAX_POOL,
    nonnegative=inherited,
    reach=reach.pooling(_greatest),
    forward=max_pooling,
)
def max_pool(layer: Layer) -> Form:
    return _greatest(layer)


@register(aten.logsumexp.default, kind=Kind.SOFT_MAXIMUM, reach=reach.reduced)
def soft_maximum(layer: Layer) -> Form:
    return Axes(*layer.arguments("dim", "keepdim"))


# Operations that move values.


# A view fails where the tensor's memory format is not that of the capture.
@register(aten.view.default, kind=Kind.SHAPE, nonnegative=inherited, reach=reach.reshaped, forward=torch.reshape)
@register(
    aten.reshape.default,
    aten._unsafe_view.default,
    aten.flatten.using_ints,
    aten.unflatten.int,
    aten.squeeze.dim,
    aten.squeeze.dims,
    aten.unsqueeze.default,
    kind=Kind.SHAPE,
    nonnegative=inherited,
    reach=reach.reshaped,
)
def reshape(layer: Layer) -> Form:
    return _of_one(lambda s, x: s.reshape(x.shape))


@register(aten.permute.default, kind=Kind.SHAPE, nonnegative=inherited, reach=reach.permuted)
def permute(layer: Layer) -> Form:
    order = layer.argument("dims")
    inverse = [order.index(axis) for axis in range(len(order))]
    return _of_one(lambda s, x: s.permute(inverse))


@register(aten.transpose.int, kind=Kind.SHAPE, nonnegative=inherited, reach=reach.transposed)
def transpose(layer: Layer) -> Form:
    first, second = layer.arguments("dim0", "dim1")
    return _of_one(lambda s, x: s.transpose(first, second))


@register(aten.constant_pad_nd.default, aten.pad.default, kind=Kind.SHAPE, reach=reach.padded)
def pad(layer: Layer) -> Form:
    """Zero padding: what falls on the border is lost, as with a padded convolution."""
    amounts = layer.argument("pad")
    if layer.node.target == aten.pad.default and layer.argument("mode") != "constant":
        raise LrpEdgeError(f"padding mode {layer.argument('mode')!r} at {layer.path} has no rule; use zero padding")

    def back(s: Tensor, x: Tensor) -> Tensor:
        for axis in range(len(amounts) // 2):
            dimension = x.ndim - 1 - axis
            s = s.narrow(dimension, amounts[2 * axis], x.shape[dimension])
        return s

    return _of_one(back)


@register(aten.cat.default, kind=Kind.SHAPE, nonnegative=inherited, reach=reach.concatenated)
def concatenate(layer: Layer) -> Form:
    sources, axis = layer.arguments("tensors", "dim")
    if len(sources) != len(layer.inputs):
        raise LrpEdgeError(
            f"aten.cat at {layer.path or 'the model itself'} joins {len(sources)} tensors of which "
            f"{len(sources) - len(layer.inputs)} do not depend on the image; relevance is defined if all do"
        )

    def back(s: Tensor, inputs: list[Tensor]) -> list[Tensor]:
        shares, start = [], 0
        for x in inputs:
            shares.append(s.narrow(axis, start, x.shape[axis]))
            start = start + x.shape[axis]
        return shares

    return back
