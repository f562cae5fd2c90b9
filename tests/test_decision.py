"""The decision: its threshold against the p-value that defines it, and what it promises, exactly."""

import math
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from lrp_edge.card import DecisionSpec, ModelCard
from lrp_edge.decision import (
    MARGIN,
    bound,
    calibrate,
    decide,
    decimals,
    defect_probability,
    describe,
    images_for,
    least_rate,
    with_decision,
)
from lrp_edge.errors import LrpEdgeError

CARD = ModelCard(("crack", "fine", "dent", "good"), ("crack", "dent"))
#: Few different values, so that many tie.
coarse = st.integers(0, 12).map(lambda value: value / 16)
fine = st.floats(0, 1, exclude_max=True, width=32)
rates = st.sampled_from([0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1 / 3, 0.5, 0.9])


def p_value(others: list[float], score: float) -> Fraction:
    """Return the share of frames that are at least as strange as one, itself among them: Vovk's definition."""
    return Fraction(1 + sum(other >= score for other in others), len(others) + 1)


@given(st.lists(coarse | fine, min_size=1, max_size=60), rates)
def test_a_frame_is_an_alarm_if_its_p_value_is_within_the_rate(scores, rate):
    exact = Fraction(str(rate))
    if len(scores) < 1 / exact - 1:
        with pytest.raises(LrpEdgeError, match=f"needs {images_for(rate)} OK images, and {len(scores)} allow"):
            calibrate(scores, rate)
        return
    threshold = calibrate(scores, rate).threshold
    for score in (*scores, *np.nextafter(np.float32(scores), np.float32(1)).tolist(), 0.0, 1.0):
        if score > threshold:
            assert p_value(scores, score) <= exact
        elif p_value(scores, score) <= exact:
            assert any(raised(score, -2 * MARGIN) <= other < score for other in scores)


@given(st.lists(coarse | fine, min_size=1, max_size=60), rates, st.floats(-MARGIN / 2, MARGIN / 2))
def test_the_image_that_a_threshold_is_from_is_ok_for_every_backend(scores, rate, shift):
    if len(scores) >= images_for(rate):
        found = calibrate(scores, rate)
        at = sorted(scores)[-math.floor((len(scores) + 1) * Fraction(str(rate)))]
        assert raised(at, shift) <= found.threshold
        assert found.seen <= np.mean([score > at for score in scores]) + 1e-6


def raised(score: float, by: float) -> float:
    """Return a probability whose log-odds are so much greater."""
    return float(np.float32(special.expit(special.logit(score) + by)))


@given(st.lists(coarse | fine, min_size=2, max_size=80), rates)
def test_the_promise_holds_for_exchangeable_frames(scores, rate):
    """Whichever of n + 1 frames is the new one, each as likely: the mean over them is the false-alarm rate itself."""
    if len(scores) - 1 < images_for(rate):
        return
    alarms = [
        score > calibrate([*scores[:place], *scores[place + 1 :]], rate).threshold for place, score in enumerate(scores)
    ]
    assert Fraction(sum(alarms), len(scores)) <= Fraction(str(rate))


def test_the_promise_is_not_given_away():
    """Without ties the rate is floor((n + 1) · rate) / (n + 1), by 5,000 drawn calibrations."""
    draw = np.random.default_rng(0)
    rate, count = 0.05, 45
    alarms = [draw.beta(2, 9) > calibrate(draw.beta(2, 9, count), rate).threshold for _ in range(5000)]
    assert np.mean(alarms) == pytest.approx(2 / 46, abs=4 * np.sqrt(2 / 46 / 5000))


@pytest.mark.parametrize(("images", "rate"), [(49, 0.02), (19, 0.05), (99, 0.01), (1, 0.5), (12, 0.077)])
def test_one_image_less_is_too_few(images, rate):
    spec = calibrate(np.linspace(0.9, 0, images), rate)
    assert (spec.threshold, spec.images, spec.promised, spec.seen) == (
        raised(float(np.float32(0.9)), MARGIN),
        images,
        rate,
        0,
    )
    if images > 1:
        with pytest.raises(LrpEdgeError, match=f"{rate:g} needs {images} OK images, and {images - 1} allow "):
            calibrate(np.linspace(0, 0.9, images - 1), rate)


@given(st.integers(1, 5000))
def test_the_least_rate_is_one_that_can_be_asked_for(images):
    rate = float(decimals(least_rate(images)))
    assert rate >= 1 / (images + 1)
    assert images_for(rate) <= images
    assert calibrate(np.zeros(images), rate).threshold == 0


