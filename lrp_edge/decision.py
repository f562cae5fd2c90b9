"""When a frame is a defect, and what a threshold that is set on OK images promises.

A frame is a defect if P(defect) exceeds a threshold; its class is then the strongest defect, else the strongest OK
class. The graph decides so itself; this is the same rule for scores that are not a graph's answer: means over tiles,
predictors in PyTorch, figures.

The threshold is a split-conformal quantile: of n OK images that nothing was learnt from, the floor((n + 1) · rate)-th
greatest P(defect). If a new OK frame is exchangeable with them, it exceeds that with a probability of at most `rate`,
whatever the classifier and however P(defect) is distributed. It is raised a hair, so that the image that it is from is
decided alike whichever backend computes it; what it promises holds for any greater threshold too.

References
----------
Vovk, Gammerman and Shafer 2005, "Algorithmic Learning in a Random World", section 4.1; Angelopoulos and Bates 2023,
"Conformal Prediction: A Gentle Introduction", equations 1 and 2; for what holds of one calibration, Vovk 2012,
"Conditional Validity of Inductive Conformal Predictors", proposition 2a.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timezone
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrp_edge.card import DecisionSpec, ModelCard
from lrp_edge.errors import LrpEdgeError

#: What :attr:`~lrp_edge.card.DecisionSpec.bound` holds in: this share of calibrations.
CONFIDENCE = 0.9
#: How far the threshold is above its OK image, in log-odds: more than what logits of different backends differ by.
MARGIN = 1e-3


def defect_probability(card: ModelCard, scores: NDArray[Any]) -> NDArray[Any]:
    """Return P(defect) of each row of scores.

    Softmax scores are of classes that exclude each other: P(defect) = 1 − Σ P(OK classes), added up from the defects'
    own scores, which are exact where it is small. Sigmoid scores are of labels that do not: P(defect) is the greatest
    score of a defect, since a frame with any label of a defect is one. It needs no assumption on how labels depend on
    each other, as 1 − Π(1 − p) would, and does not grow with their number.

    Parameters
    ----------
    card : ModelCard
        Says which classes are defects, and which scores they have.
    scores : float [..., K]
        Scores of each class.

    Returns
    -------
    float [...]
    """
    defects = scores[..., list(card.defect_indices)]
    result: NDArray[Any] = defects.sum(-1) if card.activation == "softmax" else defects.max(-1, initial=0)
    return result


def decide(card: ModelCard, scores: NDArray[Any]) -> NDArray[np.int64]:
    """Return the label of each row of scores, float [..., K] → int64 [...], by the card's decision."""
    if card.decision is None:
        return np.asarray(scores.argmax(-1))
    is_defect = defect_probability(card, scores) > np.float32(card.decision.threshold)
    allowed = np.isin(np.arange(len(card.classes)), card.defect_indices) == is_defect[..., None]
    return np.asarray(np.where(allowed, scores, -np.inf).argmax(-1))


def with_decision(card: ModelCard) -> ModelCard:
    """Return a card whose decision has a threshold: one half, where none was set."""
    if card.decision is not None or not card.defects or not card.ok_indices:
        return card
    return card.replace(decision=DecisionSpec())


