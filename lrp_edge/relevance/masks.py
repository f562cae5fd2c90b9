"""From relevance to a binary mask, in operations that every backend has.

Each head takes relevance [N, H, W] and returns bool [N, H, W]; each frame has a threshold of its own. Only the
positive part counts: what speaks for the explained class. A frame without positive relevance gets an empty mask.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lrp_edge.card import MaskSpec
from lrp_edge.errors import LrpEdgeError, check_names, look_up

BINS = 256
_BISECTIONS = 32
#: The parameter that every head takes, and the one that every head with a threshold takes.
FLOOR, SPREAD = "floor", "spread"
#: Variance, as a share of the frame's own, below which the guided filter takes a window for flat.
EDGE = 0.01


def threshold_fixed(relevance: Tensor, fraction: float = 0.3) -> Tensor:
    """Return ``fraction`` of each frame's maximum, [N, 1, 1]."""
    return fraction * relevance.amax((1, 2), keepdim=True)


def threshold_quantile(relevance: Tensor, q: float = 0.95) -> Tensor:
    """Return the `q` quantile of each frame's pixels, [N, 1, 1], by bisection: TensorRT sorts no whole frame.

    The threshold is exact to the frame's maximum times 2⁻³².
    """
    low = torch.zeros_like(relevance[:, :1, :1])
    high = relevance.amax((1, 2), keepdim=True)
    # A hundredth of a pixel keeps rounding out of the comparison of two counts.
    allowed = (1 - q) * (relevance.shape[1] * relevance.shape[2]) + 0.01
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        too_low = (relevance > middle).to(relevance.dtype).sum((1, 2), keepdim=True) > allowed
        low, high = torch.where(too_low, middle, low), torch.where(too_low, high, middle)
    return high


def threshold_otsu(relevance: Tensor) -> Tensor:
    """Return Otsu's threshold of each frame, [N, 1, 1] (Otsu 1979), over a histogram of 256 bins.

    The bins and the centre that is returned are those of ``skimage.filters.threshold_otsu``.
    """
    low, high = relevance.amin((1, 2), keepdim=True), relevance.amax((1, 2), keepdim=True)
    counts = histogram(relevance, low, high)
    centres = torch.arange(BINS, device=relevance.device, dtype=relevance.dtype) + 0.5
    below, above = counts.cumsum(1)[:, :-1], (counts.sum(1, keepdim=True) - counts.cumsum(1))[:, :-1]
    mass = (counts * centres).cumsum(1)
    mean_below = mass[:, :-1] / below.clamp(min=1)
    mean_above = (mass[:, -1:] - mass[:, :-1]) / above.clamp(min=1)
    best = (below * above * (mean_below - mean_above).square()).argmax(1)
    centre = (best.to(relevance.dtype) + 0.5) / BINS
    return low + centre.reshape(-1, 1, 1) * (high - low)


