"""Tiles: where they lie, what they weigh, and that what is put together is what the whole frame gives."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from lrp_edge.card import DecisionSpec, InputSpec, ModelCard
from lrp_edge.errors import LrpEdgeError
from lrp_edge.export import to_onnx
from lrp_edge.runtime import Segmenter, Tiler
from lrp_edge.runtime.tiles import Cut, check_tile, decide
from tests.support.exported import CARD, tiny
from tests.support.runtime_graphs import brightness_card, brightness_graph, expected

VOTES = ["any", "majority", "mean"]


@st.composite
def cuts(draw: st.DrawFn) -> Cut:
    frame, tile = (draw(st.tuples(st.integers(1, most), st.integers(1, most))) for most in (90, 40))
    overlap = tuple(draw(st.integers(0, side - 1)) for side in tile)
    return Cut(frame, tile, overlap)


@pytest.fixture(scope="module")
def segmenter(write_model: Callable[..., Path]) -> Segmenter:
    return Segmenter(write_model("GRAY"), provider="cpu", threads=1)


@given(cuts())
def test_tiles_lie_inside_and_weights_add_up_to_one(cut: Cut) -> None:
    total = np.zeros(cut.frame)
    for tile in cut:
        rows, columns = cut.place(*tile)
        assert 0 <= rows.start < rows.stop <= cut.frame[0]
        assert 0 <= columns.start < columns.stop <= cut.frame[1]
        size = (rows.stop - rows.start, columns.stop - columns.start)
        assert size == tuple(map(min, cut.tile, cut.frame))
        weight = cut.weight(*tile)
        assert weight.shape == size
        assert weight.min() > 0
        total[rows, columns] += weight
    np.testing.assert_allclose(total, 1, atol=1e-6)


@given(cuts())
def test_neighbours_overlap_as_asked_and_no_tile_is_spare(cut: Cut) -> None:
    for starts, length, tile, overlap in zip(cut.starts, cut.frame, cut.tile, cut.overlap, strict=True):
        assert all(0 < second - first <= tile - overlap for first, second in pairwise(starts))
        assert len(starts) == max(1, math.ceil((length - overlap) / (tile - overlap)))
        assert (starts[0], starts[-1]) == (0, max(0, length - tile))


def test_weights_are_raised_cosines() -> None:
    (weights, alone) = Cut((12, 5), (8, 8), (4, 4)).weights
    rise = np.sin(np.pi / 2 * np.array([0.125, 0.375, 0.625, 0.875])) ** 2
    np.testing.assert_allclose(weights, [[*np.ones(4), *rise[::-1]], [*rise, *np.ones(4)]], rtol=1e-6)
    np.testing.assert_array_equal(alone, np.ones((1, 5)))


@settings(max_examples=60)
@given(cuts(), st.sampled_from(VOTES), st.integers(0, 2**31), st.integers(0, 255))
def test_what_each_pixel_says_for_itself_is_as_from_the_whole_frame(
    segmenter: Segmenter, cut: Cut, vote: str, seed: int, least: int
) -> None:
    frame = np.random.default_rng(seed).integers(least, 256, (*cut.frame, 1), dtype=np.uint8)
    found = Tiler(segmenter, cut.tile, cut.overlap, vote=vote)(frame)
    _, _, mask, relevance = expected(frame)
    np.testing.assert_allclose(found.relevance, relevance, rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(found.mask, mask * found.defect)
    assert (found.mask.dtype, found.relevance.dtype, found.scores.dtype) == (np.uint8, np.float32, np.float32)
    assert found.mask.shape == found.relevance.shape == cut.frame
    assert found.mask.flags["C_CONTIGUOUS"]


def by_hand(frame: np.ndarray, tile: int, starts: list[tuple[int, int]], vote: str) -> tuple[int, np.ndarray]:
    """Say what the tiles at these places give together."""
    answers = [expected(frame[y : y + tile, x : x + tile]) for y, x in starts]
    scores = np.array([scores for scores, *_ in answers])
    if vote == "any":
        best = scores[:, 1].argmax()
        return answers[best][1], scores[best]
    if vote == "mean":
        return int(scores.mean(0).argmax()), scores.mean(0)
    defects = sum(label for _, label, *_ in answers)
    return int(2 * defects > len(answers)), np.array([len(answers) - defects, defects]) / len(answers)


@pytest.mark.parametrize("vote", VOTES)
@settings(max_examples=25)
@given(seed=st.integers(0, 2**31))
def test_class_and_scores_are_those_of_the_vote(segmenter: Segmenter, vote: str, seed: int) -> None:
    levels = np.random.default_rng(seed).integers(0, 160, (3, 3))
    assume((np.abs(levels - 80) > 3).all())
    frame = np.kron(levels, np.ones((8, 8))).astype(np.uint8)[..., None]
    starts = [(y, x) for y in (0, 8, 16) for x in (0, 8, 16)]
    label, scores = by_hand(frame, 8, starts, vote)
    assume(vote != "mean" or abs(scores[1] - 0.5) > 1e-3)
    found = Tiler(segmenter, (8, 8), (0, 0), vote=vote)(frame)
    np.testing.assert_allclose(found.scores, scores, atol=1e-5)
    assert (found.label, found.name, found.defect) == (label, ("ok", "stain")[label], label == 1)


THREE = ModelCard(("crack", "ok", "dent"), ("crack", "dent"))


@pytest.mark.parametrize(
    ("vote", "labels", "scores", "label", "of_frame"),
    [
        # A sure crack, and an unsure dent next to tiles that are surely OK.
        ("any", [1, 2, 0], [[0, 1, 0], [0.1, 0.4, 0.5], [0.7, 0.2, 0.1]], 0, [0.7, 0.2, 0.1]),
        ("any", [1, 2, 1], [[0, 1, 0], [0.1, 0.4, 0.5], [0.4, 0.6, 0]], 2, [0.1, 0.4, 0.5]),
        # Nothing is classified as a defect: the tile that is nearest to it speaks.
        ("any", [1, 1], [[0.1, 0.9, 0], [0, 0.6, 0.4]], 1, [0, 0.6, 0.4]),
        # With sigmoid scores an OK tile may give a defect more than a defect's own tile does.
        ("any", [1, 0], [[0.8, 0.9, 0], [0.3, 0.2, 0]], 0, [0.3, 0.2, 0]),
        ("majority", [1, 2, 2], [[0, 1, 0], [0, 0.4, 0.6], [0, 0.4, 0.6]], 2, [0, 1 / 3, 2 / 3]),
        ("majority", [1, 2], [[0, 0.6, 0.4], [0, 0.1, 0.9]], 2, [0, 0.5, 0.5]),
        ("majority", [1, 2], [[0, 0.9, 0.1], [0, 0.4, 0.6]], 1, [0, 0.5, 0.5]),
        ("mean", [1, 2, 2], [[0, 1, 0], [0, 0.4, 0.6], [0, 0.4, 0.6]], 1, [0, 0.6, 0.4]),
    ],
)
def test_votes_of_three_classes(
    vote: str, labels: list[int], scores: list[list[float]], label: int, of_frame: list[float]
) -> None:
    found, its_scores = decide(THREE, vote, labels, np.array(scores, np.float32))
    assert found == label
    np.testing.assert_allclose(its_scores, of_frame, rtol=1e-6)


@pytest.mark.parametrize(
    ("vote", "labels", "scores", "label", "of_frame"),
    [
        # The sum of a tile's defects speaks, not the greatest of them.
        ("any", [2, 0], [[0, 0.3, 0.7], [0.45, 0.2, 0.35]], 0, [0.45, 0.2, 0.35]),
        ("any", [1, 1], [[0.2, 0.45, 0.35], [0, 0.5, 0.5]], 1, [0.2, 0.45, 0.35]),
        ("mean", [2, 2], [[0, 0.2, 0.8], [0.2, 0.4, 0.4]], 2, [0.1, 0.3, 0.6]),
        ("mean", [2, 1], [[0, 0.2, 0.8], [0.2, 0.6, 0.2]], 1, [0.1, 0.4, 0.5]),
    ],
)
def test_votes_follow_the_threshold(
    vote: str, labels: list[int], scores: list[list[float]], label: int, of_frame: list[float]
) -> None:
    card = THREE.replace(decision=DecisionSpec(0.65))
    found, its_scores = decide(card, vote, labels, np.array(scores, np.float32))
    assert found == label
    np.testing.assert_allclose(its_scores, of_frame, rtol=1e-6)


def test_a_frame_smaller_than_a_tile_is_reflected(segmenter: Segmenter) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (5, 9, 1), dtype=np.uint8)
    found = Tiler(segmenter, (12, 32), (0, 0))(frame)
    scores, *_ = expected(np.pad(frame, ((0, 7), (0, 23), (0, 0)), mode="reflect"))
    np.testing.assert_allclose(found.scores, scores, atol=1e-5)


@pytest.mark.parametrize("vote", VOTES)
def test_gray_frames_need_no_channel_axis(segmenter: Segmenter, vote: str) -> None:
    frame = np.random.default_rng(0).integers(100, 256, (30, 41), dtype=np.uint8)
    tiler = Tiler(segmenter, (16, 16), (4, 4), vote=vote)
    flat, deep = tiler(frame), tiler(frame[..., None])
    assert flat.relevance.tobytes() == deep.relevance.tobytes()
    assert flat.mask.tobytes() == deep.mask.tobytes()


def test_colour_frames_and_views(model: Path) -> None:
    frame = np.random.default_rng(0).integers(90, 256, (60, 50, 3), dtype=np.uint8)[::2, ::-1]
    found = Tiler(Segmenter(model), (16, 16), (4, 4))(frame)
    np.testing.assert_allclose(found.relevance, expected(frame)[3], rtol=1e-5)


@pytest.mark.parametrize("vote", VOTES)
def test_nothing_of_a_frame_is_left_for_the_next(segmenter: Segmenter, vote: str) -> None:
    draw = np.random.default_rng(0)
    frames = [draw.integers(100, 256, size, dtype=np.uint8) for size in ((40, 50), (7, 9), (40, 50), (64, 20))]
    tiler = Tiler(segmenter, (16, 16), (5, 5), vote=vote)
    found = [tiler(frame) for frame in frames]
    for frame, result in zip(frames, found, strict=True):
        alone = Tiler(segmenter, (16, 16), (5, 5), vote=vote)(frame)
        assert alone.relevance.tobytes() == result.relevance.tobytes()
        assert alone.mask.tobytes() == result.mask.tobytes()


class Counting(Segmenter):
    """Notes how many tiles each call has, and how long it took."""

    def batch(self, frames):
        start = time.perf_counter()
        results = super().batch(frames)
        self.calls.append((len(frames), (time.perf_counter() - start) * 1e3))
        return results


def test_calls_are_full_and_their_times_add_up(write_model: Callable[..., Path]) -> None:
    counting = Counting(write_model("GRAY", max_batch=4))
    counting.calls = []
    found = Tiler(counting, (16, 16), (4, 4))(np.zeros((40, 64), np.uint8))
    assert [count for count, _ in counting.calls] == [4, 4, 4, 3]
    assert 0 < found.milliseconds <= sum(milliseconds for _, milliseconds in counting.calls)


@pytest.fixture(scope="module")
def deciding(tmp_path_factory: pytest.TempPathFactory) -> Segmenter:
    """The model of brightness with an empty mask for a frame that is decided OK, as exported models have it."""
    proto = brightness_graph(brightness_card("GRAY"), 1, None)
    graph = proto.graph
    marked = graph.node.pop()
    marked.input[0] = "marked"
    graph.node.extend(
        [
            helper.make_node("Cast", ["index"], ["defect"], to=TensorProto.BOOL),
            helper.make_node("Unsqueeze", ["defect", "space"], ["everywhere"]),
            helper.make_node("And", ["above", "everywhere"], ["marked"]),
            marked,
        ]
    )
    path = tmp_path_factory.mktemp("deciding") / "model.onnx"
    onnx.save(proto, path)
    return Segmenter(path)


@pytest.mark.parametrize(("vote", "end"), [("any", 14), ("mean", 12), ("majority", 12)])
@pytest.mark.parametrize("axis", [0, 1])
def test_where_tiles_disagree_the_vote_decides_the_mask(deciding: Segmenter, vote: str, end: int, axis: int) -> None:
    """Bright to column 14: the tile at 0 is a defect, that at 8 is not, and their weights meet in column 12."""
    frame = np.zeros((16, 24), np.uint8)
    frame[:, :14] = 200
    frame = np.moveaxis(frame, 1, 1 - axis)
    found = Tiler(deciding, (16, 16), (8, 8), vote=vote)(frame)
    assert found.defect
    columns = np.moveaxis(found.mask, 1 - axis, 1)
    assert (columns[:, :end] == 255).all()
    assert not columns[:, end:].any()


@pytest.mark.parametrize(("vote", "defect"), [("any", True), ("majority", False), ("mean", False)])
def test_a_defect_in_one_tile_of_many(deciding: Segmenter, vote: str, defect: bool) -> None:
    frame = np.zeros((48, 48), np.uint8)
    frame[33:47, 1:15] = 220
    found = Tiler(deciding, (16, 16), (0, 0), vote=vote)(frame)
    assert found.defect is defect
    np.testing.assert_array_equal(found.mask > 0, (frame > 0) & defect)


@pytest.fixture(scope="module")
def convolutional(tmp_path_factory: pytest.TempPathFactory) -> Segmenter:
    """Two convolutions with a pooling between, a field of 8x8, and average pooling over all."""
    spec = InputSpec("GRAY", (0.5,), (0.25,), None, network_order="GRAY", max_batch=4)
    card = CARD.replace(input=spec, composite="EpsilonPlus", explained="crack")
    return Segmenter(to_onnx(tiny(channels=1, favour=1), tmp_path_factory.mktemp("model"), card=card))


def texture(height: int, width: int) -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (height, width), dtype=np.uint8)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2), None, 0, 255, cv2.NORM_MINMAX)


def deviation(segmenter: Segmenter, frame: np.ndarray, tile: int, overlap: int) -> tuple[np.ndarray, np.ndarray]:
    """Return how far tiles are from the whole frame, as a share of its greatest relevance, and the steps at seams.

    With average pooling and the epsilon rule relevance is local but for the number of positions that share it.
    """
    whole = segmenter(frame).relevance
    tiled = Tiler(segmenter, (tile, tile), (overlap, overlap))(frame).relevance * (tile * tile / frame.size)
    steps = [np.abs(np.diff(relevance, axis=1)).mean(0) for relevance in (tiled, whole)]
    columns = Cut(frame.shape, (tile, tile), (overlap, overlap)).starts[1]
    seams = sorted({x for start in columns for x in (start, start + tile)} - {0, frame.shape[1]})
    return np.abs(tiled - whole) / np.abs(whole).max(), (steps[0] / steps[1])[np.array(seams) - 1]


def test_tiles_of_a_network_have_no_seams(convolutional: Segmenter) -> None:
    assert convolutional.card.receptive_field == (8, 8)
    frame = texture(150, 200)
    apart, steps = deviation(convolutional, frame, 64, 24)
    cut_apart, cut_steps = deviation(convolutional, frame, 64, 0)
    assert np.median(apart) < 1e-5
    assert apart.max() < 0.01
    assert np.abs(steps - 1).max() < 0.05
    # Without overlap the borders are seen.
    assert cut_apart.max() > 0.1
    assert np.abs(cut_steps - 1).max() > 0.2


_MEASURED = """
import json, re, sys, tracemalloc
from pathlib import Path
import numpy as np
from lrp_edge.runtime import Segmenter, Tiler

