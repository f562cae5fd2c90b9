"""Intervals against scipy's, scikit-learn's figures and the examples of their papers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from lrp_edge.usability.intervals import Estimate, auroc, difference, mean, proportion


@given(st.integers(1, 500), st.data())
def test_a_share_has_the_interval_of_scipy(count: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, count))
    found, expected = proportion(hits / count, count), binomtest(hits, count).proportion_ci(method="wilson")
    assert found.value == hits / count
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)


@pytest.mark.parametrize(
    ("first", "second", "low", "high"),
    [((56, 70), (48, 80), 0.0524, 0.3339), ((9, 10), (3, 10), 0.1705, 0.8090), ((10, 10), (0, 10), 0.6075, 1.0)],
)
def test_a_difference_has_the_interval_of_newcombe(
    first: tuple[int, int], second: tuple[int, int], low: float, high: float
) -> None:
    found = difference(*(proportion(hits / count, count) for hits, count in (first, second)))
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-4)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=12), st.lists(st.integers(0, 5), min_size=1, max_size=12))
def test_auroc_is_that_of_scikit_learn_and_in_its_interval(ok: list[int], defect: list[int]) -> None:
    found = auroc(ok, defect)
    assert found.value == pytest.approx(roc_auc_score([0] * len(ok) + [1] * len(defect), ok + defect))
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    random = np.random.default_rng(0)
    truth, held = 0.7602, []  # Of two normal distributions one deviation apart: Phi(1 / sqrt 2).
    for _ in range(60):
        found = auroc(random.normal(0, 1, 40), random.normal(1, 1, 40))
        held.append(found.low <= truth <= found.high)
    assert np.mean(held) > 0.85
    share = [mean(random.random(60) < 0.3) for _ in range(60)]
    assert np.mean([found.low <= 0.3 <= found.high for found in share]) > 0.85


def test_one_image_says_nothing_and_equal_ones_are_no_nan() -> None:
    assert mean([1.0]) == Estimate(1.0, 0.0, 1.0)
    assert auroc([0.0], [1.0, 2.0]) == Estimate(1.0, 0.0, 1.0)
    assert mean([1.0, 1.0, 1.0]) == Estimate(1.0, 1.0, 1.0)
    assert mean([0.0] * 9 + [1.0]).low == 0
    assert str(mean([1.0, 1.0])) == "1.00 (1.00 to 1.00)"
