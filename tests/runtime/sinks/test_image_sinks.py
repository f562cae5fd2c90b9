"""Images, videos and windows: what is written is what was decided, and no more than there is room for."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from lrp_edge.errors import LrpEdgeError
from lrp_edge.runtime.overlay import draw_result
from lrp_edge.runtime.result import Frame, Result, Segmentation
from lrp_edge.runtime.sinks.images import Images, file_name
from lrp_edge.runtime.sinks.video import VideoFile
from lrp_edge.runtime.sinks.window import Window
from tests.support.disks import disk
from tests.support.scripted import unread


def grainy(index: int, source: str = "parts/part.png", size: tuple[int, int] = (40, 50), defect: bool = True) -> Result:
    """A result whose images do not compress."""
    generator = np.random.default_rng(index)
    image = generator.integers(0, 256, (*size, 3), np.uint8)
    mask = generator.choice(np.array([0, 255], np.uint8), size)
    scores = np.array([0.25, 0.75], np.float32)
    found = Segmentation(int(defect), ("ok", "stain")[defect], defect, scores, mask, mask / np.float32(255), 1.0)
    return Result(Frame(index, source, image, 0.0), found)


def opened(folder: Path, **options: object) -> Images:
    sink = Images(folder, "BGR", **options)
    sink.open()
    return sink


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def total(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    with disk(tmp_path / "disk", "1m") as folder:
        yield folder


@pytest.fixture
def larger_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 18 MiB."""
    with disk(tmp_path / "disk", "18m") as folder:
        yield folder


def test_images_are_read_back_as_they_were(tmp_path: Path) -> None:
    sink = opened(tmp_path / "out")
    results = [grainy(index) for index in range(3)]
    for result in results:
        sink.accept(result)
        assert result.files == {
            "mask": f"masks/00000{result.frame.index}_part.png",
            "overlay": f"overlays/00000{result.frame.index}_part.png",
        }
        sink.write(result)
    sink.close()
    for result in results:
        mask = cv2.imread(str(tmp_path / "out" / result.files["mask"]), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(mask, result.segmentation.mask)
        overlay = cv2.imread(str(tmp_path / "out" / result.files["overlay"]), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(overlay, draw_result(result))
    assert names(tmp_path / "out") == sorted(name for result in results for name in result.files.values())
    assert sink.counts() == {}


@pytest.mark.parametrize(
    ("options", "parts"), [({"overlays": False}, ["mask"]), ({"masks": False}, ["overlay"]), ({"masks": True}, None)]
)
def test_only_what_is_wanted_is_named_and_written(
    options: dict[str, bool], parts: list[str] | None, tmp_path: Path
) -> None:
    sink, result = opened(tmp_path, **options), grainy(7)
    sink.accept(result)
    sink.write(result)
    assert list(result.files) == (parts or ["mask", "overlay"])
    assert names(tmp_path) == list(result.files.values())


def test_frames_without_segmentation_have_no_images_and_fine_ones_only_if_wanted(tmp_path: Path) -> None:
    rejected = grainy(2, defect=False)
    rejected.reject = True
    results = [grainy(0), grainy(1, defect=False), rejected, unread(3)]
    assert [Images(tmp_path, "BGR").wants(each) for each in results] == [True, True, True, False]
    assert [Images(tmp_path, "BGR", only="defects").wants(each) for each in results] == [True, False, True, False]


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("line/parts/part 1.jpeg", "000012_part_1.png"),
        ("videos/Prüfling.v2.mp4#12", "000012_Prüfling.v2.png"),
        ("rtsp://***@10.0.0.7:554/Streaming/Channels/101?transportmode=unicast", "000012_101.png"),
        ("http://camera/video.mjpg?token=***", "000012_video.png"),
        ("v4l2:///dev/video0", "000012_video0.png"),
        ("aravis://Fake_1", "000012_Fake_1.png"),
        ("gst://videotestsrc ! video/x-raw,width=64 ! appsink", "000012_x-raw_width_64_appsink.png"),
        ("rtsp://***@10.0.0.7:554/", "000012_10.0.0.7_554.png"),
        ("", "000012_frame.png"),
        ("界" * 300 + ".png", f"000012_{'界' * 60}.png"),
    ],
)
def test_names_are_those_of_files_whatever_the_source_is(source: str, name: str, tmp_path: Path) -> None:
    assert file_name(Frame(12, source, None, 0.0)) == name
    (tmp_path / name).write_bytes(b"")


