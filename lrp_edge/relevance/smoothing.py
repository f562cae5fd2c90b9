"""Smoothing of relevance, in operations that every backend has."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from lrp_edge.errors import LrpEdgeError

#: Variance, as a share of the frame's own, below which the guided filter takes a window for flat.
EDGE = 0.01


def smoothing_from(text: str) -> Callable[[Tensor, Tensor | None], Tensor]:
    """Return the smoothing that ``none``, ``box:K``, ``gaussian:SIGMA``, ``median:3`` or ``guided:K`` stands for.

    Each takes relevance [N, H, W] and the gray image, of the same shape, which only the guided one reads, and returns
    [N, H, W]; beyond the border the outermost pixel is repeated.

    Raises
    ------
    LrpEdgeError
        If the text is not one of these.
    """
    name, _, size = text.partition(":")
    kernel = None
    try:
        if name == "none" and not size:
            return lambda x, _: x
        if name in ("box", "guided") and int(size) % 2 == 1:
            kernel = [1 / int(size)] * int(size)
        if name == "gaussian" and float(size) > 0:
            kernel = _gaussian(float(size))
        if name == "median" and int(size) == 3:
            return lambda x, _: median3(x)
    except ValueError:
        pass
    if kernel is None:
        raise LrpEdgeError(
            f"smoothing {text!r}; expected none, box:K or guided:K with odd K, gaussian:SIGMA or median:3"
        )
    blur = partial(_separable, kernel=kernel)
    return partial(guided, blur=blur) if name == "guided" else lambda x, _: blur(x)


def guided(x: Tensor, guide: Tensor | None, blur: Callable[[Tensor], Tensor]) -> Tensor:
    """Smooth x [N, H, W] along the edges of the gray image, by the guided filter with window K × K.

    In each window x is fitted by a linear function of the guide, so that the result has edges where the image has
    them: relevance, which is blurred by the features' receptive fields, moves to the outline of what it is about.
    The guide's variance is regularised by :data:`EDGE` of its frame's own, so that exposure does not matter.

    References
    ----------
    He, Sun and Tang 2010, "Guided Image Filtering", equations 5, 6 and 8.
    """
    if guide is None:
        raise LrpEdgeError("smoothing guided needs the image; call the mask head with its guide")
    centred = guide - guide.mean((1, 2), keepdim=True)
    epsilon = EDGE * centred.square().mean((1, 2), keepdim=True) + torch.finfo(x.dtype).tiny
    mean_guide, mean_x = blur(centred), blur(x)
    variance = blur(centred.square()) - mean_guide.square()
    slope = (blur(centred * x) - mean_guide * mean_x) / (variance.clamp(min=0) + epsilon)
    return (blur(slope) * centred + blur(mean_x - slope * mean_guide)).clamp(min=0)


def _gaussian(sigma: float) -> list[float]:
    """Return the kernel of ``scipy.ndimage.gaussian_filter``: cut at four standard deviations."""
    radius = int(4 * sigma + 0.5)
    weights = [math.exp(-0.5 * (place / sigma) ** 2) for place in range(-radius, radius + 1)]
    return [weight / sum(weights) for weight in weights]


def _separable(x: Tensor, kernel: list[float]) -> Tensor:
    radius = len(kernel) // 2
    weights = torch.tensor(kernel, dtype=x.dtype, device=x.device)
    padded = repeat_border(x, radius)
    return F.conv2d(F.conv2d(padded, weights.reshape(1, 1, -1, 1)), weights.reshape(1, 1, 1, -1)).squeeze(1)


def repeat_border(x: Tensor, radius: int) -> Tensor:
    """Return x [N, H, W] as [N, 1, H, W], `radius` pixels larger on each side, with the outermost ones repeated."""
    return F.pad(x.unsqueeze(1), (radius, radius, radius, radius), mode="replicate")


def median3(x: Tensor) -> Tensor:
    """Return the median of each 3×3 neighbourhood of x [N, H, W], by minima and maxima alone.

    Rows of three are sorted; the median of nine is that of the greatest of the minima, the median of the medians
    and the least of the maxima (Smith 1996, "Implementing median filters in XC4000E FPGAs").
    """
    height, width = x.shape[-2:]
    padded = repeat_border(x, 1).squeeze(1)
    columns = [padded[:, :, j : j + width] for j in range(3)]
    low, middle, high = _sort3(*columns)
    rows = [[level[:, i : i + height] for i in range(3)] for level in (low, middle, high)]
    greatest_low = torch.maximum(torch.maximum(*rows[0][:2]), rows[0][2])
    median_middle = _sort3(*rows[1])[1]
    least_high = torch.minimum(torch.minimum(*rows[2][:2]), rows[2][2])
    return _sort3(greatest_low, median_middle, least_high)[1]


def _sort3(a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    low, high = torch.minimum(a, b), torch.maximum(a, b)
    return torch.minimum(low, c), torch.maximum(low, torch.minimum(high, c)), torch.maximum(high, c)
