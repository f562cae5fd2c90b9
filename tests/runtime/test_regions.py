"""Regions of a mask against scikit-image and a slow form; rules at and next to their limits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import pdist
from skimage.measure import label, regionprops

from lrp_edge.errors import LrpEdgeError
from lrp_edge.runtime.regions import Region, Regions, Rule, find_regions, survey

masks = st.tuples(st.integers(1, 24), st.integers(1, 24), st.floats(0.02, 0.98), st.integers(0, 2**31)).map(
    lambda drawn: (np.random.default_rng(drawn[3]).random(drawn[:2]) < drawn[2]).astype(np.uint8) * 255
)


def of(*rows: str) -> np.ndarray:
    return np.array([[255 * (pixel == "#") for pixel in row] for row in rows], np.uint8)


def slow_extent(rows: np.ndarray, columns: np.ndarray) -> float:
    """Every point half a pixel from every pixel's centre, with every other."""
    centres = np.stack([columns, rows], 1).astype(float)
    outline = np.concatenate([centres + step for step in ((0.5, 0), (-0.5, 0), (0, 0.5), (0, -0.5))])
    return float(pdist(outline).max())


def assert_as_skimage(mask: np.ndarray, relevance: np.ndarray) -> None:
    theirs = regionprops(label(mask > 0, connectivity=2), intensity_image=relevance.astype(np.float64))
    theirs.sort(key=lambda region: (-region.area, region.bbox[0], region.bbox[1]))
    found = find_regions(mask, relevance)
    assert len(found) == len(theirs)
    for mine, other in zip(found, theirs, strict=True):
        top, left, bottom, right = other.bbox
        assert (mine.x, mine.y, mine.width, mine.height) == (left, top, right - left, bottom - top)
        assert mine.area == other.area
        assert mine.relevance == pytest.approx(other.intensity_mean, rel=1e-5)
        assert mine.extent == pytest.approx(slow_extent(*other.coords.T))
        # scikit-image draws the hull as pixels first, which adds up to half a pixel at each end.
        assert mine.extent - 1e-9 <= other.feret_diameter_max <= mine.extent + 1


@given(masks)
def test_regions_are_those_of_scikit_image(mask: np.ndarray) -> None:
    relevance = np.random.default_rng(mask.size).uniform(0.1, 1, mask.shape).astype(np.float32)
    # Equal ones of one corner have no order of their own.
    boxes = [region.bbox[:2] for region in regionprops(label(mask > 0, connectivity=2))]
    assume(len(set(boxes)) == len(boxes))
    assert_as_skimage(mask, relevance)


@given(arrays(np.uint8, (9, 9), elements=st.sampled_from([0, 1, 7, 255])))
def test_whatever_is_not_zero_is_inside(mask: np.ndarray) -> None:
    assert find_regions(mask) == find_regions((mask > 0).astype(np.uint8) * 255)
    assert sum(region.area for region in find_regions(mask)) == np.count_nonzero(mask)


def test_a_region_in_the_hole_of_another() -> None:
    mask = of(
        "#########",
        "#.......#",
        "#.#####.#",
        "#.#...#.#",
        "#.#.#.#.#",
        "#.#...#.#",
        "#.#####.#",
        "#.......#",
        "#########",
    )
    assert_as_skimage(mask, np.arange(mask.size, dtype=np.float32).reshape(mask.shape) + 1)
    outer, inner, innermost = find_regions(mask)
    assert (outer.area, inner.area, innermost.area) == (32, 16, 1)
    assert (inner.x, inner.y, inner.width, inner.height) == (2, 2, 5, 5)
    assert outer.extent == pytest.approx(np.hypot(9, 8))


def test_pixels_that_touch_at_a_corner_are_connected() -> None:
    assert [region.area for region in find_regions(of("#..", ".#.", "..#"))] == [3]
    assert [region.area for region in find_regions(of("#.#", "...", "#.#"))] == [1, 1, 1, 1]


def test_extents_known_by_hand() -> None:
    (pixel,) = find_regions(of("...", ".#.", "..."))
    assert (pixel.x, pixel.y, pixel.width, pixel.height, pixel.area, pixel.extent) == (1, 1, 1, 1, 1, 1.0)
    (line,) = find_regions(of("####"))
    assert line.extent == 4
    (square,) = find_regions(np.full((4, 4), 255, np.uint8))
    assert square.extent == pytest.approx(np.hypot(4, 3))