def test_the_budget_is_kept_after_every_frame_and_the_oldest_go_first(tmp_path: Path) -> None:
    one = opened(tmp_path / "one")
    one.write(grainy(0))
    size = total(tmp_path / "one")
    budget, folder = int(5.5 * size), tmp_path / "many"
    sink = opened(folder, budget=budget)
    for index in range(40):
        sink.write(grainy(index))
        assert total(folder) <= budget
        kept = sorted({int(name.partition("/")[2][:6]) for name in names(folder)})
        # All in a row up to the newest.
        assert kept == list(range(kept[0], index + 1))
        assert len(kept) == min(index + 1, 5) or len(kept) == 6
    assert sink.counts() == {"rotated": 80 - len(names(folder))}


def test_what_an_earlier_run_left_goes_first_and_what_is_not_ours_stays(tmp_path: Path) -> None:
    first = opened(tmp_path)
    for index in range(100, 103):
        first.write(grainy(index))
    size = total(tmp_path) / 3
    # The later number is the older file.
    for age, index in enumerate((102, 101, 100)):
        for part in ("masks", "overlays"):
            os.utime(tmp_path / part / f"000{index}_part.png", (1_000_000 + age, 1_000_000 + age))
    others = ["results.jsonl", "masks/notes.txt", "masks/photo.png", "overlays/12_part.png", "000100_part.png"]
    for name in others:
        (tmp_path / name).write_bytes(bytes(100_000))
    (tmp_path / "outside.png").write_bytes(bytes(100_000))
    os.utime(tmp_path / "outside.png", (1, 1))
    (tmp_path / "masks" / "000001_link.png").symlink_to(tmp_path / "outside.png")
    before = set(names(tmp_path))
    sink = opened(tmp_path, budget=int(3.5 * size))
    assert set(names(tmp_path)) == before
    gone = []
    for index in range(3):
        sink.write(grainy(index))
        left = {name for name in before if name in names(tmp_path)}
        gone.append(sorted(before - left))
    assert gone[0] in (["masks/000102_part.png"], ["masks/000102_part.png", "overlays/000102_part.png"])
    assert {name[-15:-9] for name in gone[1]} == {"000101", "000102"}
    assert {name[-15:-9] for name in gone[2]} == {"000100", "000101", "000102"}
    assert set(others) <= set(names(tmp_path))
    assert (tmp_path / "masks" / "000001_link.png").is_symlink()
    assert (tmp_path / "outside.png").exists()


def test_a_smaller_budget_is_kept_from_the_start(tmp_path: Path) -> None:
    first = opened(tmp_path)
    for index in range(6):
        first.write(grainy(index))
    budget = total(tmp_path) // 2
    sink = opened(tmp_path, budget=budget)
    assert budget / 2 < total(tmp_path) <= budget
    assert sink.counts() == {"rotated": 12 - len(names(tmp_path))}


def test_images_that_are_written_again_count_once(tmp_path: Path) -> None:
    first = opened(tmp_path)
    for index in range(4):
        first.write(grainy(index))
    sink = opened(tmp_path, budget=2 * total(tmp_path))
    for _ in range(3):
        for index in range(4):
            sink.write(grainy(index))
    assert sink.counts() == {"rotated": 0}
    assert len(names(tmp_path)) == 8


def test_a_budget_that_one_frame_exceeds_is_an_error_each_time_and_removes_nothing(tmp_path: Path) -> None:
    small = grainy(0, size=(8, 8))
    sink = opened(tmp_path, budget=4000, overlays=False)
    sink.write(small)
    for index in (1, 2):
        with pytest.raises(LrpEdgeError, match=r"take \d+ bytes, the budget is 4000; set a larger one"):
            sink.write(grainy(index, size=(300, 300)))
    sink.write(grainy(3, size=(8, 8)))
    assert names(tmp_path) == ["masks/000000_part.png", "masks/000003_part.png"]
    with pytest.raises(LrpEdgeError, match="0 bytes; expected more than 0"):
        Images(tmp_path, "BGR", budget=0)