@given(st.integers(1, 2000), st.data())
def test_the_bound_is_a_quantile_of_the_beta_distribution(images, data):
    place = data.draw(st.integers(1, images))
    assert bound(images, place) == pytest.approx(stats.beta.ppf(0.9, place, images + 1 - place), rel=1e-6)


def test_the_bound_holds_in_nine_of_ten_calibrations():
    draw = np.random.default_rng(1)
    specs = [calibrate(draw.random(200), 0.02) for _ in range(4000)]
    assert np.mean([1 - spec.threshold <= spec.bound for spec in specs]) == pytest.approx(0.9, abs=0.02)


@pytest.mark.parametrize(
    ("scores", "rate", "message"),
    [
        ([], 0.02, "there are no OK images"),
        ([0.1] * 100, 0.0, "the false-alarm rate is 0; expected a share of the OK frames above 0 and below 1"),
        ([0.1] * 100, 1.0, "the false-alarm rate is 1; expected"),
        ([0.1] * 100, float("nan"), "the false-alarm rate is nan; expected"),
        ([0.1] * 12, 0.02, r"^a false-alarm rate of 0.02 needs 49 OK images, and 12 allow 0.077 at least: give"),
        ([0.1, float("nan")] * 50, 0.02, "is NaN or infinite; train or export"),
        ([0.1] * 90 + [1.0] * 10, 0.02, "^10 of 100 OK images have a P.defect. of 1, so that no threshold keeps"),
    ],
)
def test_what_cannot_be_calibrated(scores, rate, message):
    with pytest.raises(LrpEdgeError, match=message):
        calibrate(scores, rate)


def by_hand(card, scores):
    """Decide one row by the words of the docstring, in float64."""
    defects = {name: score for name, score in zip(card.classes, scores, strict=True) if name in card.defects}
    others = {name: score for name, score in zip(card.classes, scores, strict=True) if name not in card.defects}
    p = 1 - sum(others.values()) if card.activation == "softmax" else max(defects.values())
    chosen = defects if p > card.decision.threshold else others
    return p, card.classes.index(max(chosen, key=chosen.__getitem__))


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("names", [("ok", "scratch"), ("crack", "fine", "dent", "good")])
@given(st.lists(st.lists(st.floats(-8, 8), min_size=4, max_size=4), min_size=1), st.floats(0.01, 0.99))
def test_decisions_are_those_of_the_definition(activation, names, logits, threshold):
    defects = tuple(name for name in names if name in ("scratch", "crack", "dent"))
    card = ModelCard(names, defects, activation=activation, decision=DecisionSpec(float(np.float32(threshold))))
    logits = np.array(logits)[:, : len(names)]
    powers = np.exp(logits)
    scores = powers / powers.sum(1, keepdims=True) if activation == "softmax" else powers / (1 + powers)
    expected = [by_hand(card, row) for row in scores]
    assert np.allclose(defect_probability(card, scores), [p for p, _ in expected], atol=1e-12)
    sure = np.array([abs(p - card.decision.threshold) > 1e-9 for p, _ in expected])
    assert np.array_equal(decide(card, scores)[sure], np.array([label for _, label in expected])[sure])
    assert decide(card, scores[0]) == decide(card, scores)[0]


def test_a_defect_that_is_split_over_classes_is_one():
    scores = np.array([0.3, 0.4, 0.3, 0.0], np.float32)
    assert decide(CARD, scores) == 1
    assert decide(with_decision(CARD), scores) == 0
    assert with_decision(CARD).decision.found.startswith("not calibrated")


def test_a_small_probability_is_not_rounded_away():
    scores = np.array([1e-12, 1, 1e-20, 0], np.float32)
    assert defect_probability(CARD, scores) == np.float32(1e-12)
    assert decide(CARD.replace(decision=DecisionSpec(1e-13)), scores) == 0


def test_a_card_keeps_its_own_decision_and_one_without_ok_gets_none():
    own = CARD.replace(decision=DecisionSpec(0.25))
    assert with_decision(own) is own
    assert with_decision(ModelCard(("a", "b"), ("a", "b"))).decision is None


def test_an_uncalibrated_decision_is_called_so():
    assert describe(DecisionSpec()) == (
        "a defect is a P(defect) above 0.5 (not calibrated: a defect is what is more likely one than not)"
    )


def test_it_needs_numpy_alone():
    banned = "import sys; import lrp_edge.decision; assert not {'torch', 'onnx', 'scipy', 'cv2'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", banned], check=True)
