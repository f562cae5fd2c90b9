"""Mask heads: floor, spread, outline and areas, and what cannot be built."""

import dataclasses

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from skimage import filters

from lrp_edge.card import MaskSpec
from lrp_edge.errors import LrpEdgeError
from lrp_edge.relevance import masks
from tests.support.relevance import blobs, frames


@pytest.mark.parametrize("method", masks.HEADS)
def test_nothing_below_the_floor_is_masked(method):
    x = torch.from_numpy(blobs(2, 2))
    own = {"threshold": 0.1} if method == "calibrated" else {}
    floor = 0.6 * float(x.amax())
    found = masks.MaskHead(MaskSpec(method, {**own, "floor": floor}))(x)
    without = masks.MaskHead(MaskSpec(method, own))(x)
    assert torch.equal(found, without & (x > floor))
    assert found.any()


@given(frames, st.floats(0, 1), st.booleans())
def test_strength_is_the_floor_below_which_a_pixel_is_masked(x, share, area):
    x, areas = torch.from_numpy(x), torch.full((len(x),), area)
    floor = share * float(x.amax())
    spec = MaskSpec("otsu", {"area_fraction": 0.1, "area_close": 7.0}, area_classes=("stain",))
    strength = masks.MaskHead(spec).strength(x, None, areas)
    with_floor = dataclasses.replace(spec, parameters={**spec.parameters, "floor": floor})
    assert torch.equal(masks.MaskHead(with_floor)(x, None, areas), strength > floor)


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


@pytest.mark.parametrize("method", [m for m in masks.HEADS if m != "calibrated"])
def test_no_positive_relevance_gives_an_empty_mask(method):
    relevance = torch.stack([torch.zeros(20, 20), -torch.rand(20, 20)])
    assert not masks.MaskHead(MaskSpec(method))(relevance).any()


@pytest.mark.parametrize("method", [m for m in masks.HEADS if m != "calibrated"])
def test_each_head_finds_the_spots(method):
    x = blobs(5, 2)
    truth = x > 0.5 * x.max((1, 2), keepdims=True)
    # Most of the relevance here is the noisy floor's.
    parameters = {"share": 0.3} if method == "mass" else {}
    found = masks.MaskHead(MaskSpec(method, parameters, "median:3"))(torch.from_numpy(x).float()).numpy()
    assert (found & truth).sum() / truth.sum() > 0.95
    assert found.mean() < 0.25


@given(frames, st.floats(0.01, 0.5), st.sampled_from([0, 5, 31]), st.lists(st.booleans(), min_size=3, max_size=3))
def test_frames_of_area_classes_are_filled(x, fraction, side, flags):
    areas = torch.tensor(flags[: len(x)])
    given_ = {"area_fraction": fraction, "area_close": float(side)}
    found = masks.MaskHead(MaskSpec("otsu", given_, area_classes=("worn",)))(torch.from_numpy(x), areas=areas).numpy()
    without = masks.MaskHead(MaskSpec("otsu"))(torch.from_numpy(x)).numpy()
    for frame, got, plain, area in zip(x, found, without, flags, strict=False):
        above = (frame > fraction * frame.max()).astype(np.uint8)
        filled = cv2.morphologyEx(above, cv2.MORPH_CLOSE, np.ones((side, side), np.uint8)) if side else above
        assert np.array_equal(got, filled > 0 if area else plain)


@given(frames)
def test_the_local_extent_is_that_of_windows_cut_by_hand(x):
    border, side = masks.EXTENT_WINDOW // 2, masks.EXTENT_WINDOW
    for signed, found in zip(x - 0.1, masks.local_extent(torch.from_numpy(x - 0.1)).flatten().tolist(), strict=True):
        frame = cv2.blur(np.maximum(signed, 0), (masks.EXTENT_DETAIL,) * 2, borderType=cv2.BORDER_REPLICATE)
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(frame, border, mode="edge"), (side, side))
        squares = np.maximum((windows**2).mean((2, 3)), (masks.FAINT * frame.max()) ** 2)
        areas = side**2 * windows.mean((2, 3)) ** 2 / squares
        assert found == pytest.approx((areas * frame).sum() / frame.sum(), rel=1e-6)


