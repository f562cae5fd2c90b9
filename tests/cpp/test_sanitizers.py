"""The same programs under sanitizers and valgrind: nothing is read, written, raced for or left behind.

ONNX Runtime's library is as it comes, without their instruments.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.support import cpp_build


def run(*words: object, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, words)), input=given, capture_output=True, text=True, timeout=540)


def assert_clean(done: subprocess.CompletedProcess[str], said: str) -> None:
    assert (done.returncode, done.stderr) == (0, "")
    assert said in done.stdout


@pytest.mark.parametrize("preset", cpp_build.SANITIZERS)
def test_thousand_frames_good_and_bad(preset: str, model: Path) -> None:
    assert_clean(run(cpp_build.build(preset) / "tests/lrp_edge_soak", model, 1000), "1000 frames, 0 wrong")


@pytest.mark.parametrize("preset", cpp_build.SANITIZERS)
def test_threads(preset: str, model: Path) -> None:
    said = "0 results differ, 0 files are refused otherwise, 0 errors are another thread's"
    assert_clean(run(cpp_build.build(preset) / "tests/lrp_edge_threads", model, 30), said)


@pytest.mark.parametrize("preset", cpp_build.SANITIZERS)
def test_c_interface(preset: str, model: Path) -> None:
    assert_clean(run(cpp_build.build(preset) / "tests/lrp_edge_c_interface", model), "0 failures")


BAD = ["4 5 2 0", "0 5 3 0", "4 5 3 -15", f"4 5 3 {2**63 - 1}", f"{2**63 - 1} {2**63 - 1} 3 0", "4 5 3 none"]
BAD += ["4 5 3 0 4 6 3 0", " ".join(["4 5 3 0"] * 4)]


@pytest.mark.parametrize("preset", cpp_build.SANITIZERS)
def test_bad_frames(preset: str, model: Path) -> None:
    done = run(cpp_build.build(preset) / "tests/lrp_edge_errors", model, "cpu", 1, given="\n".join([*BAD, "4 5 3 0"]))
    assert_clean(done, "labels 0")
    assert len(done.stdout.splitlines()) == len(BAD) + 2


@pytest.mark.parametrize("preset", cpp_build.SANITIZERS)
@pytest.mark.parametrize("gap", [0, 7])
def test_answers_are_the_release_build_s(preset: str, gap: int, release: Path, model: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    shapes: Sequence[tuple[int, ...]] = [(1, 1, 1, 3), (3, 33, 21, 3), (2, 120, 160, 3), (1, 7, 300, 3)]
    frames = cpp_build.write_calls(
        tmp_path / "frames.bin", [rng.integers(0, 256, shape, dtype=np.uint8) for shape in shapes]
    )
    answers = tmp_path / "answers", tmp_path / "sanitized"
    for folder, out in zip((release, cpp_build.build(preset)), answers, strict=True):
        assert_clean(run(folder / "tests/lrp_edge_dump", model, frames, out, gap), "")
    assert answers[0].read_bytes() == answers[1].read_bytes()


def test_address_sanitizer_sees_a_frame_that_is_not_there(model: Path) -> None:
    done = run(cpp_build.build("asan-ubsan") / "tests/lrp_edge_errors", model, "cpu", 1, given="2000 2000 3 6001\n")
    assert done.returncode != 0
    assert "heap-buffer-overflow" in done.stderr
    assert "lrp_edge::pack" in done.stderr


def test_thread_sanitizer_sees_two_threads_in_one_segmenter(model: Path) -> None:
    done = run(cpp_build.build("tsan") / "tests/lrp_edge_threads", model, 30, "race")
    assert done.returncode != 0
    assert "data race" in done.stderr


def test_valgrind_finds_no_leak_over_a_thousand_frames(plain: Path, model: Path) -> None:
    cpp_build.require("valgrind")
    leaks = "definite,indirect,possible"
    done = run(
        *("valgrind", "--error-exitcode=9", "--leak-check=full", f"--show-leak-kinds={leaks}"),
        *(f"--errors-for-leak-kinds={leaks}", f"--suppressions={cpp_build.SOURCE / 'tests/onnxruntime.supp'}"),
        *(plain / "tests/lrp_edge_soak", model, 1000),
    )
    assert (done.returncode, done.stdout) == (0, "1000 frames, 0 wrong\n"), done.stderr[-3000:]
    lost = re.findall(r"(?:definitely|indirectly|possibly) lost: ([\d,]+) bytes", done.stderr)
    assert lost in (["0"] * 3, [] if "no leaks are possible" in done.stderr else None)
