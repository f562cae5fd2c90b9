from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lrp_edge.datasets import Dataset, open_dataset
from lrp_edge.training.synthetic_defects import (
    FIRST_SHARE,
    KINDS,
    VISIBLE,
    Curriculum,
    SurfaceWindows,
    SyntheticDefectWindows,
    draw_defects,
    long_crack,
    spot,
)
from lrp_edge.training.windows import SCALES, Draw, Frames, WholeImages, Windows
from tests.support.images import write_folder


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return open_dataset(write_folder(tmp_path_factory.mktemp("data"), {"ok": 12, "hole": 4}))


def numbered(root: Path, height: int, width: int) -> Frames:
    """Two images in which a pixel's blue is its row and its green its column."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0], image[..., 1] = np.mgrid[:height, :width]
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        cv2.imwrite(str(root / name / "x.png"), image)
    return Frames(open_dataset(root), gray=False)


def windows_of(frames: Frames, side: int, balance: float, guided: float, seed: int, *more: Any) -> Windows:
    return Windows(frames, side, Draw(frames.labels, balance), guided, seed, *more)


def test_frames_are_rgb_or_gray_with_channels_first(tmp_path: Path) -> None:
    frames = numbered(tmp_path, 40, 50)
    image, label = frames[1]
    assert label == 1
    assert image.shape == (3, 40, 50)
    assert image.dtype == torch.uint8
    assert torch.equal(image[2, :, 0], torch.arange(40, dtype=torch.uint8))
    assert Frames(frames.dataset, gray=True)[0][0].shape == (1, 40, 50)


@settings(max_examples=15, deadline=None)
@given(height=st.integers(32, 100), width=st.integers(32, 100), side=st.integers(32, 96), seed=st.integers(0, 99))
def test_a_window_is_a_part_of_its_image_at_native_resolution(
    tmp_path_factory: pytest.TempPathFactory, height: int, width: int, side: int, seed: int
) -> None:
    frames = numbered(tmp_path_factory.mktemp("numbered"), height, width)
    window, _ = windows_of(frames, side, 0.0, 0.0, seed)[0]
    assert window.shape == (3, side, side)
    rows, columns = window[2, :, 0].numpy().astype(int), window[1, 0].numpy().astype(int)
    for found, size in ((rows, height), (columns, width)):
        steps = np.abs(np.diff(found))
        # One pixel to the next; 0 only where the reflection turns back.
        assert steps.max() == 1
        assert (steps == 0).sum() <= max(0, -(-side // size) - 1)
        assert found.max() < size


def test_windows_follow_the_evidence(tmp_path: Path) -> None:
    frames = numbered(tmp_path, 200, 240)
    windows = windows_of(frames, 48, 0.0, 1.0, 0)
    evidence = np.full((5, 6), -50.0, np.float32)
    evidence[3, 1] = 50.0
    windows.follow([evidence, evidence])
    for epoch in range(20):
        windows.draw(epoch)
        window, _ = windows[0]
        # The middle of that cell is row 140, column 60.
        assert window[2, 0, 0] <= 140 < window[2, -1, 0]
        assert window[1, 0, 0] <= 60 < window[1, 0, -1]


def test_balance_draws_rare_classes_more_often(dataset: Dataset) -> None:
    frames = Frames(dataset, gray=True)

    def share_of_holes(balance: float) -> float:
        windows = windows_of(frames, 32, balance, 0.0, 0)
        labels = []
        for epoch in range(200):
            windows.draw(epoch)
            labels += [frames.labels[i] for i in windows._chosen]
        return float(np.mean(np.array(labels) == dataset.classes.index("hole")))

    assert share_of_holes(0.0) == pytest.approx(0.25, abs=0.03)
    assert share_of_holes(1.0) == pytest.approx(0.5, abs=0.03)
    assert share_of_holes(0.5) == pytest.approx(2 / (2 + 12**0.5), abs=0.03)


def test_the_same_seed_and_epoch_give_the_same_windows(dataset: Dataset) -> None:
    frames = Frames(dataset, gray=True)
    first, second, other = (windows_of(frames, 48, 0.5, 0.5, seed) for seed in (3, 3, 4))
    for windows in (first, second, other):
        windows.draw(7)
    assert all(torch.equal(first[i][0], second[i][0]) for i in range(len(first)))
    assert any(not torch.equal(first[i][0], other[i][0]) for i in range(len(first)))


def test_synthetic_defects_change_the_window_where_they_are_said_to_be_and_nowhere_else(dataset: Dataset) -> None:
    windows = windows_of(Frames(dataset, gray=True), 96, 0.0, 0.0, 1)
    synthetic = SyntheticDefectWindows(windows, stride=32)
    seen = set()
    for epoch in range(6):
        synthetic.draw(epoch)
        for index in range(len(synthetic)):
            image, kinds = synthetic[index]
            assert image.dtype == torch.uint8
            assert kinds.shape == (3, 3)
            changed = (image.int() - windows[index][0].int()).abs()[0]
            most = torch.nn.functional.max_pool2d(changed[None].float(), 32)[0]
            assert (most[kinds > 0] > 0.03 * 60).all()
            seen |= set(kinds.unique().tolist())
            if not changed.any():
                assert not kinds.any()
    assert seen == {0, 1, 2, 3}


@pytest.mark.parametrize("kind", [*KINDS, long_crack])
def test_a_synthetic_defect_is_a_soft_shape_inside_the_window(kind: object) -> None:
    for seed in range(30):
        shape = kind(96, np.random.default_rng(seed))  # type: ignore[operator]
        assert shape.shape == (96, 96)
        assert shape.dtype == np.float32
        assert VISIBLE < shape.max() <= 1 + 1e-6
        assert shape.min() >= -1e-6


def test_a_synthetic_defect_may_be_stronger_and_uneven_in_one_outline() -> None:
    def change(**how: float) -> tuple[torch.Tensor, torch.Tensor]:
        image = torch.full((1, 96, 96), 100.0)
        drawn, (shape,), _ = draw_defects(image, np.random.default_rng(3), (spot,), 1, 1, **how)
        return (image - drawn)[0], shape

    usual, shape = change()
    stronger, _ = change(stronger=2.0)
    uneven, same = change(uneven=0.6)
    assert torch.equal(shape, same)
    assert torch.allclose(stronger, 2 * usual, atol=1e-4)
    inside = shape > 0.5
    ratio = uneven[inside] / usual[inside]
    assert 0.4 <= ratio.min() < ratio.max() <= 1
    assert not uneven[shape == 0].any()


def test_windows_of_a_clicked_image_show_a_click(tmp_path: Path) -> None:
    frames = numbered(tmp_path, 200, 240)
    clicks = np.array([[20.0, 30.0], [150.0, 200.0]])
    windows = windows_of(frames, 48, 0.0, 0.0, 0, {0: clicks, 1: clicks})
    seen = set()
    for epoch in range(20):
        windows.draw(epoch)
        window, _ = windows[0]
        inside = [
            window[2, 0, 0] <= row <= window[2, -1, 0] and window[1, 0, 0] <= column <= window[1, 0, -1]
            for row, column in clicks
        ]
        assert sum(map(bool, inside)) == 1
        seen.add(int(np.argmax(inside)))
    assert seen == {0, 1}


def test_images_beyond_the_cache_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lrp_edge.training.windows.CACHE_BYTES", 3 * 40 * 50)
    frames = numbered(tmp_path, 40, 50)
    first = [frames[i][0] for i in range(2)]
    assert frames[0][0] is first[0]
    assert frames[1][0] is not first[1]
    assert torch.equal(frames[1][0], first[1])


@pytest.mark.parametrize(("epoch", "share"), [(0, FIRST_SHARE), (2, 0.25)])
def test_a_curriculum_mixes_synthetic_defects_and_labels(dataset: Dataset, epoch: int, share: float) -> None:
    frames = Frames(dataset, gray=True)
    windows = windows_of(frames, 64, 0.0, 0.0, 0)
    synthetic = SyntheticDefectWindows(windows_of(frames, 64, 0.0, 0.0, 0), stride=16)
    drawn = 0
    for seed in range(20):
        windows.seed = seed
        curriculum = Curriculum(windows, synthetic, first_epochs=2, share=0.25)
        curriculum.draw(epoch)
        for index in range(len(curriculum)):
            image, label, kinds = curriculum[index]
            assert image.shape == (1, 64, 64)
            assert kinds.shape == (4, 4)
            if label >= 0:
                assert torch.equal(image, windows[index][0])
                assert (kinds == -1).all()
            else:
                assert (kinds >= 0).all()
                drawn += 1
    assert drawn / (20 * len(windows)) == pytest.approx(share, abs=0.08)


def test_surfaces_are_drawn_by_seed_and_epoch() -> None:
    first, second = SurfaceWindows(4, 48, 3, 7), SurfaceWindows(4, 48, 3, 7)
    assert torch.equal(first[1][0], second[1][0])
    assert first[1][0].shape == (3, 48, 48)
    second.draw(1)
    assert not torch.equal(first[1][0], second[1][0])


@settings(max_examples=20)
@given(
    counts=st.lists(st.integers(1, 40), min_size=2, max_size=5),
    balance=st.sampled_from([0.0, 0.5, 1.0]),
    share=st.sampled_from([0.25, 0.5, 0.8]),
)
def test_ok_images_have_their_share_and_defects_are_balanced(counts: list[int], balance: float, share: float) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    draw = Draw(labels, balance, [0], share)
    assert draw.count == round(sum(counts[1:]) / (1 - share))
    found = np.concatenate([draw(3, epoch) for epoch in range(4000 // draw.count + 1)])
    shares = np.bincount(labels[found], minlength=len(counts)) / len(found)
    assert shares[0] == pytest.approx(share, abs=0.05)
    wanted = np.array(counts[1:]) ** (1 - balance)
    assert shares[1:] == pytest.approx((1 - share) * wanted / wanted.sum(), abs=0.05)
    # Images of one class are drawn equally often.
    own = np.bincount(found[labels[found] == 0], minlength=counts[0])
    assert abs(own - own.mean()).max() < 6 * np.sqrt(own.mean()) + 1


def test_without_ok_images_or_without_defects_the_share_is_no_matter() -> None:
    for ok in ([], [0, 1]):
        assert Draw(np.array([0, 1, 1]), 0.5, ok, 0.5).count == 3


def test_whole_images_are_flipped_turned_and_scaled_and_nothing_else(tmp_path: Path) -> None:
    frames = numbered(tmp_path, 60, 90)
    image, _ = frames[0]
    whole = WholeImages(frames, Draw(frames.labels, 0), 0)
    turned = {
        part.flip(axes).numpy().tobytes() for part in (image, image.transpose(1, 2)) for axes in ([], [1], [2], [1, 2])
    }
    seen, sizes = set(), set()
    for epoch in range(60):
        whole.draw(epoch)
        found, label = whole[0]
        assert label in frames.labels
        assert torch.equal(found, whole[0][0])
        if sorted(found.shape[1:]) == [60, 90]:
            assert found.numpy().tobytes() in turned
            seen.add(found.numpy().tobytes())
        else:
            factor = max(found.shape[1:]) / 90
            assert SCALES[0] - 0.02 <= factor <= SCALES[1] + 0.02
            sizes.add(tuple(found.shape))
    assert seen == turned
    assert len(sizes) > 5


def test_a_large_image_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lrp_edge.training.windows.LARGEST", 64)
    monkeypatch.setattr("lrp_edge.training.windows.SCALES", (1.0, 1.0))
    frames = numbered(tmp_path, 60, 200)
    whole = WholeImages(frames, Draw(frames.labels, 0), 0)
    corners = set()
    for epoch in range(20):
        whole.draw(epoch)
        found, _ = whole[0]
        assert sorted(found.shape[1:]) == [60, 64]
        corners.add(int(found[1].min()))
    assert len(corners) > 5
