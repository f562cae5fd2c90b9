"""The three programs, built by themselves against the installed package, answer as Python does and account for all."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest

from lrp_edge.runtime import Segmenter
from lrp_edge.runtime.pipeline import Judgement
from lrp_edge.runtime.result import Frame, Result
from lrp_edge.synthetic import KINDS, draw
from tests.support import cpp_build
from tests.support.runtime_graphs import brightness_card, brightness_graph
from tests.support.scripted import until

COUNT = 12


@pytest.fixture(scope="module")
def programs(prefix: Path) -> Path:
    """The folder of the programs."""
    cpp_build.require("pkg-config")
    for package in ("opencv4", "CLI11"):
        if subprocess.run(["pkg-config", "--exists", package]).returncode:
            pytest.skip(f"the headers of {package} are not installed")
    source, folder = cpp_build.SOURCE / "programs", cpp_build.BUILD / "programs"
    settings = [f"-DCMAKE_PREFIX_PATH={prefix}", f"-DCMAKE_CXX_FLAGS={' '.join(cpp_build.WARNINGS)}"]
    cpp_build.command("cmake", "-S", source, "-B", folder, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release", *settings)
    cpp_build.command("cmake", "--build", folder, "-j2")
    return folder


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn parts in colour, some so bright that the model calls them stained."""
    folder = tmp_path_factory.mktemp("frames")
    for index in range(COUNT):
        gray = draw(KINDS[index % len(KINDS)], index)[0].astype(int)
        colour = np.stack([gray - 12, gray, gray + 9], 2) + (25 if index % 3 == 0 else -100)
        cv2.imwrite(str(folder / f"part_{index:03d}.png"), np.clip(colour, 0, 255).astype(np.uint8))
    return folder


def run(program: Path, *words: object, code: int = 0, **more: Any) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([program, *map(str, words)], capture_output=True, text=True, timeout=120, **more)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def python_line(segmenter: Segmenter, path: Path, mm_per_px: float | None = None) -> dict[str, Any]:
    """Return what Python writes of an image into results.jsonl."""
    image = cv2.imread(str(path))
    result = Result(Frame(0, str(path), image, 0.0), segmenter(image))
    Judgement(mm_per_px=mm_per_px).judge(result)
    return result.as_dict()


# Those that say what was found; the others say when, and where from.
FIELDS = (
    *("schema", "label", "name", "defect", "reject", "reason", "scores", "mask_fraction"),
    *("regions", "regions_found", "regions_area_px"),
)


def assert_like_python(model: Path, found: Sequence[dict[str, Any]], paths: Sequence[Path], out: Path) -> None:
    assert len(found) == len(paths)
    with Segmenter(model, provider="cpu") as segmenter:
        for line, path in zip(found, paths, strict=True):
            expected = python_line(segmenter, path)
            assert {name: line[name] for name in FIELDS} == {name: expected[name] for name in FIELDS}
            mask = cv2.imread(str(out / line["mask"]), cv2.IMREAD_UNCHANGED)
            np.testing.assert_array_equal(mask, segmenter(cv2.imread(str(path))).mask)
    assert {line["label"] for line in found} == {0, 1}


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_images_as_python_answers_them(programs: Path, model: Path, frames: Path, tmp_path: Path, batch: int) -> None:
    done = run(programs / "lrp_edge_image", model, frames, "-o", tmp_path / "out", "--batch", batch)
    found = lines((tmp_path / "out/results.jsonl").read_text())
    paths = sorted(frames.glob("*.png"))
    assert [line["source"] for line in found] == list(map(str, paths))
    assert [line["frame"] for line in found] == list(range(COUNT))
    assert_like_python(model, found, paths, tmp_path / "out")
    assert f"{COUNT} images" in done.stderr
    assert ", 4 defects, 0 skipped" in done.stderr