def histogram(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Return the counts [N, 256] of x [N, H, W] in equal bins from `low` to `high` [N, 1, 1].

    A bin's index is 16 a + b; one-hot vectors of a and b, multiplied as matrices, count all pairs at once. That
    needs neither scatter nor a comparison of each pixel with each bin.
    """
    side = 16
    span = (high - low).clamp(min=torch.finfo(x.dtype).tiny)
    index = ((x - low) / span * BINS).floor().clamp(0, BINS - 1).flatten(1)
    coarse = (index / side).floor()
    places = torch.arange(side, device=x.device, dtype=x.dtype).reshape(1, side, 1)
    rows = (coarse.unsqueeze(1) == places).to(x.dtype)
    columns = ((index - side * coarse).unsqueeze(1) == places).to(x.dtype)
    return (rows @ columns.transpose(1, 2)).flatten(1)


def threshold_isodata(relevance: Tensor, steps: int = 24) -> Tensor:
    """Return the threshold midway between the means of what it separates, [N, 1, 1] (Ridler and Calvard 1978)."""
    threshold = relevance.mean((1, 2), keepdim=True)
    for _ in range(steps):
        above = (relevance > threshold).to(relevance.dtype)
        mean_above = (relevance * above).sum((1, 2), keepdim=True) / above.sum((1, 2), keepdim=True).clamp(min=1)
        below = 1 - above
        mean_below = (relevance * below).sum((1, 2), keepdim=True) / below.sum((1, 2), keepdim=True).clamp(min=1)
        threshold = (mean_above + mean_below) / 2
    return threshold


def mask_gmm(relevance: Tensor, steps: int = 12) -> Tensor:
    """Return where the upper of two Gaussians is the likelier one, [N, H, W].

    The mixture is fitted to each frame's pixels by a fixed number of steps of expectation maximisation (Dempster
    et al. 1977), from the pixels below and above the isodata threshold. Relevance is divided by its maximum first.
    """
    x = relevance / relevance.amax((1, 2), keepdim=True).clamp(min=torch.finfo(relevance.dtype).tiny)
    upper = (x > threshold_isodata(x)).to(x.dtype)
    for _ in range(steps):
        weights, means, variances = zip(_moments(x, 1 - upper), _moments(x, upper), strict=True)
        log_odds = _log_density(x, weights[1], means[1], variances[1]) - _log_density(
            x, weights[0], means[0], variances[0]
        )
        upper = log_odds.sigmoid()
    # The wider Gaussian also wins far below the narrow one's mean; what lies there is not relevance.
    return (upper > 0.5) & (x > means[0])


def _moments(x: Tensor, share: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    total = share.sum((1, 2), keepdim=True).clamp(min=1e-6)
    mean = (share * x).sum((1, 2), keepdim=True) / total
    variance = (share * (x - mean).square()).sum((1, 2), keepdim=True) / total + 1e-6
    return total / share[0].numel(), mean, variance


def _log_density(x: Tensor, weight: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    return weight.log() - 0.5 * variance.log() - (x - mean).square() / (2 * variance)


def effective_area(relevance: Tensor) -> Tensor:
    """Return (Σ R)² / Σ R² of each frame, [N, 1, 1]: the pixels that it has where it is, were it the same in each.

    The participation ratio of physics; 0 for a frame without relevance.
    """
    # The greatest value is normalised to one, since squares of small ones would be rounded to zero.
    x = relevance / relevance.amax((1, 2), keepdim=True).clamp(min=torch.finfo(relevance.dtype).tiny)
    return x.sum((1, 2), keepdim=True).square() / x.square().sum((1, 2), keepdim=True).clamp(min=1)


def widening(relevance: Tensor, spread: float) -> Tensor:
    """Return max(1, A / `spread`)² for the effective area A of each frame, [N, 1, 1].

    What a network sees of a spot or a crack lies within it and close around it, and much of that is blur. Of an area
    larger than its receptive fields it sees edges and texture here and there, all of it fainter, since positions share
    what there is: a threshold that is right for spots keeps only the peaks. So thresholds are divided by this. The
    square was found by measuring.
    """
    return (effective_area(relevance) / spread).clamp(min=1).square()


def _above(threshold: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda relevance, widened, **parameters: widened > threshold(relevance, **parameters)


#: Name of each head, with its function, of relevance and widened relevance, and the parameters that it takes.
HEADS: dict[str, tuple[Callable[..., Tensor], tuple[str, ...]]] = {
    "fixed": (_above(threshold_fixed), ("fraction", SPREAD)),
    "quantile": (_above(threshold_quantile), ("q", SPREAD)),
    "otsu": (_above(threshold_otsu), (SPREAD,)),
    "isodata": (_above(threshold_isodata), ("steps", SPREAD)),
    "gmm": (lambda relevance, _, **parameters: mask_gmm(relevance, **parameters), ("steps",)),
    "calibrated": (lambda _, widened, threshold: widened > threshold, ("threshold", SPREAD)),
}


class MaskHead(nn.Module):
    """Relevance [N, H, W] → mask, bool [N, H, W]: smoothing, threshold, floor, closing, opening.

    Whatever the method, a parameter ``floor`` is an absolute threshold besides: anything fainter is not a defect, even
    where it is the strongest of its frame. A parameter ``spread``, in pixels, lowers both thresholds in frames whose
    relevance is spread over more, see :func:`widening`.

    Parameters
    ----------
    spec : MaskSpec
        What to do; stored in the model card.

    Raises
    ------
    LrpEdgeError
        If the method, a parameter of it, the smoothing or the morphology is unknown.
    """

    def __init__(self, spec: MaskSpec) -> None:
        super().__init__()
        check(spec)
        self.spec = spec
        self._smooth = smoothing_from(spec.smoothing)

    def smooth(self, relevance: Tensor, guide: Tensor | None = None) -> Tensor:
        """Return the smoothed positive part of relevance [N, H, W]."""
        return self._smooth(relevance.clamp(min=0), guide)

    def widen(self, smooth: Tensor) -> Tensor:
        """Return what is compared with the thresholds: smoothed relevance [N, H, W], more of it where it is spread."""
        spread = self.spec.parameters.get(SPREAD)
        return smooth if spread is None else smooth * widening(smooth, spread)

    def forward(self, relevance: Tensor, guide: Tensor | None = None) -> Tensor:
        """Return the mask of relevance [N, H, W]; `guide`, the gray image of the same shape, is for ``guided``."""
        smooth = self.smooth(relevance, guide)
        head, names = HEADS[self.spec.method]
        given = self.spec.parameters
        parameters: dict[str, Any] = {
            name: int(given[name]) if name == "steps" else given[name]
            for name in names
            if name in given and name != SPREAD
        }
        widened = self.widen(smooth)
        mask = head(smooth, widened, **parameters) & (widened > given.get(FLOOR, 0.0))
        if self.spec.close:
            mask = close(mask, self.spec.close)
        return open_(mask, self.spec.open) if self.spec.open else mask


def check(spec: MaskSpec) -> None:
    """Refuse a mask head that cannot be built, see :class:`MaskHead`."""
    _, names = look_up("mask head", spec.method, HEADS)
    check_names(f"mask head {spec.method}", spec.parameters, (*names, FLOOR))
    if spec.method == "calibrated" and "threshold" not in spec.parameters:
        raise LrpEdgeError("mask head calibrated needs a threshold: calibrate it on defect-free frames, or give one")
    for name, low, high in (("fraction", 0, 1), ("q", 0, 1), ("steps", 1, 1000)):
        value = spec.parameters.get(name, low)
        if not low <= value <= high:
            raise LrpEdgeError(f"mask head {spec.method}: {name} is {value}; expected {low} to {high}")
    if spec.parameters.get(SPREAD, 1) <= 0:
        raise LrpEdgeError(
            f"mask head {spec.method}: spread is {spec.parameters[SPREAD]}; expected pixels, more than 0"
        )
    for name, side in (("close", spec.close), ("open", spec.open)):
        if side and (side < 0 or side % 2 == 0):
            raise LrpEdgeError(f"mask {name} is {side}; expected an odd number of pixels, or 0 for none")
    smoothing_from(spec.smoothing)


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
    padded = _repeat_border(x, radius)
    return F.conv2d(F.conv2d(padded, weights.reshape(1, 1, -1, 1)), weights.reshape(1, 1, 1, -1)).squeeze(1)


def _repeat_border(x: Tensor, radius: int) -> Tensor:
    return F.pad(x.unsqueeze(1), (radius, radius, radius, radius), mode="replicate")


def median3(x: Tensor) -> Tensor:
    """Return the median of each 3×3 neighbourhood of x [N, H, W], by minima and maxima alone.

    Rows of three are sorted; the median of nine is that of the greatest of the minima, the median of the medians
    and the least of the maxima (Smith 1996, "Implementing median filters in XC4000E FPGAs").
    """
    height, width = x.shape[-2:]
    padded = _repeat_border(x, 1).squeeze(1)
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


def dilate(mask: Tensor, side: int) -> Tensor:
    """Dilate a bool mask [N, H, W] by a square of odd side; beyond the border nothing counts."""
    pooled = F.max_pool2d(mask.float().unsqueeze(1), side, 1, side // 2)
    return pooled.squeeze(1) > 0.5


def erode(mask: Tensor, side: int) -> Tensor:
    """Erode a bool mask [N, H, W] by a square of odd side; beyond the border nothing counts."""
    return ~dilate(~mask, side)


def close(mask: Tensor, side: int) -> Tensor:
    """Fill holes and gaps narrower than `side`."""
    return erode(dilate(mask, side), side)


def open_(mask: Tensor, side: int) -> Tensor:
    """Drop what is narrower than `side`."""
    return dilate(erode(mask, side), side)


def calibrate(maxima: Tensor, budget: float = 0.05) -> float:
    """Return the absolute threshold that at most a share `budget` of values exceeds.

    Parameters
    ----------
    maxima : Tensor, float [M]
        Of each of M defect-free frames the greatest smoothed relevance, so that the budget is one of frames; or that of
        each pixel of them, so that it is one of pixels.
    budget : float
        Share of them that may exceed the threshold, 0 to 1.

    Raises
    ------
    LrpEdgeError
        If there are no values, or the budget is not within 0 and 1.
    """
    if maxima.numel() == 0 or not 0 <= budget <= 1:
        raise LrpEdgeError(
            f"calibration got {maxima.numel()} values of defect-free frames and a budget of {budget}; needs frames and "
            "0 to 1"
        )
    ordered = maxima.sort(descending=True).values
    return float(ordered[min(int(budget * len(ordered)), len(ordered) - 1)])
