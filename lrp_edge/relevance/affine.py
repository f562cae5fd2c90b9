"""Layers that are affine in their input: the map itself and its adjoint, for any weights of the same shape."""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

Pair = tuple[int, int]


class Affine(Protocol):
    """An affine layer ``x -> A(x; W) + b`` without its weights.

    A rule uses the layer's geometry with weights of its own, e.g. with the positive part of W.
    """

    def apply(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return ``A(x; W) + b``."""

    def transpose(self, weight: Tensor) -> Tensor:
        """Return W in the form that :meth:`adjoint` takes; done once, when a model is unrolled."""
        return weight

    def adjoint(self, s: Tensor, transposed: Tensor, like: Tensor) -> Tensor:
        """Return ``Aᵀ(s; W)``, of the shape of the layer's input `like` (the batch of `s`)."""

    def flat(self, relevance: Tensor, like: Tensor, stabilizer: float) -> Tensor:
        """Return ``Aᵀ(R / A(1; 1); 1)``: relevance spread evenly over what each output sees."""


class Linear(Affine):
    """A linear layer: x [..., I], W [O, I]."""

    def apply(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(x, weight, bias)

    def adjoint(self, s: Tensor, transposed: Tensor, like: Tensor) -> Tensor:
        return s @ transposed

    def flat(self, relevance: Tensor, like: Tensor, stabilizer: float) -> Tensor:
        share = relevance.sum(-1, keepdim=True) / (like.shape[-1] + stabilizer)
        return share.expand_as(like)


class Scale(Affine):
    """One factor a channel, e.g. a BatchNorm at inference: x [N, C, ...], W [C]."""

    def _by_channel(self, weight: Tensor, x: Tensor) -> Tensor:
        return weight.reshape(-1, *[1] * (x.ndim - 2))

    def apply(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        y = x * self._by_channel(weight, x)
        return y if bias is None else y + self._by_channel(bias, x)

    def adjoint(self, s: Tensor, transposed: Tensor, like: Tensor) -> Tensor:
        return s * self._by_channel(transposed, s)

    def flat(self, relevance: Tensor, like: Tensor, stabilizer: float) -> Tensor:
        return relevance / (1 + stabilizer)


class Shift(Affine):
    """A signal times one factor, plus a constant of whatever shape: W [1]."""

    def apply(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        y = x * weight
        return y if bias is None else y + bias

    def adjoint(self, s: Tensor, transposed: Tensor, like: Tensor) -> Tensor:
        return summed_to(s * transposed, like)

    def flat(self, relevance: Tensor, like: Tensor, stabilizer: float) -> Tensor:
        return summed_to(relevance, like) / (1 + stabilizer)


class Contraction(Affine):
    """A product of matrices, x [..., M, I] with W [..., I, O], or W [..., O, I] with x [..., I, M]."""

    def __init__(self, weight_is_left: bool) -> None:
        self._is_left = weight_is_left

    def apply(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        y = weight @ x if self._is_left else x @ weight
        return y if bias is None else y + bias

    def transpose(self, weight: Tensor) -> Tensor:
        return weight.transpose(-2, -1)

    def adjoint(self, s: Tensor, transposed: Tensor, like: Tensor) -> Tensor:
        return summed_to(transposed @ s if self._is_left else s @ transposed, like)

    def flat(self, relevance: Tensor, like: Tensor, stabilizer: float) -> Tensor:
        axis = -2 if self._is_left else -1
        share = relevance.sum(axis, keepdim=True) / (like.shape[axis] + stabilizer)
        return summed_to(share.expand(*relevance.shape[:-2], *like.shape[-2:]), like)


class Convolution(Affine):
    """A 2-D convolution: x [N, I, H, W], W [O, I / groups, kh, kw], zero padding."""

    def __init__(self, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, groups: int) -> None:
        self.kernel, self.stride, self.padding, self.dilation = kernel, stride, padding, dilation
        self.groups = groups
        #: Padding of the adjoint where that is itself a plain convolution: stride one, no negative padding.
        self._back = (
            dilation[0] * (kernel[0] - 1) - padding[0],
            dilation[1] * (kernel[1] - 1) - padding[1],
        )
        self._is_plain = stride == (1, 1) and min(self._back) >= 0

    def apply(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.conv2d(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)

    def transpose(self, weight: Tensor) -> Tensor:
        if not self._is_plain:
            return spread_kernel(weight, self.dilation)
        outputs, inputs = weight.shape[0] // self.groups, weight.shape[1]
        grouped = weight.reshape(self.groups, outputs, inputs, *self.kernel).transpose(1, 2)
        return grouped.reshape(self.groups * inputs, outputs, *self.kernel).flip(2, 3).contiguous()

    def adjoint(self, s: Tensor, transposed: Tensor, like: Tensor) -> Tensor:
        if self._is_plain:
            return F.conv2d(s, transposed, None, 1, self._back, self.dilation, self.groups)
        return scatter_windows(s, transposed, self.stride, self.padding, self.groups, like)

    def flat(self, relevance: Tensor, like: Tensor, stabilizer: float) -> Tensor:
        """Spread evenly; all channels of a group are alike, so one stands for them."""
        inputs = like.shape[1] // self.groups
        single = Convolution(self.kernel, self.stride, self.padding, self.dilation, 1)
        ones = relevance.new_ones(1, 1, *self.kernel)
        seen = inputs * single.apply(torch.ones_like(like[:1, :1]), ones, None)
        by_group = relevance.reshape(-1, self.groups, relevance.shape[1] // self.groups, *relevance.shape[2:]).sum(2)
        share = (by_group / (seen + stabilizer)).flatten(0, 1).unsqueeze(1)
        spread = single.adjoint(share, single.transpose(ones), like).reshape(-1, self.groups, 1, *like.shape[2:])
        return spread.expand(-1, -1, inputs, -1, -1).flatten(1, 2)


class TransposedConvolution(Affine):
    """A transposed 2-D convolution: x [N, I, H, W], W [I, O / groups, kh, kw]."""

    def __init__(self, kernel: Pair, stride: Pair, padding: Pair, rest: Pair, dilation: Pair, groups: int) -> None:
        self.kernel, self.stride, self.padding, self.rest, self.dilation = kernel, stride, padding, rest, dilation
        self.groups = groups

    def apply(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.conv_transpose2d(x, weight, bias, self.stride, self.padding, self.rest, self.groups, self.dilation)

    def adjoint(self, s: Tensor, transposed: Tensor, like: Tensor) -> Tensor:
        whole = F.conv2d(s, transposed, None, self.stride, self.padding, self.dilation, self.groups)
        return whole[..., : like.shape[-2], : like.shape[-1]]

    def flat(self, relevance: Tensor, like: Tensor, stabilizer: float) -> Tensor:
        ones = relevance.new_ones(like.shape[1], relevance.shape[1] // self.groups, *self.kernel)
        seen = self.apply(torch.ones_like(like[:1]), ones, None)
        return self.adjoint(relevance / (seen + stabilizer), ones, like)


def summed_to(share: Tensor, like: Tensor) -> Tensor:
    """Sum a share over the axes along which a layer's input `like` was broadcast."""
    return share.sum_to_size(like.shape) if share.ndim != like.ndim or share.shape != like.shape else share


def spread_kernel(weight: Tensor, dilation: Pair) -> Tensor:
    """Return the kernel [..., kh, kw] with zeros between its elements: the same layer without dilation."""
    rows, columns = dilation
    if dilation == (1, 1):
        return weight
    spread = F.pad(weight[..., :, None, :, None], (0, columns - 1, 0, 0, 0, rows - 1))
    spread = spread.flatten(-2).flatten(-3, -2)
    return spread[..., : spread.shape[-2] - rows + 1, : spread.shape[-1] - columns + 1]


def scatter_windows(s: Tensor, weight: Tensor, stride: Pair, padding: Pair, groups: int, like: Tensor) -> Tensor:
    """Return the transposed convolution of `s` with `weight`, at exactly the size of the layer's input `like`.

    Rows and columns that a strided layer did not reach get zero. A dilated layer brings a kernel of
    :func:`spread_kernel`: TensorRT has no transposed convolution with both stride and dilation.
    """
    rest = (stride[0] - 1, stride[1] - 1)
    grown = F.conv_transpose2d(s, weight, None, stride, 0, rest, groups)
    top, left = padding
    return grown[..., top : top + like.shape[-2], left : left + like.shape[-1]]