def test_a_full_disk_costs_frames_and_leaves_no_torn_file(small_disk: Path) -> None:
    sink = opened(small_disk / "out")
    filler = small_disk / "filler"
    sink.write(grainy(0))
    _fill(filler)
    for index in (1, 2):
        with pytest.raises(
            LrpEdgeError,
            match=r"masks/00000\d_part.png: this file cannot be written \(No space left on device\); free space",
        ):
            sink.write(grainy(index))
    assert names(small_disk / "out") == ["masks/000000_part.png", "overlays/000000_part.png"]
    filler.unlink()
    sink.write(grainy(3))
    assert names(small_disk / "out") == [f"{part}s/00000{i}_part.png" for part in ("mask", "overlay") for i in (0, 3)]
    for name in names(small_disk / "out"):
        assert cv2.imread(str(small_disk / "out" / name)) is not None
    assert not list((small_disk / "out").rglob(".*"))


def _fill(path: Path) -> None:
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass


def test_a_disk_that_is_only_read_is_said_to_be(small_disk: Path) -> None:
    sink = opened(small_disk, budget=10_000_000)
    sink.write(grainy(0))
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(LrpEdgeError, match="Read-only file system"):
        sink.write(grainy(1))
    with pytest.raises(LrpEdgeError, match="Read-only file system; choose another folder"):
        opened(small_disk)
    assert names(small_disk) == ["masks/000000_part.png", "overlays/000000_part.png"]


def test_folders_that_stay_empty_are_removed_if_they_were_not_there_before(tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    sink = opened(tmp_path)
    assert (tmp_path / "overlays").is_dir()
    sink.close()
    assert [path.name for path in tmp_path.iterdir()] == ["masks"]
    opened(tmp_path / "masks" / "new").close()
    assert not list((tmp_path / "masks").iterdir())


def test_a_folder_that_is_a_file_is_refused_before_the_first_frame(tmp_path: Path) -> None:
    (tmp_path / "overlays").write_bytes(b"")
    with pytest.raises(LrpEdgeError, match="choose another folder"):
        opened(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["overlays"]


def read_video(path: Path) -> tuple[list[np.ndarray], float]:
    capture = cv2.VideoCapture(str(path))
    frames = []
    while (answer := capture.read())[0]:
        frames.append(answer[1])
    rate = capture.get(cv2.CAP_PROP_FPS)
    capture.release()
    return frames, rate


def plain(index: int, size: tuple[int, int], level: int, order: str = "BGR") -> Result:
    """A result of one colour with an empty mask."""
    colour = (level, 60, 180)
    image = np.full((*size, 3), colour if order == "BGR" else colour[::-1], np.uint8)
    scores = np.array([1.0, 0.0], np.float32)
    empty = np.zeros(size, np.uint8)
    return Result(
        Frame(index, "camera", image, 0.0), Segmentation(0, "ok", False, scores, empty, empty / np.float32(1), 1.0)
    )


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".MP4"])
@pytest.mark.parametrize("order", ["BGR", "RGB"])
def test_a_video_has_every_frame_in_its_colours(suffix: str, order: str, tmp_path: Path) -> None:
    path = tmp_path / "new" / f"line{suffix}"
    sink = VideoFile(path, order, fps=12.5)
    sink.open()
    levels = [20, 120, 220, 70]
    for index, level in enumerate(levels):
        sink.write(plain(index, (200, 320), level, order))
        assert not path.exists()
    sink.close()
    frames, rate = read_video(path)
    assert rate == 12.5
    assert [frame.shape for frame in frames] == [draw_result(plain(0, (200, 320), 0)).shape] * 4
    for frame, level in zip(frames, levels, strict=True):
        np.testing.assert_allclose(frame[100:, :].mean((0, 1)), (level, 60, 180), atol=6)
    assert names(tmp_path) == [f"new/line{suffix}"]


def test_frames_of_another_size_are_fitted_into_that_of_the_first(tmp_path: Path) -> None:
    sink = VideoFile(tmp_path / "line.avi", "BGR", fps=5)
    sink.open()
    for index, size in enumerate([(401, 601), (801, 1202), (321, 341), (901, 401)]):
        sink.write(plain(index, size, 200))
    sink.close()
    frames, _ = read_video(tmp_path / "line.avi")
    # The header is 28 pixels high, and sides are even.
    assert [frame.shape for frame in frames] == [(430, 602, 3)] * 4
    bright = [frame[250].mean(1) > 60 for frame in frames]
    assert [int(row.sum()) for row in bright[:3]] == pytest.approx([601, 602, 341], abs=24)
    # 401 wide and 929 high, scaled to 430 high.
    assert int(bright[3].sum()) == pytest.approx(401 * 430 / 929, abs=24)
    for row in bright[2:]:
        columns = np.flatnonzero(row)
        assert columns.mean() == pytest.approx(301, abs=12)


