"""What is pooled into one: windows and whole axes, and where their relevance goes."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lrp_edge.errors import LrpEdgeError
from lrp_edge.relevance.affine import Pair, scatter_windows, spread_kernel


class Axes(NamedTuple):
    """Whole axes that are pooled, and whether they are kept with size one; a sharp maximum has one winner."""

    axes: tuple[int, ...]
    keeps: bool
    sharp: bool = False

    @classmethod
    def of(cls, dim: Sequence[int] | int, keeps: bool, sharp: bool = False) -> Axes:
        """Return the axes that an operator's argument names."""
        return cls((dim,) if isinstance(dim, int) else tuple(dim), keeps, sharp)

    def places(self, like: Tensor) -> list[int]:
        """Return the axes of the input `like` in their order, counted from the first."""
        return sorted(axis % like.ndim for axis in self.axes)

    def open(self, like: Tensor, *values: Tensor) -> list[Tensor]:
        """Return values of the output's shape with all axes that the input `like` has."""
        opened = list(values)
        for axis in () if self.keeps else self.places(like):
            opened = [value.unsqueeze(axis) for value in opened]
        return opened

    def total(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the sum of what is pooled, of the shape of the output `y`."""
        return x.sum(self.axes, keepdim=self.keeps)

    def spread(self, s: Tensor, like: Tensor) -> Tensor:
        """Return the adjoint of sum pooling, which broadcasts to the input `like`."""
        return self.open(like, s)[0]

    def award(self, x: Tensor, y: Tensor, relevance: Tensor, sum_channels: bool) -> Tensor:
        """Share by softmax: that is input times gradient but for a factor that restores the sum.

        A sharp maximum goes to the first element, in the order of its axes, that attains it.
        """
        y, relevance = self.open(x, y, relevance)
        return self._first_greatest(x) * relevance if self.sharp else (x - y).exp() * relevance

    def _first_greatest(self, x: Tensor) -> Tensor:
        """Return 1 where the first of the greatest elements is, 0 elsewhere, of the shape of `x`.

        One axis after the other: of rows those that have a greatest element, of these the first, then its first one.
        """
        places = self.places(x)
        attains = x == x.amax(places, keepdim=True)
        wins = attains
        for i, axis in enumerate(places):
            has = attains.to(x.dtype).amax(places[i + 1 :], keepdim=True) if places[i + 1 :] else attains.to(x.dtype)
            place = torch.arange(x.shape[axis], device=x.device).reshape(-1, *[1] * (x.ndim - 1 - axis))
            wins = wins & (place == has.argmax(axis, keepdim=True))
            attains = wins
        return wins.to(x.dtype)


class Windows(NamedTuple):
    """Geometry of a 2-D pooling layer, each as (rows, columns); in ceil mode the last windows may reach outside."""

    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair = (1, 1)
    ceil: bool = False

    @property
    def tiles(self) -> bool:
        """Whether windows do not overlap, and start at the border."""
        return self.kernel == self.stride and self.padding == (0, 0) and self.dilation == (1, 1)

    def total(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the sum of each window, nothing for what lies outside the image."""
        return functools.reduce(torch.add, (part.clamp(min=0) for part in _elements(x, y.shape[-2:], self)))

    def spread(self, s: Tensor, like: Tensor) -> Tensor:
        """Return the adjoint of sum pooling: each element gets the sum of `s` over the windows that it is in."""
        if self.tiles:
            spread = s.repeat_interleave(self.kernel[0], 2).repeat_interleave(self.kernel[1], 3)
            return _fill(spread, like)
        ones = s.new_ones(1, 1, *self.kernel)
        return _by_channel(s.unsqueeze(2), ones, like, self)

    def award(self, x: Tensor, y: Tensor, relevance: Tensor, sum_channels: bool) -> Tensor:
        """Give each maximum's relevance to the first element of its window, by rows, that attains it.

        The maximum is computed again from the elements that it is compared with: a backend may keep the pooling's own
        output `y` at another precision than its input, and then no element would attain it. All is built from
        comparisons: TensorRT has neither MaxUnpool nor the indices of MaxPool. The sum over channels, [N, 1, H, W], is
        far cheaper to assemble.
        """
        shares = []
        taken: Tensor | None = None
        elements = _elements(x, relevance.shape[-2:], self)
        greatest = functools.reduce(torch.maximum, elements)
        for element in elements:
            attains = element == greatest
            wins = attains if taken is None else attains & ~taken
            taken = attains if taken is None else taken | attains
            share = wins.to(relevance.dtype) * relevance
            shares.append(share.sum(1, keepdim=True) if sum_channels else share)
        return _assemble(shares, x, self)


def pair(value: Any) -> Pair:
    """Return an operator's argument, of one number or two, for rows and columns."""
    return (value, value) if isinstance(value, int) else (value[0], value[-1])


def windows(kernel: Any, stride: Any, padding: Any, dilation: Any = 1, ceil: bool = False) -> Windows:
    """Return the windows that an operator's arguments name; the stride is by default that of the kernel."""
    return Windows(pair(kernel), pair(stride or kernel), pair(padding), pair(dilation), ceil)


def max_pool(x: Tensor, windows: Windows) -> Tensor:
    """Max pooling as the maximum of slices, for dilated windows: TensorRT's own pooling has none."""
    size = [_windows_along(x.shape[axis - 2], windows, axis) for axis in (0, 1)]
    return functools.reduce(torch.maximum, _elements(x, size, windows))


def _windows_along(size: int, windows: Windows, axis: int) -> int:
    stride, padding = windows.stride[axis], windows.padding[axis]
    span = size + 2 * padding - windows.dilation[axis] * (windows.kernel[axis] - 1) - 1
    count = (span + (stride - 1 if windows.ceil else 0)) // stride + 1
    # The last window has to start inside the image or the padding before it.
    return count - 1 if windows.ceil and (count - 1) * stride >= size + padding else count


def _elements(x: Tensor, size: Sequence[int], windows: Windows) -> list[Tensor]:
    """Return for each place in a window, by rows, the tensor [N, C, h, w] of all windows' elements there."""
    kernel, stride, padding, dilation, _ = windows
    height, width = size
    last_row, last_column = (height - 1) * stride[0] + 1, (width - 1) * stride[1] + 1
    # What lies outside must lose to every element, and win nothing where all are at the least value.
    bottom = last_row + dilation[0] * (kernel[0] - 1) - x.shape[-2] - padding[0]
    right = last_column + dilation[1] * (kernel[1] - 1) - x.shape[-1] - padding[1]
    if not windows.tiles or windows.ceil:
        x = F.pad(x, (padding[1], right, padding[0], bottom), value=torch.finfo(x.dtype).min)
    places = itertools.product(range(kernel[0]), range(kernel[1]))
    return [
        x[
            :,
            :,
            i * dilation[0] : i * dilation[0] + last_row : stride[0],
            j * dilation[1] : j * dilation[1] + last_column : stride[1],
        ]
        for i, j in places
    ]


def _assemble(shares: list[Tensor], x: Tensor, windows: Windows) -> Tensor:
    """Put each place's shares [N, C, h, w] back where the elements came from, summed where windows overlap."""
    rows, columns = windows.kernel
    if windows.tiles:
        # Interleaving by stacks: ONNX Runtime's DepthToSpace takes twice as long.
        lines = [torch.stack(shares[i * columns : (i + 1) * columns], -1).flatten(-2) for i in range(rows)]
        return _fill(torch.stack(lines, 3).flatten(2, 3), x)
    place = torch.eye(rows * columns, dtype=x.dtype, device=x.device)
    return _by_channel(torch.stack(shares, 2), place.reshape(-1, 1, rows, columns), x, windows)


def _by_channel(s: Tensor, weight: Tensor, like: Tensor, windows: Windows) -> Tensor:
    """Scatter s [N, C, places, h, w] with weight [places, 1, kh, kw], each channel for itself."""
    _, stride, padding, dilation, _ = windows
    scattered = scatter_windows(s.flatten(0, 1), spread_kernel(weight, dilation), stride, padding, 1, like)
    return scattered.reshape(-1, s.shape[1], *like.shape[2:])


def _fill(x: Tensor, like: Tensor) -> Tensor:
    """Bring `x` to the size of `like`: zeros for rows and columns that no window reached, none for those outside."""
    rows, columns = like.shape[-2] - x.shape[-2], like.shape[-1] - x.shape[-1]
    if isinstance(rows, int) and isinstance(columns, int) and rows == columns == 0:
        return x
    return F.pad(x, (0, columns, 0, rows))


def average_divisor(x: Tensor, y: Tensor, windows: Windows, count_include_pad: bool) -> Tensor:
    """Return what average pooling divides each window's sum by, [h, w].

    Windows at the border count what is inside the padded image, or inside the image alone.
    """
    rows, columns = (
        _window_length(x.shape[axis - 2], y.shape[axis - 2], windows, axis, count_include_pad, x) for axis in (0, 1)
    )
    return rows.unsqueeze(1) * columns


def _window_length(size: int, count: int, windows: Windows, axis: int, include_pad: bool, like: Tensor) -> Tensor:
    kernel, stride, padding = windows.kernel[axis], windows.stride[axis], windows.padding[axis]
    start = torch.arange(count, device=like.device) * stride - padding
    end = (start + kernel).clamp(max=size + padding)
    if not include_pad:
        start, end = start.clamp(min=0), end.clamp(max=size)
    return (end - start).to(like.dtype)


def adaptive_matrix(size: int, output: int, like: Tensor) -> Tensor:
    """Return adaptive average pooling along one axis as a matrix [output, size].

    Raises
    ------
    LrpEdgeError
        If the size is not fixed: the windows depend on it.
    """
    if not isinstance(size, int):
        raise LrpEdgeError(f"adaptive pooling to {output} cells needs a fixed frame size; give one, or pool to 1 cell")
    index = torch.arange(output, device=like.device).unsqueeze(1)
    start, end = index * size // output, -(-(index + 1) * size // output)
    place = torch.arange(size, device=like.device)
    inside = (place >= start) & (place < end)
    return inside.to(like.dtype) / (end - start)