def resident(which):
    return 1024 * int(re.search(which + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

path, height, vote = sys.argv[1], int(sys.argv[2]), sys.argv[3]
frame = np.full((height, 8192), 200, np.uint8)
segmenter = Segmenter(path, threads=1)
segmenter(frame[:512, :512])
before = resident("VmRSS")
tracemalloc.start()
found = Tiler(segmenter, (512, 512), (128, 128), vote=vote)(frame)
outputs = found.mask.nbytes + found.relevance.nbytes
arrays, process = tracemalloc.get_traced_memory()[1], resident("VmHWM") - before
print(json.dumps({"arrays": arrays - outputs, "process": process - outputs}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says so in /proc")
@pytest.mark.parametrize("vote", ["any", "mean"])
def test_memory_does_not_grow_with_the_frame(write_model: Callable[..., Path], vote: str) -> None:
    path, used = write_model("GRAY", max_batch=4), {}
    for height in (2048, 8192):
        command = [sys.executable, "-c", _MEASURED, str(path), str(height), vote]
        used[height] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert used[8192]["arrays"] < used[2048]["arrays"] + 2**20
    # Four tiles are 1 MiB, their answers 5, and votes for 512 rows of the frame 16.
    assert used[8192]["arrays"] < (8 if vote == "any" else 28) * 2**20
    assert used[8192]["process"] < 64 * 2**20


FIXED = InputSpec(size=(64, 64))
SEES = CARD.replace(input=InputSpec(), receptive_field=(150, 94))


@pytest.mark.parametrize(
    ("card", "tile", "overlap", "words"),
    [
        (THREE, (64, 64), (64, 0), "tiles are 64x64 and overlap by 64x0; expected 0 or more, and less than the tile"),
        (THREE, (64, 64), (0, -1), "overlap by 0x-1"),
        (THREE, (0, 64), (0, 0), "tiles are 0x64"),
        (CARD.replace(input=FIXED), (64, 96), (0, 0), "tiles are 64x96; this model takes 64x64: .*--size dynamic"),
        (
            THREE.replace(profile={"min": [1, 64, 64], "opt": [1, 64, 64], "max": [4, 128, 512]}),
            (256, 256),
            (0, 0),
            "tiles are 256x256; this engine takes 64x64 to 128x512: ",
        ),
        (SEES, (149, 200), (0, 0), "tiles are 149x200; a feature of this network sees 150x94 pixels: make them"),
        (SEES, (200, 93), (0, 0), "sees 150x94"),
        (
            SEES.replace(input=InputSpec(resize=(128, 128))),
            (512, 512),
            (0, 0),
            "tiles are 512x512, which the network gets as 128x128; .*150x94.*--resize",
        ),
    ],
)
def test_tiles_that_a_model_does_not_take(
    card: ModelCard, tile: tuple[int, int], overlap: tuple[int, int], words: str
) -> None:
    with pytest.raises(LrpEdgeError, match=words) as refused:
        check_tile(card, tile, overlap)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("card", "tile"),
    [
        (CARD.replace(input=FIXED), (64, 64)),
        (SEES, (150, 94)),
        (SEES.replace(input=InputSpec(resize=(160, 160))), (80, 80)),
        (THREE.replace(profile={"min": [1, 64, 64], "opt": [1, 64, 64], "max": [4, 64, 64]}), (64, 64)),
    ],
)
def test_tiles_that_it_takes(card: ModelCard, tile: tuple[int, int]) -> None:
    check_tile(card, tile, (tile[0] - 1, 0))


def test_a_model_of_fixed_size_runs_in_tiles_of_it(write_model: Callable[..., Path]) -> None:
    segmenter = Segmenter(write_model("GRAY", (16, 24)))
    frame = np.random.default_rng(0).integers(0, 256, (50, 60, 1), dtype=np.uint8)
    found = Tiler(segmenter, (16, 24), (4, 4))(frame)
    np.testing.assert_allclose(found.relevance, expected(frame)[3], rtol=1e-5)
    with pytest.raises(LrpEdgeError, match="tiles are 24x16; this model takes 16x24"):
        Tiler(segmenter, (24, 16), (4, 4))


def test_a_vote_that_does_not_exist(segmenter: Segmenter) -> None:
    with pytest.raises(LrpEdgeError, match="vote is 'most'; expected any, majority or mean"):
        Tiler(segmenter, (8, 8), (0, 0), vote="most")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (np.zeros((40, 40, 1), np.float32), "float32.*uint8"),
        (np.zeros((40, 40, 1), np.uint16), "uint16.*uint8"),
        (np.zeros((40, 40, 3), np.uint8), r"expected \[.*1\]"),
        (np.zeros((2, 40, 40, 1), np.uint8), r"\[2, 40, 40, 1\].*expected \[.*1\]"),
        (np.zeros((0, 40, 1), np.uint8), r"\[0, 40, 1\]"),
        (np.zeros(40, np.uint8), r"\[40\]"),
        ([[0]], "list"),
    ],
)
def test_wrong_frames_are_named(segmenter: Segmenter, frame: object, words: str) -> None:
    with pytest.raises(LrpEdgeError, match=words):
        Tiler(segmenter, (16, 16), (4, 4))(frame)  # type: ignore[arg-type]