def test_the_local_extent_of_a_line_is_not_that_of_its_length():
    def spotted(drawn, count):
        for centre in ((50, 50), (300, 300))[:count]:
            cv2.circle(drawn, centre, 9, 1.0, -1)
        return drawn

    def extent_of(shape):
        drawn = np.zeros((400, 400), np.float32)
        return float(masks.local_extent(torch.from_numpy(shape(drawn))[None]))

    short, long = (extent_of(lambda drawn, end=end: cv2.line(drawn, (40, 60), (end, 80), 1.0, 9)) for end in (140, 360))
    one, two = (extent_of(lambda drawn, count=count: spotted(drawn, count)) for count in (1, 2))
    area = extent_of(lambda drawn: cv2.rectangle(drawn, (100, 100), (300, 250), 1.0, -1))
    assert long == pytest.approx(short, rel=0.25)
    assert two == pytest.approx(one, rel=1e-3)
    assert np.pi * 9**2 < one < 1.5 * np.pi * 9**2
    assert area > 2 * max(long, two)
    assert float(masks.local_extent(torch.zeros(1, 20, 30))) == 0


@given(frames, st.floats(20, 2000))
def test_frames_of_a_large_extent_are_filled(x, extent):
    area = masks.local_extent(torch.from_numpy(x)).flatten().numpy()
    spec = MaskSpec("otsu", {"area_extent": extent, "area_fraction": 0.1, "area_close": 5})
    found = masks.MaskHead(spec)(torch.from_numpy(x))
    named = MaskSpec("otsu", {"area_fraction": 0.1, "area_close": 5}, area_classes=("worn",))
    assert torch.equal(found, masks.MaskHead(named)(torch.from_numpy(x), areas=torch.from_numpy(area > extent)))


@given(st.lists(st.floats(0, 10), min_size=1, max_size=50), st.floats(0, 1))
def test_calibration_keeps_the_budget(maxima, budget):
    threshold = masks.calibrate(torch.tensor(maxima, dtype=torch.float64), budget)
    assert sum(value > threshold for value in maxima) <= budget * len(maxima)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (MaskSpec("otzu"), r"no mask head 'otzu'; did you mean otsu\? expected one of fixed"),
        (MaskSpec("otsu", {"q": 0.5}), "no parameter 'q'; expected one of fraction, spread, floor"),
        (MaskSpec("gmm", {"spread": 9}), "no parameter 'spread'; expected one of steps, floor"),
        (MaskSpec("otsu", {"spread": 0}), "spread is 0; expected pixels"),
        (MaskSpec("fixed", {"fraction": 1.5}), "fraction is 1.5; expected 0 to 1"),
        (MaskSpec("calibrated"), "needs a threshold"),
        (MaskSpec(smoothing="box:4"), "guided:K with odd K"),
        (MaskSpec(smoothing="gaussian"), "expected none, box:K"),
        (MaskSpec(close=4), "mask close is 4; expected an odd number"),
        (MaskSpec("mass", {"share": 2}), "share is 2; expected 0 to 1"),
        (MaskSpec("li", {"contrast": 0}), "contrast is 0; expected deviations, more than 0"),
        (MaskSpec("otsu", {"two_means": 2.5}), "two_means is 2.5; expected a whole number"),
        (MaskSpec("otsu", {"two_means": 0}), "two_means is 0; expected 1 to 20"),
        (MaskSpec("otsu", {"two_means": 3, "thick": 9}), "thick needs contrast"),
        (MaskSpec("otsu", {"window": 31}), "window needs contrast, the least one that is kept"),
        (MaskSpec("otsu", {"contrast": 1, "window": 30}), "window is 30; expected an odd number of pixels, 3 or more"),
        (MaskSpec("otsu", {"contrast": 1, "thick": 3.5}), "thick is 3.5; expected an odd number of pixels, or 0"),
        (MaskSpec("otsu", {"area_close": 31}), "area_close needs area classes, or area_extent"),
        (MaskSpec("otsu", {"area_fraction": 2}, area_classes=("worn",)), "area_fraction is 2; expected 0 to 1"),
        (MaskSpec("otsu", {"area_extent": 0}), "area_extent is 0; expected pixels"),
    ],
)
def test_what_cannot_be_built_is_refused(spec, message):
    with pytest.raises(LrpEdgeError, match=message):
        masks.MaskHead(spec)
