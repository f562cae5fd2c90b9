"""Smoothing against SciPy and kornia."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kornia.filters import guided_blur
from scipy import ndimage

from lrp_edge.card import MaskSpec
from lrp_edge.errors import LrpEdgeError
from lrp_edge.relevance import masks, smoothing
from tests.support.relevance import frames


@given(frames, st.sampled_from([3, 5, 9]))
def test_box(x, side):
    expected = ndimage.uniform_filter(x, (0, side, side), mode="nearest")
    assert np.allclose(smoothing.smoothing_from(f"box:{side}")(torch.from_numpy(x), None), expected, atol=1e-12)


@given(frames, st.sampled_from([0.7, 1.0, 2.3]))
def test_gaussian(x, sigma):
    expected = ndimage.gaussian_filter(x, (0, sigma, sigma), mode="nearest")
    assert np.allclose(smoothing.smoothing_from(f"gaussian:{sigma}")(torch.from_numpy(x), None), expected, atol=1e-12)


@given(frames)
def test_median(x):
    expected = np.stack([ndimage.median_filter(frame, 3, mode="nearest") for frame in x])
    assert np.array_equal(smoothing.median3(torch.from_numpy(x)), expected)


@given(frames, st.sampled_from([3, 5, 9]), st.integers(0, 100), st.floats(0.1, 40))
def test_guided_against_kornia(x, side, seed, gain):
    draw = np.random.default_rng(seed)
    image = np.cumsum(draw.normal(size=x.shape), 2) + 3 * (x > 0.3 * x.max((1, 2), keepdims=True))
    got = smoothing.smoothing_from(f"guided:{side}")(torch.from_numpy(x), torch.from_numpy(gain * image + 7))
    for frame, guide, found in zip(x, image, got, strict=True):
        centred = torch.from_numpy((guide - guide.mean()) / guide.std())[None, None]
        expected = guided_blur(centred, torch.from_numpy(frame)[None, None], side, smoothing.EDGE, "replicate")
        assert np.allclose(found, expected[0, 0].clamp(min=0), atol=1e-6 * frame.max())


def test_guided_moves_relevance_to_the_outline_of_the_defect():
    """Relevance blurred beyond a dark disc is drawn back to it."""
    rows, columns = np.mgrid[:64, :64]
    disc = (rows - 30) ** 2 + (columns - 34) ** 2 < 49
    image = np.where(disc, 60.0, 120.0) + np.random.default_rng(0).normal(0, 3, disc.shape)
    relevance = ndimage.gaussian_filter(disc.astype(float), 5)

    def iou(chosen):
        head = masks.MaskHead(MaskSpec("otsu", smoothing=chosen))
        found = head(torch.from_numpy(relevance)[None], torch.from_numpy(image)[None])[0].numpy()
        return (found & disc).sum() / (found | disc).sum()

    assert iou("guided:17") > 0.9
    assert iou("guided:17") > iou("none") + 0.2
    with pytest.raises(LrpEdgeError, match="guided needs the image"):
        masks.MaskHead(MaskSpec(smoothing="guided:5"))(torch.rand(1, 9, 9))