def calibrate(probabilities: NDArray[Any] | Sequence[float], rate: float, source: str = "OK images") -> DecisionSpec:
    """Set the threshold by a budget of false alarms.

    Parameters
    ----------
    probabilities : float [n]
        P(defect) of OK images that nothing was learnt from.
    rate : float
        Share of OK frames that may be false alarms, above 0 and below 1.
    source : str
        What the images are, for :attr:`~lrp_edge.card.DecisionSpec.found`.

    Raises
    ------
    LrpEdgeError
        If there are no images or fewer than 1/rate − 1, the rate is out of its range, a probability is not a number,
        or so many are 1 that no threshold keeps the rate.
    """
    check_rate(rate)
    values = np.sort(np.asarray(probabilities, np.float32))[::-1]
    count = len(values)
    if not count:
        raise LrpEdgeError("there are no OK images to set the decision's threshold on; give some")
    if not np.isfinite(values).all():
        raise LrpEdgeError("P(defect) of an OK image is NaN or infinite; train or export the model again")
    place = math.floor((count + 1) * _exact(rate))
    if place < 1:
        raise LrpEdgeError(
            f"a false-alarm rate of {rate:g} needs {images_for(rate)} OK images, and {count} allow "
            f"{decimals(least_rate(count))} at least: give more, or --false-alarm-rate {decimals(least_rate(count))}"
        )
    threshold = _raised(float(values[place - 1]))
    if threshold >= 1:
        raise LrpEdgeError(
            f"{int((values >= 1).sum())} of {count} OK images have a P(defect) of 1, so that no threshold keeps a "
            f"false-alarm rate of {rate:g}: look for defects among them, or train again"
        )
    return DecisionSpec(
        threshold=threshold,
        images=count,
        promised=rate,
        bound=round(bound(count, place), 6),
        seen=round(float((values > threshold).mean()), 6),
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        found=f"split-conformal, from {count} {source}",
    )


def _raised(probability: float) -> float:
    """Return a probability raised by :data:`MARGIN`, as a number of float32."""
    odds = probability * math.exp(MARGIN)
    return float(np.float32(odds / (odds + 1 - probability)))


def describe(decision: DecisionSpec) -> str:
    """Say in a line when a frame is a defect, and what that promises."""
    threshold = f"a defect is a P(defect) above {decision.threshold:.4g}"
    if decision.promised is None or decision.bound is None or decision.seen is None:
        return f"{threshold} ({decision.found})"
    return (
        f"{threshold}; false alarms on OK frames like the {decision.images} it is from: {decision.promised:.2%} at "
        f"most on average, {decision.bound:.2%} in nine of ten calibrations, {decision.seen:.2%} seen on these"
    )


def check_rate(rate: float) -> None:
    """Refuse a false-alarm rate that no threshold, or any, keeps."""
    if not 0 < rate < 1:
        raise LrpEdgeError(
            f"the false-alarm rate is {rate:g}; expected a share of the OK frames above 0 and below 1, e.g. 0.02"
        )


def least_rate(images: int) -> Fraction:
    """Return the least false-alarm rate that so many OK images can promise: 1 / (n + 1)."""
    return Fraction(1, images + 1)


def images_for(rate: float) -> int:
    """Return how many OK images a false-alarm rate needs: 1/rate − 1."""
    return math.ceil(1 / _exact(rate) - 1)


def decimals(rate: Fraction) -> str:
    """Return a rate in decimals, rounded up, so that it is no less than what it stands for."""
    digits = 10 ** max(3, len(str(rate.denominator)) + 1)
    return f"{math.ceil(rate * digits) / digits:g}"


def bound(images: int, place: int) -> float:
    """Return what the false-alarm rate is below in the share :data:`CONFIDENCE` of calibrations.

    The rate that a threshold at the `place`-th greatest of n values has is, for a continuous distribution, Beta(place,
    n + 1 − place): it exceeds r as often as fewer than `place` of n frames exceed a threshold of rate r.
    """
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if _fewer(images, place, middle) < 1 - CONFIDENCE else (middle, high)
    return high


def _fewer(count: int, place: int, rate: float) -> float:
    """Return the probability that fewer than `place` of `count` frames are among a share `rate` of them."""
    ways = (math.lgamma(count + 1) - math.lgamma(i + 1) - math.lgamma(count - i + 1) for i in range(place))
    return sum(math.exp(way + i * math.log(rate) + (count - i) * math.log1p(-rate)) for i, way in enumerate(ways))


def _exact(rate: float) -> Fraction:
    """Return the decimal that was meant: 50 · 0.02 is 1, and not a little less."""
    return Fraction(str(float(rate)))