def test_a_video_without_frames_leaves_no_file(tmp_path: Path) -> None:
    sink = VideoFile(tmp_path / "line.mp4", "BGR", fps=5)
    assert [sink.wants(grainy(0)), sink.wants(unread(1))] == [True, False]
    sink.open()
    sink.close()
    assert names(tmp_path) == []


def test_a_video_ends_well_before_the_disk_is_full(larger_disk: Path) -> None:
    sink = VideoFile(larger_disk / "line.avi", "BGR", fps=5)
    sink.open()
    written = 0
    while shutil.disk_usage(larger_disk).free >= 2**24:
        sink.write(grainy(written, size=(400, 600)))
        written += 1
    with pytest.raises(LrpEdgeError, match="fewer than 16 MiB are free; free space"):
        sink.write(grainy(written, size=(400, 600)))
    sink.close()
    frames, _ = read_video(larger_disk / "line.avi")
    assert 2 < len(frames) == written


@pytest.mark.parametrize(
    ("name", "fps", "message"),
    [
        ("line.mkv", 5, r"line.mkv: this video cannot be written; expected one of \.mp4, \.avi"),
        ("line", 5, "expected one of"),
        ("line.mp4", 0, "0 frames a second; expected more than 0"),
        ("there.mp4", 5, "there.mp4 exists; choose another name, --append or --overwrite"),
    ],
)
def test_a_video_that_cannot_be_is_refused_at_once(name: str, fps: float, message: str, tmp_path: Path) -> None:
    (tmp_path / "there.mp4").write_bytes(b"video")
    with pytest.raises(LrpEdgeError, match=message):
        VideoFile(tmp_path / name, "BGR", fps=fps)
    assert (tmp_path / "there.mp4").read_bytes() == b"video"


def test_a_video_replaces_another_only_when_it_is_whole_and_told_to(tmp_path: Path) -> None:
    path = tmp_path / "there.mp4"
    path.write_bytes(b"video")
    sink = VideoFile(path, "BGR", fps=5, existing="overwrite")
    sink.open()
    sink.write(plain(0, (40, 60), 100))
    assert path.read_bytes() == b"video"
    sink.close()
    assert len(read_video(path)[0]) == 1


def test_appending_runs_number_their_videos(tmp_path: Path) -> None:
    written = []
    for index in range(3):
        sink = VideoFile(tmp_path / "line.avi", "BGR", fps=5, existing="append")
        sink.open()
        for number in range(index + 1):
            sink.write(plain(number, (40, 60), 100))
        sink.close()
        written.append(sink.path.name)
    assert written == ["line.avi", "line-2.avi", "line-3.avi"]
    assert sorted(written) == names(tmp_path)
    assert [len(read_video(tmp_path / name)[0]) for name in written] == [1, 2, 3]


def test_a_video_is_one_runs_at_a_time(tmp_path: Path) -> None:
    first = VideoFile(tmp_path / "line.avi", "BGR", fps=5)
    first.open()
    for existing in ("refuse", "append", "overwrite"):
        with pytest.raises(
            LrpEdgeError, match=r"another run writes .*line\.avi; choose another name, or stop"
        ) as refused:
            VideoFile(tmp_path / "line.avi", "BGR", fps=5, existing=existing).open()
        assert "\n" not in str(refused.value)
    first.write(plain(0, (40, 60), 100))
    first.close()
    assert names(tmp_path) == ["line.avi"]
    second = VideoFile(tmp_path / "line.avi", "BGR", fps=5, existing="overwrite")
    second.open()
    second.close()
    assert names(tmp_path) == ["line.avi"]


def test_a_place_where_no_video_can_be_is_refused_before_the_first_frame(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(LrpEdgeError, match="choose another folder"):
        VideoFile(tmp_path / "file" / "line.mp4", "BGR", fps=5).open()


def test_a_window_without_a_display_is_refused_before_the_first_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(LrpEdgeError, match=r"no display: DISPLAY and WAYLAND_DISPLAY are not set; .* --view"):
        Window("BGR", list).open()


@pytest.mark.parametrize("display", ["DISPLAY", "WAYLAND_DISPLAY"])
def test_a_window_without_toolkit_is_refused_before_the_first_frame(
    display: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if cv2.currentUIFramework():
        pytest.skip("this OpenCV has windows")
    monkeypatch.setenv(display, ":0")
    with pytest.raises(LrpEdgeError, match="no windows; install opencv-python in place of opencv-python-headless"):
        Window("BGR", list).open()