def test_of_many_regions_the_largest_are_listed_and_all_counted(programs: Path, model: Path, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).random((200, 300, 1)) < 0.6
    grown = np.repeat(np.where(noise, 255, 150).astype(np.uint8), 3, 2)
    grown[::4] = grown[:, ::4] = 0
    cv2.imwrite(str(tmp_path / "noise.png"), grown)
    run(programs / "lrp_edge_image", model, tmp_path / "noise.png", "--mm-per-px", "0.1", "-o", tmp_path / "out")
    (line,) = lines((tmp_path / "out/results.jsonl").read_text())
    with Segmenter(model, provider="cpu") as segmenter:
        expected = python_line(segmenter, tmp_path / "noise.png", 0.1)
    assert expected["regions_found"] > len(expected["regions"]) == 1000
    assert {name: line[name] for name in FIELDS} == {name: expected[name] for name in FIELDS}
    assert line["regions_area_mm2"] == expected["regions_area_mm2"]


def test_what_is_not_usable_is_one_line_at_the_start(programs: Path, frames: Path, tmp_path: Path) -> None:
    card = brightness_card().replace(usable={"unusable": ["class: AUROC 0.52", "mask: chance"]})
    onnx.save(brightness_graph(card, 3, None), tmp_path / "model.onnx")
    done = run(programs / "lrp_edge_image", tmp_path / "model.onnx", frames / "part_000.png")
    first = done.stderr.splitlines()[0]
    assert first == "lrp_edge_image: the model is not usable: class: AUROC 0.52; mask: chance"


