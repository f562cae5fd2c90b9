"""AUPRO, the best IoU and severity against slow forms and scikit-image."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.measure import label, regionprops
from sklearn.metrics import jaccard_score

from lrp_edge.evaluation import severity
from lrp_edge.evaluation.pixels import FALSE_SHARE, aupro, best_iou


def spots(seed, side=24):
    draw = np.random.default_rng(seed)
    truth = np.zeros((side, side), bool)
    for _ in range(3):
        row, column, size = draw.integers(0, side - 6), draw.integers(0, side - 6), draw.integers(1, 6)
        truth[row : row + size, column : column + size] = True
    return truth, (truth * draw.uniform(0.2, 2) + draw.normal(size=truth.shape)).astype(np.float32)


def slow_aupro(truth, relevance):
    """Threshold by threshold: per-region overlap against the false share, by trapezoids."""
    regions = [truth & (label(truth, connectivity=2) == n) for n in range(1, label(truth, connectivity=2).max() + 1)]
    points = [(0.0, 0.0)]
    for threshold in np.sort(np.unique(relevance))[::-1]:
        mask = relevance >= threshold
        points.append((mask[~truth].mean(), np.mean([mask[region].mean() for region in regions])))
    false, overlap = np.array(points).T
    grid = np.linspace(0, FALSE_SHARE, 3001)
    return np.trapezoid(np.interp(grid, false, overlap), grid) / FALSE_SHARE


@given(st.integers(0, 500))
def test_aupro(seed):
    truth, relevance = spots(seed)
    numbered = label(truth, connectivity=2)
    regions = [relevance[numbered == n] for n in range(1, numbered.max() + 1)]
    assert aupro(regions, relevance[~truth]) == pytest.approx(slow_aupro(truth, relevance), abs=0.03)


def test_aupro_of_perfect_and_of_no_relevance():
    truth, _ = spots(0)
    assert aupro([np.ones(9, np.float32)], np.zeros(400, np.float32)) == 1
    assert aupro([np.zeros(9, np.float32)], np.ones(400, np.float32)) == 0
    assert truth.any()


@given(st.integers(0, 500), st.integers(1, 40))
def test_best_iou(seed, levels):
    truth, relevance = spots(seed)
    relevance = np.round(relevance * levels) / levels
    expected = max(jaccard_score(truth.ravel(), (relevance >= threshold).ravel()) for threshold in np.unique(relevance))
    assert best_iou(truth.ravel(), relevance.ravel()) == pytest.approx(expected)
    assert best_iou(np.zeros(9, bool), np.arange(9, dtype=np.float32)) == 0


@given(st.integers(0, 500))
def test_severity(seed):
    truth, _ = spots(seed)
    found = severity(truth)
    assert found.area == truth.sum()
    assert found.count == label(truth, connectivity=2).max()
    extents = []
    for region in regionprops(label(truth, connectivity=2)):
        rows, columns = region.coords.T
        corners = np.array([(r + a, c + b) for r, c in zip(rows, columns, strict=True) for a in (0, 1) for b in (0, 1)])
        extents.append(max(np.hypot(*(corners - corner).T).max() for corner in corners))
    # Feret's diameter is taken over pixels' outlines, whose corners are half a pixel in from those of the pixels.
    assert found.extent == pytest.approx(max(extents), abs=1.01)


def test_severity_of_nothing():
    found = severity(np.zeros((5, 5), bool))
    assert (found.count, found.area, found.extent) == (0, 0, 0.0)