def test_a_full_frame_and_an_empty_one() -> None:
    mask = np.full((480, 640), 255, np.uint8)
    (region,) = find_regions(mask, np.full(mask.shape, 0.25, np.float32))
    assert (region.x, region.y, region.width, region.height, region.area) == (0, 0, 640, 480, 480 * 640)
    assert region.extent == pytest.approx(np.hypot(640, 479))
    assert region.relevance == 0.25
    assert find_regions(np.zeros((480, 640), np.uint8)) == ()


def test_a_view_of_a_frame_is_taken() -> None:
    mask = np.zeros((20, 30), np.uint8)
    mask[4:10:2, 6:12:2] = 255
    assert find_regions(mask[::2, ::2]) == find_regions(mask[::2, ::2].copy())
    assert [region.area for region in find_regions(mask[::2, ::2])] == [9]


def test_the_largest_first_then_the_upper_then_the_left() -> None:
    found = find_regions(of("#...#", ".....", "#.##.", ".....", "###.#"))
    assert [(region.area, region.y, region.x) for region in found] == [
        (3, 4, 0),
        (2, 2, 2),
        (1, 0, 0),
        (1, 0, 4),
        (1, 2, 0),
        (1, 4, 4),
    ]


@given(masks, st.integers(1, 12))
def test_small_regions_are_left_out(mask: np.ndarray, least: int) -> None:
    assert find_regions(mask, min_area=least) == tuple(r for r in find_regions(mask) if r.area >= least)


@given(masks, st.integers(1, 12), st.integers(1, 40))
def test_the_largest_are_listed_and_all_are_counted(mask: np.ndarray, least: int, most: int) -> None:
    relevance = np.random.default_rng(mask.size).uniform(0.1, 1, mask.shape).astype(np.float32)
    every = [region for region in find_regions(mask, relevance) if region.area >= least]
    assert survey(mask, relevance, least) == Regions.of(every)
    found = survey(mask, relevance, least, most, longest=True)
    assert found.listed == tuple(every[:most])
    assert found.count == len(every)
    assert found.area == sum(region.area for region in every)
    assert found.extent == max((region.extent for region in every), default=0)
    assert survey(mask, relevance, least, most).extent == max((region.extent for region in every[:most]), default=0)


@pytest.mark.parametrize("text", ["any region > 30 px", "total area > 1000 px", "any extent > 100 px", "regions > 900"])
@pytest.mark.parametrize("most", [1, 10, 1000])
def test_a_rule_is_about_all_regions_however_few_are_listed(text: str, most: int) -> None:
    mask = np.zeros((240, 320), np.uint8)
    mask[::8, ::8] = 255
    mask[4, :120] = 255
    mask[100:120, 200:220] = 255
    every, rule = Regions.of(find_regions(mask)), Rule.parse(text)
    assert rule.reason(every)
    found = survey(mask, None, 1, most, longest=rule.needs_extents)
    assert rule.reason(found) == rule.reason(every)
    assert len(found.listed) == min(most, every.count)


def test_a_mask_of_noise_is_counted_and_its_largest_regions_measured() -> None:
    mask = np.where(np.random.default_rng(0).random((2048, 2448)) < 0.05, 255, 0).astype(np.uint8)
    theirs = label(mask > 0, connectivity=2)
    areas = np.sort(np.bincount(theirs.ravel())[1:])[::-1]
    found = survey(mask, mask.astype(np.float32), 1, 1000)
    assert (found.count, found.area) == (len(areas), np.count_nonzero(mask))
    assert [region.area for region in found.listed] == areas[:1000].tolist()
    assert {region.relevance for region in found.listed} == {255.0}