def test_image_lines_have_pythons_fields(programs: Path, model: Path, frames: Path) -> None:
    path = frames / "part_000.png"
    (line,) = lines(run(programs / "lrp_edge_image", model, path, "--mm-per-px", 0.05).stdout)
    with Segmenter(model) as segmenter:
        expected = python_line(segmenter, path, 0.05)
    assert list(line) == [name for name in expected if name != "queue_ms"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
    region = line["regions"][0]
    assert region["area_mm2"] == float(f"{region['area_px'] * 0.05**2:.6g}")


def test_overlay_marks_what_the_mask_has(programs: Path, model: Path, frames: Path, tmp_path: Path) -> None:
    run(programs / "lrp_edge_image", model, frames, "-o", tmp_path, "--images", "defects")
    found = lines((tmp_path / "results.jsonl").read_text())
    assert [("overlay" in line) for line in found] == [line["defect"] for line in found]
    line = next(line for line in found if line["defect"] and 0.05 < line["mask_fraction"] < 0.95)
    overlay, image = cv2.imread(str(tmp_path / line["overlay"])), cv2.imread(line["source"])
    factor = overlay.shape[1] // image.shape[1]
    below = overlay[-image.shape[0] * factor :: factor, ::factor].astype(int)
    mask = cv2.imread(str(tmp_path / line["mask"]), 0) > 0
    redder = (below[..., 2] - below[..., 0]) - (image[..., 2].astype(int) - image[..., 0])
    assert np.median(redder[mask]) > 40
    assert abs(np.median(redder[~mask])) < 10


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_image_that_is_cut_short_gets_a_line(
    programs: Path, model: Path, frames: Path, tmp_path: Path, suffix: str
) -> None:
    data = cv2.imencode(suffix, cv2.imread(str(frames / "part_000.png")))[1].tobytes()
    whole, bad = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    whole.write_bytes(data + bytes(99))
    bad.write_bytes(data[: len(data) * 2 // 3])
    done = run(programs / "lrp_edge_image", model, tmp_path, code=1)
    assert [line.get("error") for line in lines(done.stdout)] == [None, f"{bad} is cut short; fix or remove it"]
    assert "1 skipped" in done.stderr


def camera(programs: Path, *words: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    return run(programs / "lrp_edge_camera", *words, "--headless", code=code)


def account(text: str) -> list[int]:
    """Return captured, segmented, failed and dropped of the camera's summary; they add up."""
    found = re.search(r"(\d+) captured = (\d+) segmented \+ (\d+) failed \+ (\d+) dropped", text)
    assert found, text
    captured, *parts = map(int, found.groups())
    assert captured == sum(parts)
    return [captured, *parts]


def test_camera_without_loss_as_python_answers(programs: Path, model: Path, frames: Path, tmp_path: Path) -> None:
    source = frames / "part_%03d.png"
    done = camera(programs, model, "--source", source, "--lossless", "-o", tmp_path / "out")
    found = lines((tmp_path / "out/results.jsonl").read_text())
    assert account(done.stderr) == [COUNT, COUNT, 0, 0]
    assert [line["source"] for line in found] == [f"{source}#{index}" for index in range(COUNT)]
    assert_like_python(model, found, sorted(frames.glob("*.png")), tmp_path / "out")
    assert re.search(r"[\d.]+ fps, latency p50 [\d.]+ ms, p99 [\d.]+ ms", done.stderr)


def write_video(path: Path, count: int) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25, (32, 24))
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no MJPG")
    for index in range(count):
        writer.write(np.full((24, 32, 3), index % 256, np.uint8))
    writer.release()
    return path


def test_camera_that_is_faster_drops_the_oldest_and_says_so(programs: Path, model: Path, tmp_path: Path) -> None:
    count = 400
    done = camera(programs, model, "--source", write_video(tmp_path / "long.avi", count), "-o", tmp_path / "out")
    captured, segmented, failed, dropped = account(done.stderr)
    assert (captured, failed) == (count, 0)
    # Two images are written of each frame that is segmented, which takes longer than to decode one.
    assert dropped > 0
    found = [line["frame"] for line in lines((tmp_path / "out/results.jsonl").read_text())]
    assert len(found) == segmented
    assert found == sorted(set(found))
    assert found[-1] == count - 1


def test_camera_stops_after_so_many_frames(programs: Path, model: Path, frames: Path) -> None:
    done = camera(programs, model, "--source", frames / "part_%03d.png", "--lossless", "--json", "--frames", 5)
    assert account(done.stderr) == [5, 5, 0, 0]
    assert len(lines(done.stdout)) == 5


def test_camera_counts_frames_that_the_model_does_not_take(programs: Path, write_model: Any, frames: Path) -> None:
    other = write_model(size=(32, 40))
    done = camera(programs, other, "--source", frames / "part_%03d.png", "--lossless", "--json", code=1)
    assert account(done.stderr) == [COUNT, 0, COUNT, 0]
    assert all("this model takes 32x40" in line["error"] for line in lines(done.stdout))


def interrupted(program: Sequence[object], number: int, times: int = 1) -> tuple[list[dict[str, Any]], str]:
    """Send a signal after the first line, some times in a row; return all lines and what was said on stderr."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    # Without a buffer, else what it read ahead would be lost to communicate().
    with subprocess.Popen(list(map(str, program)), bufsize=0, **pipes) as process:
        assert process.stdout
        first = process.stdout.readline()
        for _ in range(times):
            process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return lines((first + out).decode()), err.decode()


@pytest.mark.parametrize(("number", "times"), [(signal.SIGINT, 1), (signal.SIGTERM, 1), (signal.SIGTERM, 2)])
def test_camera_ends_in_order_after_a_signal(
    programs: Path, model: Path, tmp_path: Path, number: int, times: int
) -> None:
    count = 5000
    # Its lines do not fit into the pipe, so the program is still at work when the signal comes.
    path = write_video(tmp_path / "long.avi", count)
    words = [programs / "lrp_edge_camera", model, "--source", path, "--headless", "--json", "--lossless"]
    found, err = interrupted(words, number, times)
    captured, segmented, _, _ = account(err)
    assert count > captured >= segmented == len(found) > 0


def test_a_later_signal_ends_the_camera_at_once(programs: Path, model: Path, tmp_path: Path) -> None:
    path = write_video(tmp_path / "long.avi", 5000)
    words = [programs / "lrp_edge_camera", model, "--source", path, "--headless", "--json", "--lossless"]
    with subprocess.Popen(list(map(str, words)), bufsize=0, stdout=subprocess.PIPE) as process:
        pipe = process.stdout
        assert pipe
        # Nobody reads its lines: once the pipe is full, it cannot end in order.
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, 4096)
        until(lambda: int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder) > 3500, 60)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.7)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == -signal.SIGTERM


def test_camera_needs_a_display_for_its_window(programs: Path, model: Path, frames: Path) -> None:
    bare = {name: value for name, value in os.environ.items() if "DISPLAY" not in name and name != "QT_QPA_PLATFORM"}
    done = run(programs / "lrp_edge_camera", model, "--source", frames / "part_%03d.png", code=1, env=bare)
    assert done.stderr == "lrp_edge_camera: there is no display to open a window on; run with --headless\n"


def verdicts(text: str) -> dict[str, int]:
    """Return the line's counts; they add up."""
    found = re.search(r"(\d+) triggers = (\d+) in time \+ (\d+) late \+ (\d+) missed; (\d+) rejected", text)
    assert found, text
    counts = dict(zip(("triggers", "in_time", "late", "missed", "rejected"), map(int, found.groups()), strict=True))
    assert counts["triggers"] == counts["in_time"] + counts["late"] + counts["missed"]
    return counts


def check_verdicts(
    done: subprocess.CompletedProcess[str], found: Sequence[dict[str, Any]], parts: int
) -> dict[str, int]:
    """Compare the line's counts with its verdicts: one for each trigger, in order; what is not known is rejected."""
    counts = verdicts(done.stderr)
    assert counts["triggers"] == parts
    assert [line["frame"] for line in found] == list(range(parts))
    for name in ("in_time", "late", "missed"):
        assert sum(line["outcome"] == name for line in found) == counts[name]
    assert all(line["reject"] and line["reason"] for line in found if line["outcome"] != "in_time")
    assert sum(line["reject"] for line in found) == counts["rejected"]
    return counts


def test_line_in_time_as_python_answers(programs: Path, model: Path, frames: Path, tmp_path: Path) -> None:
    words = [model, frames, "--rate", 20, "--deadline", 10_000, "--buffers", 20, "-o", tmp_path]
    done = run(programs / "lrp_edge_line", *words)
    found = lines((tmp_path / "results.jsonl").read_text())
    counts = check_verdicts(done, found, COUNT)
    assert (counts["in_time"], counts["rejected"]) == (COUNT, 4)
    assert_like_python(model, found, sorted(frames.glob("*.png")), tmp_path)
    assert all(0 < line["latency_ms"] < 10_000 for line in found)


def test_line_that_is_too_fast_misses_parts(programs: Path, model: Path, frames: Path) -> None:
    words = [model, frames, "--rate", 1e5, "--parts", 500, "--deadline", 60_000, "--buffers", 1]
    done = run(programs / "lrp_edge_line", *words)
    counts = check_verdicts(done, lines(done.stdout), 500)
    assert counts["late"] == 0
    assert counts["in_time"] >= 1
    assert counts["missed"] > 0


def test_line_with_no_time_is_late_at_every_part_and_says_so_in_time(programs: Path, model: Path, frames: Path) -> None:
    words = [model, frames, "--rate", 10, "--parts", 30, "--deadline", 0.001, "--buffers", 30]
    done = run(programs / "lrp_edge_line", *words)
    found = lines(done.stdout)
    assert check_verdicts(done, found, 30)["late"] == 30
    assert all("label" not in line for line in found)
    # The verdict comes at the deadline; at the end of these three seconds it would have waited for half of them.
    assert np.median([line["latency_ms"] for line in found]) < 500


def test_line_stops_in_order_after_a_signal(programs: Path, model: Path, frames: Path) -> None:
    words = [programs / "lrp_edge_line", model, frames, "--rate", 50, "--parts", 1_000_000]
    found, err = interrupted(words, signal.SIGINT)
    assert verdicts(err)["triggers"] == len(found) > 0


def test_line_of_two_sizes_is_none(programs: Path, model: Path, tmp_path: Path) -> None:
    for name, size in (("a", (20, 30)), ("b", (30, 20))):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.zeros((*size, 3), np.uint8))
    done = run(programs / "lrp_edge_line", model, tmp_path, code=1)
    assert "has another size than" in done.stderr


NAMES = ("lrp_edge_image", "lrp_edge_camera", "lrp_edge_line")


def words(name: str, model: object, frames: object) -> list[object]:
    return [model, "--headless", "--source", frames] if name == "lrp_edge_camera" else [model, frames]


@pytest.mark.parametrize("name", NAMES)
def test_help_names_all_options_and_exit_codes(programs: Path, name: str) -> None:
    text = " ".join(run(programs / name, "--help").stdout.split())
    assert text.startswith(("Run a model", "An inspection line"))
    assert "--provider" in text
    assert "with 1 after an error, with 2 if it was called wrongly" in text


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("wrong", [["--threads", "0"], ["--min-area", "x"], ["--unknown"], ["--images", "some"]])
def test_wrong_usage_ends_with_2(programs: Path, model: Path, frames: Path, name: str, wrong: list[str]) -> None:
    done = run(programs / name, *words(name, model, frames), *wrong, code=2)
    assert wrong[0] in done.stderr
    assert run(programs / name, code=2).stderr.startswith("model is required")


@pytest.mark.parametrize("name", NAMES)
def test_errors_are_one_line(programs: Path, model: Path, frames: Path, tmp_path: Path, name: str) -> None:
    missing = tmp_path / "missing"
    done = run(programs / name, *words(name, missing, frames), code=1)
    assert done.stderr == f"{name}: no model at {missing}\n"
    done = run(programs / name, *words(name, model, missing), code=1)
    assert done.stderr.startswith(f"{name}: ")
    assert str(missing) in done.stderr
    assert done.stderr.count("\n") == 1
    done = run(programs / name, *words(name, model, frames), "--provider", "tensorrt", code=1)
    assert "this ONNX Runtime has no TensorrtExecutionProvider" in done.stderr


def test_results_are_not_replaced_unasked(programs: Path, model: Path, frames: Path, tmp_path: Path) -> None:
    out, program = tmp_path / "out", programs / "lrp_edge_image"
    run(program, model, frames, "-o", out)
    before = (out / "results.jsonl").read_bytes()
    assert "choose another folder, or --overwrite" in run(program, model, frames, "-o", out, code=1).stderr
    assert (out / "results.jsonl").read_bytes() == before
    run(program, model, frames / "part_000.png", "-o", out, "--overwrite")
    assert len(lines((out / "results.jsonl").read_text())) == 1


@pytest.mark.parametrize("preset", cpp_build.SANITIZERS)
def test_what_passes_between_threads_arrives_whole_under_sanitizers(preset: str, model: Path, tmp_path: Path) -> None:
    build, sources = cpp_build.build(preset), cpp_build.SOURCE / "programs"
    flags = ["-std=c++17", "-g", "-O1", f"-fsanitize={cpp_build.SANITIZERS[preset]}"]
    include = [f"-I{cpp_build.SOURCE / 'include'}", f"-I{sources}"]
    files = [cpp_build.SOURCE / "tests/line.cpp", sources / "inspection_line.cpp"]
    libraries = [f"-L{build}", f"-Wl,-rpath,{build}", "-llrp_edge", "-pthread"]
    cpp_build.command("g++", *flags, *include, *files, "-o", tmp_path / "line", *libraries)
    done = run(tmp_path / "line", model)
    assert (done.stdout, done.stderr) == ("0 wrong\n", "")
