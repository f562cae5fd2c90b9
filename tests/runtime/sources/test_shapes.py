"""Frames cut, turned, resized, paced and repeated; their buffers used again only when nobody looks at them."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrp_edge.errors import LrpEdgeError
from lrp_edge.runtime.pool import Pool
from lrp_edge.runtime.result import Frame
from lrp_edge.runtime.sources import Source, SourceOptions, open_source
from lrp_edge.runtime.sources.shape import Looped, Shaped, to_order


class Given(Source):
    """Frames that are given."""

    name = "given"

    def __init__(self, *images: np.ndarray | None) -> None:
        super().__init__()
        self.images, self.length = images, len(images)

    def __iter__(self) -> Iterator[Frame]:
        for index, image in enumerate(self.images):
            yield Frame(index, "given", image, 0.0, 0.0, "" if image is not None else "gone")


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@given(
    shape=st.tuples(st.integers(4, 20), st.integers(4, 20), st.sampled_from([1, 3])),
    rotate=st.sampled_from([0, 90, 180, 270]),
    cut=st.tuples(*[st.integers(0, 3)] * 4),
)
def test_cutting_and_turning_is_numpys(shape: tuple[int, int, int], rotate: int, cut: tuple[int, ...]) -> None:
    image, (x, y, right, bottom) = noise(*shape), cut
    width, height = max(1, shape[1] - x - right), max(1, shape[0] - y - bottom)
    options = SourceOptions(roi=(x, y, width, height), rotate=rotate)
    frame = next(iter(Shaped(Given(image), options)))
    expected = np.rot90(image[y : y + height, x : x + width], -rotate // 90)
    np.testing.assert_array_equal(frame.image, expected)


def test_resizing_is_opencvs_and_comes_last() -> None:
    image = noise(40, 60, 3)
    frame = next(iter(Shaped(Given(image), SourceOptions(size=(30, 20), rotate=90))))
    expected = cv2.resize(cv2.rotate(image, cv2.ROTATE_90_CLOCKWISE), (20, 30), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(frame.image, expected)


def test_a_region_out_of_the_frame_is_an_unreadable_frame() -> None:
    frames = list(Shaped(Given(noise(8, 8, 3), noise(20, 20, 3), None), SourceOptions(roi=(4, 4, 10, 10))))
    assert [frame.image is None for frame in frames] == [True, False, True]
    assert "extends beyond the frame, which is 8x8" in frames[0].error
    assert frames[2].error == "gone"


@pytest.mark.parametrize("order", ["BGR", "RGB", "GRAY"])
@pytest.mark.parametrize("shape", [(5, 7, 3), (5, 7, 1), (5, 7)])
def test_channel_orders(order: str, shape: tuple[int, ...]) -> None:
    image = noise(*shape)
    found = to_order(image, order, Pool())
    gray = image.reshape(5, 7) if image.size == 35 else cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    colour = image if image.size == 105 else np.repeat(image.reshape(5, 7, 1), 3, 2)
    expected = {"BGR": colour, "RGB": colour[..., ::-1], "GRAY": gray[..., None]}[order]
    np.testing.assert_array_equal(found, expected)


def test_a_loop_goes_on_counting_and_an_empty_one_ends() -> None:
    looped = Looped(Given(noise(2, 2, 3), noise(3, 2, 3)))
    frames = iter(looped)
    assert [next(frames).index for _ in range(5)] == [0, 1, 2, 3, 4]
    looped.interrupt()
    assert len(list(frames)) <= 2
    assert list(Looped(Given())) == []


def test_files_come_at_the_asked_pace(tmp_path: Path) -> None:
    for index in range(6):
        cv2.imwrite(str(tmp_path / f"{index}.png"), noise(4, 4, 3))
    frames = list(open_source(str(tmp_path), options=SourceOptions(fps=50)))
    gaps = np.diff([frame.captured for frame in frames])
    assert len(frames) == 6
    assert gaps.sum() >= 4 * 0.02
    assert time.perf_counter() >= frames[-1].captured


def test_a_video_without_frames_and_one_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "empty.avi"
    cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48)).release()
    with pytest.raises(LrpEdgeError, match=r"empty\.avi"):
        open_source(str(path))
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(LrpEdgeError, match="not a video that OpenCV can open"):
        open_source(str(tmp_path / "text.mp4"))


@pytest.mark.parametrize(
    "options", [{"rotate": 45}, {"size": (0, 4)}, {"fps": 0}, {"roi": (0, 0, 0, 4)}, {"timeout": 0}]
)
def test_options_out_of_range(options: dict) -> None:
    with pytest.raises(LrpEdgeError, match="expected"):
        SourceOptions(**options)


def test_a_buffer_comes_back_when_its_last_view_is_gone() -> None:
    pool = Pool()
    first = pool.take((4, 6, 3))
    view = first[1:, ::2]
    view[:] = 7
    del first
    other = pool.take((4, 6, 3))
    other[:] = 9
    assert (view == 7).all()
    assert pool.made == 2
    del view, other
    gc.collect()
    for _ in range(10):
        pool.take((4, 6, 3))
    assert pool.made == 2


def test_a_pool_changes_size_with_its_frames() -> None:
    pool = Pool()
    small = pool.take((2, 2, 3))
    large = pool.take((9, 9, 3))
    del small
    assert pool.take((9, 9, 3)).shape == (9, 9, 3)
    assert large.shape == (9, 9, 3)