def part(area: int, extent: float = 1.0) -> Region:
    return Region(0, 0, 1, 1, area, extent, 0.0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("any region > 2.5 mm2", Rule("any region", ">", 2.5, "mm²")),
        ("any region > 2.5 mm²", Rule("any region", ">", 2.5, "mm²")),
        ("any region>2.5mm2", Rule("any region", ">", 2.5, "mm²")),
        ("reject if any region >= 12 px", Rule("any region", ">=", 12, "px")),
        ("Reject  If ANY Region > 3 MM2", Rule("any region", ">", 3, "mm²")),
        ("any region > 400", Rule("any region", ">", 400, "px")),
        ("total area > 400 px2", Rule("total area", ">", 400, "px")),
        ("total area > 400 px²", Rule("total area", ">", 400, "px")),
        ("any extent > 3 mm", Rule("any extent", ">", 3, "mm")),
        ("any extent >= 30.25", Rule("any extent", ">=", 30.25, "px")),
        ("  regions > 4 ", Rule("regions", ">", 4, "")),
    ],
)
def test_rules_that_are_understood(text: str, expected: Rule) -> None:
    rule = Rule.parse(text)
    assert rule == expected
    assert rule.needs_scale == (expected.unit in ("mm", "mm²"))
    assert Rule.parse(str(rule)) == rule


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not understood"),
        ("reject if", "not understood"),
        ("any region", "not understood"),
        ("any region < 3 px", "not understood"),
        ("any region => 3 px", "not understood"),
        ("any region > -3 px", "not understood"),
        ("any region > 2,5 mm2", "not understood"),
        ("any region > 3 cm2", "not understood"),
        ("any region > 3 px and regions > 2", "not understood"),
        ("area > 3 px", "not understood"),
        ("any region > 3 mm", "'any region' is not measured in mm;"),
        ("total area > 3 mm", "'total area' is not measured in mm;"),
        ("any extent > 3 mm2", "'any extent' is not measured in mm²"),
        ("any extent > 3 px2", "'any extent' is not measured in px²"),
        ("regions > 3 px", "'regions' is not measured in px"),
    ],
)
def test_rules_that_are_refused(text: str, words: str) -> None:
    with pytest.raises(LrpEdgeError) as refused:
        Rule.parse(text)
    assert words in str(refused.value)
    assert repr(text) in str(refused.value)
    assert "any region > 2.5 mm2" in str(refused.value)
    assert "\n" not in str(refused.value)


PARTS = Regions.of((part(120, 31.5), part(30, 40.0)))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("any region > 119 px", "any region 120 px > 119 px"),
        ("any region > 120 px", ""),
        ("any region >= 120 px", "any region 120 px >= 120 px"),
        ("total area > 149.5 px", "total area 150 px > 149.5 px"),
        ("total area > 150 px", ""),
        ("any extent > 39 px", "any extent 40 px > 39 px"),
        ("any extent >= 41 px", ""),
        ("regions > 1", "regions 2 > 1"),
        ("regions > 2", ""),
        ("any region > 1.1 mm2", "any region 1.2 mm² > 1.1 mm²"),
        ("any region > 1.3 mm2", ""),
        ("total area >= 1.6 mm2", ""),
        ("any extent > 3.9 mm", "any extent 4 mm > 3.9 mm"),
        ("any extent > 1234567 px", ""),
    ],
)
def test_what_a_rule_says_of_regions(text: str, reason: str) -> None:
    assert Rule.parse(text).reason(PARTS, mm_per_px=0.1) == reason


@given(st.integers(1, 5000), st.sampled_from([0.1, 0.05, 0.03, 0.007]))
def test_a_limit_in_millimetres_is_met_exactly(area: int, side: float) -> None:
    limit = f"{area * side**2:.6f}".rstrip("0").rstrip(".")
    assert Rule.parse(f"any region > {limit} mm2").reason(Regions.of([part(area)]), side) == ""
    assert Rule.parse(f"any region >= {limit} mm2").reason(Regions.of([part(area)]), side) != ""
    assert Rule.parse(f"any region > {limit} mm2").reason(Regions.of([part(area + 1)]), side) != ""
    assert Rule.parse(f"any region >= {limit} mm2").reason(Regions.of([part(area - 1)]), side) == ""


@pytest.mark.parametrize("what", ["any region", "total area", "any extent", "regions"])
def test_nothing_is_never_rejected(what: str) -> None:
    assert Rule.parse(f"{what} > 0").reason(Regions()) == ""


def test_millimetres_need_a_scale() -> None:
    with pytest.raises(LrpEdgeError, match=r"'any extent > 3 mm' is in millimetres; .*--mm-per-px"):
        Rule.parse("any extent > 3 mm").reason(PARTS)
    assert Rule.parse("any extent > 30 px").reason(PARTS) != ""


def test_large_figures_are_said_in_full() -> None:
    reason = Rule.parse("any region > 1000000.5 px").reason(Regions.of([part(31_457_280)]))
    assert reason == "any region 31457280 px > 1000000.5 px"
