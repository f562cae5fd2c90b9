"""Figures with their 95 % confidence intervals, for few images too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lrp_edge.errors import needs_extra

with needs_extra("evaluate"):
    from scipy.special import ndtri
    from scipy.stats import bootstrap, rankdata

LEVEL = 0.95
RESAMPLES = 2000

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % confidence interval.

    Attributes
    ----------
    value, low, high : float
        The figure, and the ends of its interval.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"


def proportion(share: float, count: int) -> Estimate:
    """Return a share of independent trials with Wilson's interval, which is sound for 0 and 1 and for few trials.

    Parameters
    ----------
    share : float
        From 0 to 1; it need not be a whole number of trials, as where each trial is itself a mean.
    count : int
        Trials, 1 or more.

    References
    ----------
    Wilson 1927, "Probable Inference, the Law of Succession, and Statistical Inference", JASA 22, 209–212. scipy's
    ``binomtest`` has it for whole numbers only.
    """
    z2 = float(ndtri(0.5 + LEVEL / 2)) ** 2
    centre = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = np.sqrt(z2 * (share * (1 - share) / count + z2 / (4 * count**2))) / (1 + z2 / count)
    return Estimate(share, max(0.0, float(centre - half)), min(1.0, float(centre + half)))


def difference(first: Estimate, second: Estimate) -> Estimate:
    """Return the difference of two shares, its interval from theirs.

    References
    ----------
    Newcombe 1998, "Interval estimation for the difference between independent proportions", Statistics in Medicine 17,
    873–890, method 10.
    """
    value = first.value - second.value
    below = np.hypot(first.value - first.low, second.high - second.value)
    above = np.hypot(first.high - first.value, second.value - second.low)
    return Estimate(value, float(value - below), float(value + above))


def mean(values: ArrayLike, seed: int = 0) -> Estimate:
    """Return the mean of values of images, with the percentile interval of a bootstrap over images.

    Parameters
    ----------
    values : array, float [N]
        From 0 to 1, one or more.
    seed : int
        Random seed of the resampling.
    """
    return _bootstrapped((np.asarray(values, float),), lambda sample, axis: sample.mean(axis), seed)


def auroc(ok: ArrayLike, defect: ArrayLike, seed: int = 0) -> Estimate:
    """Return the area under the ROC curve, with the percentile interval of a bootstrap over OK and over defect images.

    The two are resampled apart, so that each resample has as many of each as the data.

    Parameters
    ----------
    ok, defect : array, float [N], [M]
        Scores, one or more of each.
    seed : int
        Random seed of the resampling.
    """
    return _bootstrapped((np.asarray(ok, float), np.asarray(defect, float)), _auroc, seed)


def _auroc(ok: Floats, defect: Floats, axis: int) -> Floats:
    """Share of pairs in which the defect has the greater score; equal ones count half."""
    ranks = rankdata(np.concatenate([ok, defect], axis), axis=axis)
    others, count = ok.shape[axis], defect.shape[axis]
    ranks_of_defects = ranks.take(range(others, others + count), axis)
    return np.asarray((ranks_of_defects.mean(axis) - (count + 1) / 2) / others)


def _bootstrapped(samples: tuple[Floats, ...], statistic: Callable[..., Floats], seed: int) -> Estimate:
    value = float(statistic(*samples, axis=-1))
    if min(sample.size for sample in samples) < 2:
        return Estimate(value, 0.0, 1.0)  # One image says nothing of others.
    # scipy's default, BCa, has no interval where all values are alike, as those of a perfect classifier are.
    found = bootstrap(
        samples, statistic, vectorized=True, method="percentile", confidence_level=LEVEL, n_resamples=RESAMPLES,
        batch=100, rng=seed,
    ).confidence_interval  # fmt: skip
    return Estimate(value, float(found.low), float(found.high))
