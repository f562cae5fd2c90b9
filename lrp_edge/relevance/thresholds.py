"""Thresholds of relevance, found frame by frame in operations that every backend has.

Each takes relevance [N, H, W] without negative values and returns one threshold a frame, [N, 1, 1].
"""

from __future__ import annotations

import torch
from torch import Tensor

BINS = 256
_BISECTIONS = 32


def threshold_fixed(relevance: Tensor, fraction: float = 0.3) -> Tensor:
    """Return ``fraction`` of each frame's maximum, [N, 1, 1]."""
    return fraction * relevance.amax((1, 2), keepdim=True)


def threshold_quantile(relevance: Tensor, q: float = 0.95) -> Tensor:
    """Return the `q` quantile of each frame's pixels, [N, 1, 1], by bisection: TensorRT sorts no whole frame.

    The threshold is exact to the frame's maximum times 2⁻³².
    """
    # A hundredth of a pixel keeps rounding out of the comparison of two counts.
    allowed = (1 - q) * (relevance.shape[1] * relevance.shape[2]) + 0.01
    return _bisected(relevance, torch.ones_like(relevance), allowed)


def threshold_mass(relevance: Tensor, share: float = 0.8) -> Tensor:
    """Return the threshold above which a `share` of each frame's relevance lies, [N, 1, 1], or just less of it.

    It follows the extent of what relevance is on, which a quantile fixes beforehand; by bisection, exact to the frame's
    maximum times 2⁻³².
    """
    # The greatest value is normalised to one, since sums of small ones may be rounded to zero.
    greatest = relevance.amax((1, 2), keepdim=True)
    x = relevance / greatest.clamp(min=torch.finfo(relevance.dtype).tiny)
    return _bisected(x, x, share * x.sum((1, 2), keepdim=True)) * greatest


def _bisected(x: Tensor, weight: Tensor, allowed: Tensor | float) -> Tensor:
    """Return the least threshold of x [N, H, W] that leaves at most the allowed sum of weights above it.

    Only the upper end of the interval is kept, since its width is known at each step: of two ends, each made of both
    that were before, TensorRT's builder makes one expression that triples with each step.
    """
    greatest = x.amax((1, 2), keepdim=True)
    high = greatest
    for halving in range(1, _BISECTIONS + 1):
        step = greatest * 0.5**halving
        fits = ((x > high - step).to(x.dtype) * weight).sum((1, 2), keepdim=True) <= allowed
        high = high - step * fits.to(x.dtype)
    return high


def threshold_otsu(relevance: Tensor, fraction: float = 1.0) -> Tensor:
    """Return ``fraction`` of Otsu's threshold of each frame, [N, 1, 1] (Otsu 1979), over a histogram of 256 bins.

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
    return fraction * (low + centre.reshape(-1, 1, 1) * (high - low))


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
        threshold = (_mean(relevance, above) + _mean(relevance, 1 - above)) / 2
    return threshold


def threshold_li(relevance: Tensor, steps: int = 24) -> Tensor:
    """Return the threshold of least cross entropy, [N, 1, 1] (Li and Tam 1998), by a fixed number of their steps.

    It is the logarithmic mean of the means of what it separates, so that a few strong pixels pull it up less than
    Otsu's: relevance of lines is faint next to its peaks.
    """
    low = relevance.amin((1, 2), keepdim=True)
    span = (relevance.amax((1, 2), keepdim=True) - low).clamp(min=torch.finfo(relevance.dtype).tiny)
    x, tiny = (relevance - low) / span, 1e-12
    threshold = x.mean((1, 2), keepdim=True)
    for _ in range(steps):
        above = (x > threshold).to(x.dtype)
        mean_above, mean_below = _mean(x, above).clamp(min=tiny), _mean(x, 1 - above).clamp(min=tiny)
        logarithms = (mean_above / mean_below).log().clamp(min=tiny)
        threshold = torch.where(mean_above > mean_below, (mean_above - mean_below) / logarithms, threshold)
    return low + threshold * span


def _mean(x: Tensor, share: Tensor) -> Tensor:
    return (x * share).sum((1, 2), keepdim=True) / share.sum((1, 2), keepdim=True).clamp(min=1)


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
