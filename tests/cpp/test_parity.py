"""The library answers with Python's bytes: frames are read from one file by both, and run by one ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

import lrp_edge
from lrp_edge.card import DecisionSpec, ModelCard
from lrp_edge.runtime import Segmenter
from lrp_edge.runtime.regions import find_regions
from tests.support import cpp_build
from tests.support.cpp_build import Answer
from tests.support.runtime_graphs import brightness_card, deciding_graph, probability

TILES = cpp_build.ROOT.parent / "shared/data/magnetic_tile"
CHECKPOINT = Path(lrp_edge.__file__).parent / "assets/surfaces.safetensors"
FRAMES = 200


@pytest.fixture(scope="session")
def surfaces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The classifier that comes with the project, exported for gray frames of any size."""
    from lrp_edge.checkpoint import read_card
    from lrp_edge.export import to_onnx

    card = read_card(CHECKPOINT)
    return to_onnx(CHECKPOINT, tmp_path_factory.mktemp("surfaces"), card=any_size(card))


def any_size(card: ModelCard) -> ModelCard:
    from dataclasses import replace

    return card.replace(input=replace(card.input, size=None))


def assert_same(found: Answer, segmenter: Segmenter, frames: np.ndarray, index: int) -> None:
    expected = segmenter.batch(frames)[index]
    assert (found.label, found.defect) == (expected.label, expected.defect)
    for name in ("scores", "mask", "relevance"):
        assert getattr(found, name).tobytes() == getattr(expected, name).tobytes(), name
    assert found.regions == find_regions(expected.mask, expected.relevance)


def compare(folder: Path, model: Path, calls: Sequence[np.ndarray], out: Path, gap: int = 0) -> list[Answer]:
    with Segmenter(model, provider="cpu", threads=1) as segmenter:
        found = list(cpp_build.answers(folder, model, calls, out, len(segmenter.card.classes), gap))
        places = [(frames, index) for frames in calls for index in range(len(frames))]
        for answer, (frames, index) in zip(found, places, strict=True):
            assert_same(answer, segmenter, frames, index)
    return found


def tiles(count: int) -> list[np.ndarray]:
    paths = sorted(TILES.glob("*/Imgs/*.jpg"))
    chosen = paths[:: len(paths) // count][:count]
    return [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)[None, :, :, None] for path in chosen]


@pytest.mark.skipif(not TILES.is_dir(), reason="the magnetic tiles are not available")
def test_magnetic_tiles_of_their_own_sizes(release: Path, surfaces: Path, tmp_path: Path) -> None:
    calls = tiles(FRAMES)
    assert len(calls) == FRAMES
    assert len({call.shape for call in calls}) > 50
    found = compare(release, surfaces, calls, tmp_path)
    assert any(answer.regions for answer in found)


def noise(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Return frames with much and with little structure, so that masks have regions of all kinds."""
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 256, shape, dtype=np.uint8)
    for frame in frames[::2]:
        frame[:] = cv2.GaussianBlur(frame, (0, 0), 1 + seed % 3).reshape(frame.shape)
        frame[:] = cv2.normalize(frame, None, 0, 255, cv2.NORM_MINMAX).reshape(frame.shape)
    return frames


SIZES = [(1, 1), (1, 17), (17, 1), (2, 2), (8, 8), (9, 31), (31, 33), (64, 48), (130, 257), (480, 640)]


@pytest.mark.parametrize("gap", [0, 1, 64])
def test_noise_of_many_sizes_and_batches(release: Path, model: Path, tmp_path: Path, gap: int) -> None:
    calls = [noise((1 + i % 3, *size, 3), i) for i, size in enumerate(SIZES * 3)]
    found = compare(release, model, calls, tmp_path, gap)
    assert max(len(answer.regions) for answer in found) > 1000


def test_noise_through_the_exported_network(release: Path, surfaces: Path, tmp_path: Path) -> None:
    with Segmenter(surfaces) as segmenter:
        most = segmenter.card.input.max_batch
    assert most > 3
    calls = [noise((count, 64 + 8 * count, 96 - 5 * count, 1), count) for count in range(1, most + 1)]
    compare(release, surfaces, calls, tmp_path)


def test_gray_frames(release: Path, write_model: Callable[..., Path], tmp_path: Path) -> None:
    calls = [noise((1 + i % 3, 20 + i, 33, 1), i) for i in range(9)]
    compare(release, write_model("GRAY"), calls, tmp_path)


@pytest.mark.parametrize("threshold", [0.1, 0.9])
def test_the_threshold_of_the_file_decides(release: Path, tmp_path: Path, threshold: float) -> None:
    path = tmp_path / "deciding.onnx"
    onnx.save(deciding_graph(brightness_card().replace(decision=DecisionSpec(threshold))), path)
    calls = [np.full((1, 9, 12, 3), level, np.uint8) for level in range(50, 110, 5)]
    found = compare(release, path, calls, tmp_path)
    assert [answer.defect for answer in found] == [probability(call[0]) > threshold for call in calls]
    assert {answer.defect for answer in found} == {True, False}


def shapes() -> list[np.ndarray]:
    """Return masks whose regions are hard to tell apart, to order or to measure, as frames of the brightness model."""
    masks = [np.zeros((40, 50), np.uint8) for _ in range(7)]
    cv2.circle(masks[0], (20, 20), 15, 255, 1)
    cv2.circle(masks[0], (20, 20), 3, 255, -1)
    masks[1][::2, ::2] = 255
    masks[2][np.indices(masks[2].shape).sum(0) % 7 == 0] = 255
    masks[3][:] = 255
    masks[4][5:9, 5:9] = masks[4][5:9, 20:24] = masks[4][20:24, 5:9] = 255
    for i in range(0, 40, 4):
        masks[5][i] = 255
        masks[5][i : i + 3, 49 if i % 8 == 0 else 0] = 255
    cv2.ellipse(masks[6], (25, 20), (22, 9), 30, 0, 360, 255, -1)
    return [np.repeat(mask[None, :, :, None], 3, axis=3) for mask in masks]


def test_regions_that_are_hard_to_tell_apart(release: Path, model: Path, tmp_path: Path) -> None:
    found = compare(release, model, shapes(), tmp_path)
    assert [len(answer.regions) for answer in found] == [2, 500, 13, 1, 3, 10, 1]
