"""Outlines from the image: which pixels of a mask differ from their surroundings, in static operations.

Relevance is blurred by what units see, so that a mask of a line is wider than the line. The line itself differs from
what surrounds it; what the mask has taken in besides does not.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lrp_edge.relevance.smoothing import repeat_border

#: Side of the surroundings and of what is compared with them, in pixels.
WINDOW, DETAIL = 31, 3
#: The least deviation of surroundings, in gray levels: less is the camera's noise.
NOISE = 1.0


def local_contrast(gray: Tensor, window: int = WINDOW, detail: int = DETAIL) -> Tensor:
    """Return by how many deviations each pixel of a gray image [N, H, W], 0 to 255, differs from its surroundings.

    That is |mean over window² − mean over detail²| over the deviation in window², which is at least :data:`NOISE`;
    beyond the border the outermost pixel is repeated. Exposure and contrast of the frame do not matter but for that.
    """
    # Squares of what is not centred would leave few bits to a small variance.
    centred = gray - gray.mean((1, 2), keepdim=True)
    mean = box_mean(centred, window)
    variance = box_mean(centred.square(), window) - mean.square()
    return (mean - box_mean(centred, detail)).abs() / variance.clamp(min=NOISE**2).sqrt()


def two_means(gray: Tensor, mask: Tensor, steps: int, window: int = WINDOW, detail: int = DETAIL) -> Tensor:
    """Return which pixels of a mask [N, H, W], and of two around it, are nearer to what is inside than to what is not.

    Inside and outside have a gray mean each within window² around every pixel; the boundary is moved halfway between
    the two, so many steps in turn, and the mean inside is taken anew (Chan and Vese 2001, with the local means of
    Lankton and Tannenbaum 2008, without their smoothness). The mean outside is that of what the first mask is not near.
    """
    near = dilate(mask, 5)
    # A little of everything, for windows without an outside.
    outside = (~near).to(gray.dtype) + 1e-6
    differs = box_mean(gray, detail) - box_sum(gray * outside, window) / box_sum(outside, window)
    for _ in range(steps):
        share = mask.to(gray.dtype)
        inside = box_sum(differs * share, window) / box_sum(share, window).clamp(min=1)
        mask = near & (differs * inside > inside.square() / 2)
    return mask


def box_mean(x: Tensor, side: int) -> Tensor:
    """Return the mean over the square of odd `side` around each pixel of x [N, H, W], whose border is repeated."""
    return _sums_within(repeat_border(x, side // 2), side) / side**2


def box_sum(x: Tensor, side: int) -> Tensor:
    """Return the sum over the square of odd `side` around each pixel of x [N, H, W]; beyond the border is nothing."""
    return _sums_within(F.pad(x[:, None], (side // 2,) * 4), side)


def _sums_within(x: Tensor, side: int) -> Tensor:
    """Return the sums over all squares of `side` that lie within x [N, 1, H, W], as [N, h, w].

    By sums of columns, then rows: ONNX Runtime takes sixty times as long for an average pooling. Weights of one are
    exact in TF32 too, in which TensorRT may compute, so that a variance is no difference of differently scaled sums.
    """
    ones = x.new_ones(1, 1, side, 1)
    return F.conv2d(F.conv2d(x, ones), ones.transpose(2, 3)).squeeze(1)


def dilate(mask: Tensor, side: int) -> Tensor:
    """Dilate a bool mask [N, H, W] by a square of odd side; beyond the border nothing counts.

    By differences of running sums, which take as long for any side and are exact in integers. Maxima of shifted copies,
    doubled, are as fast in ONNX Runtime; but TensorRT's builder puts each into the next, and so doubles its kernel as
    often: a closing by 9 pixels gave an engine of 206 MB, one by 21 was not built within an hour.
    """
    border = side // 2
    counts = F.pad(mask.int(), (border + 1, border, border + 1, border))
    return _sums(_sums(counts, side).transpose(1, 2), side).transpose(1, 2) > 0


def _sums(x: Tensor, side: int) -> Tensor:
    """Return the sums of each `side` neighbours along the rows of x, int32 [N, H, W], as [N, H, W - side].

    The first of a row have none: their running sum starts after the first value, which is a border's zero.
    """
    running = x.cumsum(2, dtype=torch.int32)
    return running[:, :, side:] - running[:, :, :-side]


def erode(mask: Tensor, side: int) -> Tensor:
    """Erode a bool mask [N, H, W] by a square of odd side; beyond the border nothing counts."""
    return ~dilate(~mask, side)


def close(mask: Tensor, side: int) -> Tensor:
    """Fill holes and gaps narrower than `side`."""
    return erode(dilate(mask, side), side)


def close_gray(x: Tensor, side: int) -> Tensor:
    """Return the closing of gray values x [N, H, W]: :func:`close` of what exceeds any threshold, for all of them."""

    def greatest(values: Tensor) -> Tensor:
        columns = F.max_pool2d(values, (side, 1), 1, (side // 2, 0))
        return F.max_pool2d(columns, (1, side), 1, (0, side // 2))

    return -greatest(-greatest(x))


def open_(mask: Tensor, side: int) -> Tensor:
    """Drop what is narrower than `side`."""
    return dilate(erode(mask, side), side)


def thick_parts(mask: Tensor, side: int) -> Tensor:
    """Return the parts of a mask [N, H, W] that a square of odd `side` fits in, one pixel around them included."""
    return dilate(open_(mask, side), 3) & mask
