"""Local contrast and morphology against OpenCV; what the gate keeps of a line, a spot and an area."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from lrp_edge.card import MaskSpec
from lrp_edge.errors import LrpEdgeError
from lrp_edge.relevance import outlines
from lrp_edge.relevance.masks import MaskHead
from lrp_edge.synthetic import KINDS, draw

images = st.builds(
    lambda kind, seed, height, width: draw(kind, seed, (height, width))[0],
    st.sampled_from(KINDS),
    st.integers(0, 1000),
    st.integers(64, 100),
    st.integers(64, 100),
)


def contrast_of_opencv(gray, window, detail):
    """The same in float64 by OpenCV, from the definition."""
    gray = gray.astype(np.float64)

    def box(x, side):
        return cv2.blur(x, (side, side), borderType=cv2.BORDER_REPLICATE)

    variance = box(gray**2, window) - box(gray, window) ** 2
    return np.abs(box(gray, window) - box(gray, detail)) / np.sqrt(np.maximum(variance, outlines.NOISE**2))


@given(images, st.sampled_from([1, 3, 9, 31]))
def test_closing_of_gray_values(image, side):
    found = outlines.close_gray(torch.from_numpy(image).float()[None], side)[0].numpy()
    assert np.array_equal(found, cv2.morphologyEx(image, cv2.MORPH_CLOSE, np.ones((side, side))))


@given(images, st.sampled_from([7, 15, 31, 51]), st.sampled_from([1, 3, 5]))
def test_local_contrast(image, window, detail):
    found = outlines.local_contrast(torch.from_numpy(image).float()[None], window, detail)[0].numpy()
    assert np.allclose(found, contrast_of_opencv(image, window, detail), rtol=1e-3, atol=1e-3)


@given(st.integers(0, 1000), st.floats(0.3, 2), st.floats(0, 60))
def test_exposure_does_not_matter_above_the_noise(seed, gain, offset):
    x = torch.from_numpy(np.random.default_rng(seed).normal(100, 10, (1, 40, 50)))
    assert torch.allclose(outlines.local_contrast(gain * x + offset), outlines.local_contrast(x), rtol=1e-6)


@pytest.mark.parametrize("value", [0, 128, 255])
def test_a_flat_image_has_no_contrast(value):
    assert outlines.local_contrast(torch.full((2, 40, 50), float(value))).abs().max() < 1e-3


@given(images, st.sampled_from([3, 5, 9, 31]))
def test_box_mean(image, side):
    expected = cv2.blur(image.astype(np.float64), (side, side), borderType=cv2.BORDER_REPLICATE)
    assert np.allclose(outlines.box_mean(torch.from_numpy(image).double()[None], side)[0], expected)


@given(st.integers(0, 1000), st.sampled_from([1, 3, 5, 7, 13, 31]))
def test_morphology(seed, side):
    mask = np.random.default_rng(seed).random((2, 30, 41)) < 0.4
    kernel = np.ones((side, side), np.uint8)
    for ours, operation in ((outlines.close, cv2.MORPH_CLOSE), (outlines.open_, cv2.MORPH_OPEN)):
        expected = [cv2.morphologyEx(frame.astype(np.uint8), operation, kernel) for frame in mask]
        assert np.array_equal(ours(torch.from_numpy(mask), side), np.stack(expected).astype(bool))


@given(st.integers(0, 1000), st.sampled_from([3, 7, 15]))
def test_thick_parts(seed, side):
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(60, 70)), 4)
    mask = (noise > noise.std()).astype(np.uint8)
    opened = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((side, side), np.uint8))
    expected = cv2.dilate(opened, np.ones((3, 3), np.uint8)) & mask
    assert np.array_equal(outlines.thick_parts(torch.from_numpy(mask[None] > 0), side)[0], expected > 0)


def scene():
    """A thin dark line and a wide gray area on a textured surface, and relevance that is wider than either."""
    image = np.random.default_rng(0).normal(120, 4, (160, 200))
    line, area = np.zeros((2, 160, 200), bool)
    line[40:42, 20:90] = area[80:150, 100:190] = True
    image = np.where(line, 60, np.where(area, 112, image)) + np.random.default_rng(1).normal(0, 2, image.shape)
    relevance = ndimage.maximum_filter((line | area).astype(np.float32), 9)
    return torch.from_numpy(image.clip(0, 255)).float()[None], line, area, torch.from_numpy(relevance)[None]


def test_a_line_gets_its_outline_and_a_thick_part_stays_whole():
    image, line, area, relevance = scene()
    wide = relevance[0].numpy() > 0.5
    gated = MaskHead(MaskSpec("fixed", {"contrast": 1.0}))(relevance, image)[0].numpy()
    spared = MaskHead(MaskSpec("fixed", {"contrast": 1.0, "thick": 25}))(relevance, image)[0].numpy()
    near_line, near_area = wide.copy(), wide.copy()
    near_line[70:], near_area[:70] = False, False
    assert (gated & line).sum() >= 0.95 * line.sum()
    assert (gated & near_line).sum() < 2 * line.sum() < (wide & near_line).sum() / 2
    assert (gated & area).sum() < 0.3 * area.sum()
    assert np.array_equal(spared & near_line, gated & near_line)
    assert np.array_equal(spared & near_area, wide & near_area)


def two_means_of_opencv(gray, mask, steps, window, detail):
    """The same in float64 by OpenCV; and how far each pixel is from where it would be decided otherwise."""
    gray = gray.astype(np.float64)

    def sums(x):
        return cv2.boxFilter(x, -1, (window, window), normalize=False, borderType=cv2.BORDER_CONSTANT)

    near = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5))) > 0
    outside = ~near + 1e-6
    smooth = cv2.blur(gray, (detail, detail), borderType=cv2.BORDER_REPLICATE)
    differs = smooth - sums(gray * outside) / sums(outside)
    closest = np.full(gray.shape, np.inf)
    for _ in range(steps):
        inside = sums(differs * mask) / np.maximum(sums(mask.astype(np.float64)), 1)
        margin = differs * inside - inside**2 / 2
        closest = np.minimum(closest, np.where(near, np.abs(margin), np.inf))
        mask = near & (margin > 0)
    return mask, closest


@given(images, st.sampled_from([15, 31]), st.sampled_from([1, 3]), st.integers(1, 3), st.integers(0, 1000))
def test_two_means(image, window, detail, steps, seed):
    blurred = ndimage.gaussian_filter(np.random.default_rng(seed).normal(0, 1, image.shape), 4)
    mask = blurred > np.quantile(blurred, 0.95)
    expected, closest = two_means_of_opencv(image, mask, steps, window, detail)
    frame, start = torch.from_numpy(image).double()[None], torch.from_numpy(mask)[None]
    found = outlines.two_means(frame, start, steps, window, detail)[0].numpy()
    # A pixel in the very middle is decided by the last bit, and changes the means of the next step.
    if closest.min() > 1e-6:
        assert np.array_equal(found, expected)
    first, closest = two_means_of_opencv(image, mask, 1, window, detail)
    single = outlines.two_means(frame.float(), start, 1, window, detail)[0].numpy()
    assert np.array_equal(single | (closest < 1e-2), first | (closest < 1e-2))


@pytest.mark.parametrize("change", [-60, 60])
@pytest.mark.parametrize("start", ["wider", "thinner"])
def test_two_means_find_the_outline_of_what_is_dark_or_bright(change, start):
    image = np.random.default_rng(0).normal(120, 3, (120, 160))
    hole, line = np.zeros((2, *image.shape), np.uint8)
    cv2.ellipse(hole, (60, 50), (14, 7), 30, 0, 360, 1, -1)
    cv2.line(line, (90, 90), (150, 110), 1, 2)
    truth = (hole | line) > 0
    image = torch.from_numpy(image + np.where(truth, change, 0)).float()[None]
    mask = cv2.dilate(hole | line, np.ones((13, 13))) if start == "wider" else cv2.erode(hole, np.ones((5, 5))) | line
    found = outlines.two_means(image, torch.from_numpy(mask > 0)[None], 3)[0].numpy()

    def iou(got):
        return (got & truth).sum() / (got | truth).sum()

    print(f"{iou(mask > 0):.2f} -> {iou(found):.2f}")
    assert iou(mask > 0) < 0.7
    assert iou(found) > 0.85


@pytest.mark.parametrize("parameters", [{"contrast": 1.0}, {"two_means": 3}])
def test_an_outline_needs_the_image(parameters):
    with pytest.raises(LrpEdgeError, match="an outline needs the image"):
        MaskHead(MaskSpec(parameters=parameters))(torch.rand(1, 9, 9))
