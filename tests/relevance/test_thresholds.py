"""Thresholds against NumPy, scikit-image and scikit-learn."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from skimage import filters
from sklearn.mixture import GaussianMixture

from lrp_edge.relevance import thresholds
from tests.support.relevance import blobs, frames


@given(frames, st.floats(0.05, 0.95))
def test_fixed(x, fraction):
    expected = fraction * x.max((1, 2))
    assert np.allclose(thresholds.threshold_fixed(torch.from_numpy(x), fraction).flatten(), expected)


@given(frames, st.floats(0.5, 0.99))
def test_quantile(x, q):
    # A hundredth of a pixel from a whole number of them, the head takes the neighbour by design.
    assume(abs(x[0].size * q - round(x[0].size * q)) > 0.011)
    expected = np.quantile(x, q, axis=(1, 2), method="inverted_cdf")
    assert np.allclose(
        thresholds.threshold_quantile(torch.from_numpy(x), q).flatten(), expected, rtol=0, atol=1e-6 * x.max()
    )


@pytest.mark.parametrize("q", [0.5, 0.55, 0.9, 0.95, 0.99])
def test_quantile_at_a_whole_number_of_pixels(q):
    x = torch.randperm(400).reshape(1, 20, 20).float()
    assert int((x > thresholds.threshold_quantile(x, q)).sum()) == round(400 * (1 - q))


@given(frames)
def test_otsu(x):
    expected = [filters.threshold_otsu(frame) for frame in x]
    assert np.allclose(thresholds.threshold_otsu(torch.from_numpy(x)).flatten(), expected, rtol=1e-9)


@given(frames)
def test_histogram(x):
    low, high = x.min((1, 2), keepdims=True), x.max((1, 2), keepdims=True)
    counts = thresholds.histogram(*map(torch.from_numpy, (x, low, high))).numpy()
    expected = np.stack([np.histogram(frame, thresholds.BINS)[0] for frame in x])
    assert counts.sum(1).tolist() == [frame.size for frame in x]
    # An edge falls to one side or the other by the last bit.
    assert np.abs(counts - expected).sum() <= 2 * len(x)


@given(frames)
def test_isodata(x):
    for frame, got in zip(x, thresholds.threshold_isodata(torch.from_numpy(x)).flatten().tolist(), strict=True):
        threshold = frame.mean()
        for _ in range(24):
            threshold = (frame[frame > threshold].mean() + frame[frame <= threshold].mean()) / 2
        assert got == pytest.approx(threshold, rel=1e-9)


def test_isodata_settles_where_scikit_image_does():
    x = blobs(1, 1)
    settled = thresholds.threshold_isodata(torch.from_numpy(x), 200).item()
    fixed_points = filters.threshold_isodata(x[0], 4096, return_all=True)
    assert np.abs(fixed_points - settled).min() <= x.max() / 500


def test_gmm_against_scikit_learn():
    x = blobs(3, 1)
    values = (x[0] / x[0].max()).reshape(-1, 1)
    upper = values > thresholds.threshold_isodata(torch.from_numpy(values.reshape(1, 1, -1))).item()
    share = np.hstack([~upper, upper])
    steps = 12
    mixture = GaussianMixture(
        2,
        tol=0,
        max_iter=steps - 1,
        weights_init=share.mean(0),
        means_init=[[values[~upper].mean()], [values[upper].mean()]],
        precisions_init=[[[1 / (values[~upper].var() + 1e-6)]], [[1 / (values[upper].var() + 1e-6)]]],
    )
    with pytest.warns(Warning, match="did not converge"):
        mixture.fit(values)
    posterior = mixture.predict_proba(values)[:, 1].reshape(x[0].shape)
    expected = (posterior > 0.5) & (x[0] / x[0].max() > mixture.means_[0, 0])
    got = thresholds.mask_gmm(torch.from_numpy(x), steps)[0].numpy()
    assert expected.any()
    assert (got != expected).mean() <= 2e-3


@given(frames, st.floats(0.05, 0.99))
def test_mass(x, share):
    found = thresholds.threshold_mass(torch.from_numpy(x), share).flatten().numpy()
    for frame, threshold in zip(x, found, strict=True):
        ordered = np.sort(frame.ravel())[::-1]
        kept = np.cumsum(ordered)
        # Of all thresholds the least that leaves no more than the share above it: that of the first value beyond.
        expected = ordered[np.searchsorted(kept, share * kept[-1], side="right")]
        assert threshold == pytest.approx(expected, abs=1e-6 * frame.max())


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e6])
def test_mass_in_single_precision_does_not_depend_on_the_scale(scale):
    x = torch.from_numpy(blobs(4)).float()
    found = thresholds.threshold_mass(x * scale, 0.7) / scale
    assert torch.allclose(found, thresholds.threshold_mass(x, 0.7), rtol=1e-5)


@given(frames)
def test_li_settles_where_scikit_image_does(x):
    settled = thresholds.threshold_li(torch.from_numpy(x), 200).flatten()
    for frame, threshold in zip(x, settled.tolist(), strict=True):
        assert threshold == pytest.approx(filters.threshold_li(frame, tolerance=1e-9), rel=1e-5)


@given(frames, st.floats(0.1, 1))
def test_a_fraction_of_otsu(x, fraction):
    whole = thresholds.threshold_otsu(torch.from_numpy(x))
    assert torch.equal(thresholds.threshold_otsu(torch.from_numpy(x), fraction), fraction * whole)
