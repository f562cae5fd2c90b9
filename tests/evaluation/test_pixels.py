"""AUPRO, the best IoU, F1 within a tolerance and severity against slow forms, scikit-image and MONAI."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from monai.metrics.surface_dice import compute_surface_dice
from monai.metrics.utils import get_mask_edges, get_surface_distance
from scipy.spatial.distance import cdist
from skimage.measure import label, regionprops
from sklearn.metrics import f1_score, jaccard_score

from lrp_edge.evaluation import severity
from lrp_edge.evaluation.pixels import FALSE_SHARE, Counts, aupro, best_iou
from lrp_edge.evaluation.tolerance import Matches, outline
from lrp_edge.runtime import Segmentation


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


def pairs(seed):
    """Two masks that overlap a little, apart from the frame's edges."""
    truth, relevance = spots(seed)
    inner = np.zeros_like(truth)
    inner[3:-3, 3:-3] = True
    return truth & inner, np.roll(relevance > 1.2, seed % 4, 0) & inner


def slow_f1(mask, truth, tolerance):
    """Each pixel's distance to each of the other mask, in float64."""
    found, there = (np.argwhere(part).astype(np.float64) for part in (mask, truth))
    if not len(found) or not len(there):
        return 0.0
    near = cdist(found, there) <= tolerance
    precision, recall = near.any(1).mean(), near.any(0).mean()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@given(st.integers(0, 500), st.integers(0, 6))
def test_f1_within_a_tolerance(seed, tolerance):
    truth, mask = pairs(seed)
    matches = Matches(tolerance)
    matches.add(mask, truth)
    assert matches.scores == ([pytest.approx(slow_f1(mask, truth, tolerance))] if truth.any() else [])
    if not tolerance and truth.any():
        assert matches.pooled == pytest.approx(f1_score(truth.ravel(), mask.ravel(), zero_division=0))


@settings(max_examples=25)
@given(st.integers(0, 500), st.integers(0, 6))
def test_boundary_f1_is_that_of_monais_surface_distances(seed, tolerance):
    truth, mask = pairs(seed)
    assume(truth.any() and mask.any())
    outlines = [get_mask_edges(part, part, crop=False)[0] for part in (mask, truth)]
    for part, expected in zip((mask, truth), outlines, strict=True):
        np.testing.assert_array_equal(outline(part), expected)
    near = [get_surface_distance(*order) <= tolerance for order in (outlines, outlines[::-1])]
    precision, recall = (part.mean() for part in near)
    matches = Matches(tolerance)
    matches.add(outline(mask), outline(truth))
    assert matches.scores == [pytest.approx(2 * precision * recall / ((precision + recall) or 1))]
    # The surface Dice of Nikolov et al. 2018 pools the two outlines instead of taking a harmonic mean.
    hits, pixels = sum(part.sum() for part in near), sum(part.size for part in near)
    dice = compute_surface_dice(*(torch.from_numpy(p)[None, None] for p in (mask, truth)), [tolerance], True)
    assert hits / pixels == pytest.approx(float(dice))
    assert (matches.right + matches.met, matches.found + matches.there) == (hits, pixels)


def test_the_frame_is_no_outline():
    half = np.zeros((9, 9), bool)
    half[:, :4] = True
    expected = np.zeros_like(half)
    expected[:, 3] = True
    np.testing.assert_array_equal(outline(half), expected)
    assert not outline(np.ones((5, 5), bool)).any()


def test_a_line_beside_a_line():
    """What IoU calls wrong altogether: a line of the right length, one pixel off."""
    truth, mask = np.zeros((2, 30, 30), bool)
    truth[10, 5:25], mask[11, 5:25] = True, True
    result = Segmentation(0, "crack", True, np.ones(1), mask.astype(np.uint8), mask.astype(np.float32), 0.0)
    for tolerance, expected in ((0, 0.0), (2, 1.0)):
        counts = Counts(tolerance)
        counts.add(result, truth, 0)
        figures = counts.figures()
        assert figures.iou == 0
        assert [figures.f1_near, figures.f1_near_per_image] == [expected] * 2
        assert [figures.boundary_f1, figures.boundary_f1_per_image] == [expected] * 2


def test_false_alarms_lower_the_pooled_f1():
    line = np.zeros((30, 30), bool)
    line[10, 5:25] = True
    matches = Matches(2)
    matches.add(line, np.zeros_like(line))
    assert np.isnan(matches.pooled)
    matches.add(line, line)
    assert matches.scores == [1]
    assert matches.pooled == pytest.approx(2 / 3)
