"""Mask heads against NumPy, SciPy, scikit-image, scikit-learn and OpenCV."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from kornia.filters import guided_blur
from scipy import ndimage
from skimage import filters
from sklearn.mixture import GaussianMixture

from lrp_edge.card import MaskSpec
from lrp_edge.errors import LrpEdgeError
from lrp_edge.relevance import masks


def blobs(seed=0, count=3, height=48, width=61):
    """Relevance as it looks: a low noisy floor, and a few strong spots."""
    draw = np.random.default_rng(seed)
    x = np.abs(draw.normal(0, 0.05, (count, height, width)))
    for frame in x:
        for _ in range(3):
            frame[tuple(draw.integers(8, [height - 8, width - 8]))] += draw.uniform(20, 60)
    return ndimage.gaussian_filter(x, (0, 2.5, 2.5))


frames = st.builds(blobs, st.integers(0, 10_000), st.integers(1, 3), st.integers(20, 50), st.integers(20, 50))


@given(frames, st.floats(0.05, 0.95))
def test_fixed(x, fraction):
    expected = fraction * x.max((1, 2))
    assert np.allclose(masks.threshold_fixed(torch.from_numpy(x), fraction).flatten(), expected)


@given(frames, st.floats(0.5, 0.99))
def test_quantile(x, q):
    # A hundredth of a pixel from a whole number of them, the head takes the neighbour by design.
    assume(abs(x[0].size * q - round(x[0].size * q)) > 0.011)
    expected = np.quantile(x, q, axis=(1, 2), method="inverted_cdf")
    assert np.allclose(
        masks.threshold_quantile(torch.from_numpy(x), q).flatten(), expected, rtol=0, atol=1e-6 * x.max()
    )


@pytest.mark.parametrize("q", [0.5, 0.55, 0.9, 0.95, 0.99])
def test_quantile_at_a_whole_number_of_pixels(q):
    x = torch.randperm(400).reshape(1, 20, 20).float()
    assert int((x > masks.threshold_quantile(x, q)).sum()) == round(400 * (1 - q))


@given(frames)
def test_otsu(x):
    expected = [filters.threshold_otsu(frame) for frame in x]
    assert np.allclose(masks.threshold_otsu(torch.from_numpy(x)).flatten(), expected, rtol=1e-9)


@given(frames)
def test_histogram(x):
    low, high = x.min((1, 2), keepdims=True), x.max((1, 2), keepdims=True)
    counts = masks.histogram(*map(torch.from_numpy, (x, low, high))).numpy()
    expected = np.stack([np.histogram(frame, masks.BINS)[0] for frame in x])
    assert counts.sum(1).tolist() == [frame.size for frame in x]
    # An edge falls to one side or the other by the last bit.
    assert np.abs(counts - expected).sum() <= 2 * len(x)


@given(frames)
def test_isodata(x):
    for frame, got in zip(x, masks.threshold_isodata(torch.from_numpy(x)).flatten().tolist(), strict=True):
        threshold = frame.mean()
        for _ in range(24):
            threshold = (frame[frame > threshold].mean() + frame[frame <= threshold].mean()) / 2
        assert got == pytest.approx(threshold, rel=1e-9)


def test_isodata_settles_where_scikit_image_does():
    x = blobs(1, 1)
    settled = masks.threshold_isodata(torch.from_numpy(x), 200).item()
    fixed_points = filters.threshold_isodata(x[0], 4096, return_all=True)
    assert np.abs(fixed_points - settled).min() <= x.max() / 500


def test_gmm_against_scikit_learn():
    x = blobs(3, 1)
    values = (x[0] / x[0].max()).reshape(-1, 1)
    upper = values > masks.threshold_isodata(torch.from_numpy(values.reshape(1, 1, -1))).item()
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
    got = masks.mask_gmm(torch.from_numpy(x), steps)[0].numpy()
    assert expected.any()
    assert (got != expected).mean() <= 2e-3


@given(frames, st.sampled_from([3, 5, 9]))
def test_box(x, side):
    expected = ndimage.uniform_filter(x, (0, side, side), mode="nearest")
    assert np.allclose(masks.smoothing_from(f"box:{side}")(torch.from_numpy(x), None), expected, atol=1e-12)


@given(frames, st.sampled_from([0.7, 1.0, 2.3]))
def test_gaussian(x, sigma):
    expected = ndimage.gaussian_filter(x, (0, sigma, sigma), mode="nearest")
    assert np.allclose(masks.smoothing_from(f"gaussian:{sigma}")(torch.from_numpy(x), None), expected, atol=1e-12)


@given(frames)
def test_median(x):
    expected = np.stack([ndimage.median_filter(frame, 3, mode="nearest") for frame in x])
    assert np.array_equal(masks.median3(torch.from_numpy(x)), expected)


@given(frames, st.sampled_from([3, 5, 9]), st.integers(0, 100), st.floats(0.1, 40))
def test_guided_against_kornia(x, side, seed, gain):
    draw = np.random.default_rng(seed)
    image = np.cumsum(draw.normal(size=x.shape), 2) + 3 * (x > 0.3 * x.max((1, 2), keepdims=True))
    got = masks.smoothing_from(f"guided:{side}")(torch.from_numpy(x), torch.from_numpy(gain * image + 7))
    for frame, guide, found in zip(x, image, got, strict=True):
        centred = torch.from_numpy((guide - guide.mean()) / guide.std())[None, None]
        expected = guided_blur(centred, torch.from_numpy(frame)[None, None], side, masks.EDGE, "replicate")
        assert np.allclose(found, expected[0, 0].clamp(min=0), atol=1e-6 * frame.max())


def test_guided_moves_relevance_to_the_outline_of_the_defect():
    """Relevance blurred beyond a dark disc is drawn back to it."""
    rows, columns = np.mgrid[:64, :64]
    disc = (rows - 30) ** 2 + (columns - 34) ** 2 < 49
    image = np.where(disc, 60.0, 120.0) + np.random.default_rng(0).normal(0, 3, disc.shape)
    relevance = ndimage.gaussian_filter(disc.astype(float), 5)

    def iou(smoothing):
        head = masks.MaskHead(MaskSpec("otsu", smoothing=smoothing))
        found = head(torch.from_numpy(relevance)[None], torch.from_numpy(image)[None])[0].numpy()
        return (found & disc).sum() / (found | disc).sum()

    assert iou("guided:17") > 0.9
    assert iou("guided:17") > iou("none") + 0.2
    with pytest.raises(LrpEdgeError, match="guided needs the image"):
        masks.MaskHead(MaskSpec(smoothing="guided:5"))(torch.rand(1, 9, 9))


@pytest.mark.parametrize("method", masks.HEADS)
def test_nothing_below_the_floor_is_masked(method):
    x = torch.from_numpy(blobs(2, 2))
    own = {"threshold": 0.1} if method == "calibrated" else {}
    floor = 0.6 * float(x.amax())
    found = masks.MaskHead(MaskSpec(method, {**own, "floor": floor}))(x)
    without = masks.MaskHead(MaskSpec(method, own))(x)
    assert torch.equal(found, without & (x > floor))
    assert found.any()


@given(st.integers(1, 300), st.floats(1e-15, 1e6))
def test_the_effective_area_of_equal_values_is_theirs(area, value):
    x = torch.zeros(2, 20, 30, dtype=torch.float64)
    x[0].flatten()[:area] = value
    assert masks.effective_area(x).flatten().tolist() == pytest.approx([area, 0])


@given(frames, st.floats(20, 2000))
def test_spread_divides_the_thresholds(x, spread):
    area = x.sum((1, 2)) ** 2 / (x**2).sum((1, 2))
    factor = np.maximum(1, area / spread) ** 2
    assert np.allclose(masks.widening(torch.from_numpy(x), spread).flatten(), factor, rtol=1e-9)
    threshold = [filters.threshold_otsu(frame) for frame in x]
    lowest = np.maximum(threshold, floor := float(np.median(x))) / factor
    found = masks.MaskHead(MaskSpec("otsu", {"floor": floor, "spread": spread}))(torch.from_numpy(x))
    # At the threshold itself the last bit decides.
    clear = np.abs(x - lowest[:, None, None]) > 1e-9 * x.max()
    assert np.array_equal(found.numpy()[clear], (x > lowest[:, None, None])[clear])


def test_an_area_is_widened_and_a_spot_is_not():
    """What is faint next to peaks is reached where relevance is spread, and only there."""
    draw = np.random.default_rng(0)
    spot, wide = (np.exp(15 * ndimage.gaussian_filter(draw.normal(size=(200, 200)), 3)) for _ in range(2))
    rows, columns = np.mgrid[:200, :200]
    spot[(rows - 50) ** 2 + (columns - 90) ** 2 > 12**2] = 0
    wide[(rows - 100) ** 2 + (columns - 100) ** 2 > 80**2] = 0
    x = torch.from_numpy(np.stack([spot, wide]))
    without, found = (masks.MaskHead(MaskSpec("otsu", given))(x) for given in ({}, {"spread": 1000.0}))
    assert torch.equal(found[0], without[0])
    assert found[1].sum() > 1.5 * without[1].sum()
    assert not (found[1] & (x[1] == 0)).any()


@given(st.integers(0, 1000), st.sampled_from([3, 5, 7]))
def test_morphology(seed, side):
    mask = np.random.default_rng(seed).random((2, 30, 41)) < 0.4
    kernel = np.ones((side, side), np.uint8)
    for ours, operation in ((masks.close, cv2.MORPH_CLOSE), (masks.open_, cv2.MORPH_OPEN)):
        expected = [cv2.morphologyEx(frame.astype(np.uint8), operation, kernel) for frame in mask]
        assert np.array_equal(ours(torch.from_numpy(mask), side), np.stack(expected).astype(bool))


@pytest.mark.parametrize("method", [m for m in masks.HEADS if m != "calibrated"])
def test_no_positive_relevance_gives_an_empty_mask(method):
    relevance = torch.stack([torch.zeros(20, 20), -torch.rand(20, 20)])
    assert not masks.MaskHead(MaskSpec(method))(relevance).any()


@pytest.mark.parametrize("method", [m for m in masks.HEADS if m != "calibrated"])
def test_each_head_finds_the_spots(method):
    x = blobs(5, 2)
    truth = x > 0.5 * x.max((1, 2), keepdims=True)
    found = masks.MaskHead(MaskSpec(method, smoothing="median:3"))(torch.from_numpy(x).float()).numpy()
    assert (found & truth).sum() / truth.sum() > 0.95
    assert found.mean() < 0.25


@given(st.lists(st.floats(0, 10), min_size=1, max_size=50), st.floats(0, 1))
def test_calibration_keeps_the_budget(maxima, budget):
    threshold = masks.calibrate(torch.tensor(maxima, dtype=torch.float64), budget)
    assert sum(value > threshold for value in maxima) <= budget * len(maxima)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (MaskSpec("otzu"), r"no mask head 'otzu'; did you mean otsu\? expected one of fixed"),
        (MaskSpec("otsu", {"q": 0.5}), "no parameter 'q'; expected one of spread, floor"),
        (MaskSpec("gmm", {"spread": 9}), "no parameter 'spread'; expected one of steps, floor"),
        (MaskSpec("otsu", {"spread": 0}), "spread is 0; expected pixels"),
        (MaskSpec("fixed", {"fraction": 1.5}), "fraction is 1.5; expected 0 to 1"),
        (MaskSpec("calibrated"), "needs a threshold"),
        (MaskSpec(smoothing="box:4"), "guided:K with odd K"),
        (MaskSpec(smoothing="gaussian"), "expected none, box:K"),
        (MaskSpec(close=4), "mask close is 4; expected an odd number"),
    ],
)
def test_what_cannot_be_built_is_refused(spec, message):
    with pytest.raises(LrpEdgeError, match=message):
        masks.MaskHead(spec)
