"""Builds the C++ library and its test programs, and carries frames to them and their answers back."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from filelock import FileLock

from lrp_edge.runtime.regions import Region

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "cpp_demo"
BUILD = ROOT / "build/cpp/tests"
ONNXRUNTIME = ROOT / "build/onnxruntime"
# What the tests run; another one with a shared library is e.g. debug, or a sanitizer's.
PRESET = os.environ.get("LRP_EDGE_CPP_PRESET", "release")
SANITIZERS = {"asan-ubsan": "address,undefined", "tsan": "thread"}
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror"]


def command(*words: object, folder: Path = ROOT, env: dict[str, str] | None = None, seconds: float = 540) -> str:
    """Run a command that must succeed, and return what it prints."""
    done = subprocess.run(
        list(map(str, words)), cwd=folder, env=env, capture_output=True, text=True, errors="replace", timeout=seconds
    )
    assert done.returncode == 0, f"{' '.join(map(str, words))}\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
    return done.stdout


def require(*programs: str) -> None:
    """Skip a test where a program is not installed."""
    for name in programs:
        if shutil.which(name) is None:
            pytest.skip(f"{name} is not installed")


def require_header(package: str, header: str) -> None:
    """Skip a test where a header is not installed."""
    if not any((folder / header).is_file() for folder in (Path("/usr/include"), Path("/usr/local/include"))):
        pytest.skip(f"{package} is not installed")


def empty_home(folder: Path) -> dict[str, str]:
    """Return the environment of a user who has nothing yet, and has not switched off ONNX Runtime's telemetry."""
    folder.mkdir(exist_ok=True)
    clean = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    return {**clean, "HOME": str(folder), "XDG_CACHE_HOME": str(folder / "cache")}


def alone(folder: Path) -> FileLock:
    """Return a lock under which one of several workers writes a folder that all of them use."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(f"{folder}.lock")


@contextmanager
def once(made: Path) -> Iterator[bool]:
    """Say whether this worker is the first in the session to make something, while the others wait for it."""
    with alone(made):
        done = made.with_name(f"{made.name}.done")
        yield not done.exists()
        done.touch()


@cache
def onnxruntime() -> Path:
    """Return the folder that ONNXRUNTIME_ROOT names, else one with headers and the library that Python has."""
    if given := os.environ.get("ONNXRUNTIME_ROOT"):
        return Path(given).absolute()
    tool = SOURCE / "tools/onnxruntime_from_debian.py"
    with alone(ONNXRUNTIME):
        done = subprocess.run(
            [sys.executable, str(tool), str(ONNXRUNTIME)], capture_output=True, text=True, timeout=300
        )
    if done.returncode:
        pytest.skip(f"the headers of ONNX Runtime are not available: {done.stderr.strip().splitlines()[-1]}")
    return ONNXRUNTIME


@cache
def build(preset: str, *options: str, name: str = "") -> Path:
    """Build a preset, of which there may be several by name, and return its folder; without the programs."""
    require("cmake", "ninja", "clang++" if preset in ("clang", "fuzz") else "c++")
    require_header("nlohmann-json3-dev", "nlohmann/json.hpp")
    folder = BUILD / (name or preset)
    settings = [f"-DONNXRUNTIME_ROOT={onnxruntime()}", "-DLRP_EDGE_TENSORRT=OFF", "-DLRP_EDGE_PROGRAMS=OFF"]
    with alone(folder):
        command("cmake", "--preset", preset, "-B", folder, "-DLRP_EDGE_FETCH=OFF", *settings, *options, folder=SOURCE)
        command("cmake", "--build", folder, "-j2")
    return folder


def cached(folder: Path, name: str) -> str:
    """Return a value of CMake's cache."""
    found: list[str] = re.findall(rf"^{name}:\w+=(.*)$", (folder / "CMakeCache.txt").read_text(), re.MULTILINE)
    assert len(found) == 1, name
    return found[0]


def write_calls(path: Path, calls: Iterable[np.ndarray]) -> Path:
    """Write frames uint8 [N, H, W, C] of each call, as cpp_demo/tests/frame_file.hpp reads them."""
    with path.open("wb") as file:
        for frames in calls:
            file.write(np.array(frames.shape, np.uint32).tobytes())
            file.write(np.ascontiguousarray(frames).tobytes())
    return path


class Answer(NamedTuple):
    """What the library says of a frame."""

    label: int
    defect: bool
    scores: np.ndarray
    mask: np.ndarray
    relevance: np.ndarray
    regions: tuple[Region, ...]


_REGION = np.dtype(
    [(name, "<i8") for name in ("x", "y", "width", "height", "area")] + [("extent", "<f8"), ("mean", "<f8")]
)


def read_answers(path: Path, shapes: Sequence[tuple[int, int]], classes: int) -> Iterator[Answer]:
    """Read what lrp_edge_dump wrote, for frames of some (height, width)."""
    data, at = path.read_bytes(), 0

    def take(dtype: Any, count: int) -> np.ndarray:
        nonlocal at
        values: np.ndarray = np.frombuffer(data, dtype, count, at)
        at += values.nbytes
        return values

    for height, width in shapes:
        label, defect = take(np.int32, 2).tolist()
        scores = take(np.float32, classes)
        mask, relevance = (take(kind, height * width).reshape(height, width) for kind in (np.uint8, np.float32))
        regions = take(_REGION, int(take(np.int64, 1)[0])).tolist()
        yield Answer(label, bool(defect), scores, mask, relevance, tuple(Region(*region) for region in regions))
    assert at == len(data)


def answers(
    folder: Path, model: Path, calls: Sequence[np.ndarray], out: Path, classes: int, gap: int = 0
) -> Iterator[Answer]:
    """Run the library on frames of some calls; with gaps, each row has so many more bytes behind it."""
    frames = write_calls(out / "frames.bin", calls)
    command(folder / "tests/lrp_edge_dump", model, frames, out / "answers.bin", gap)
    shapes = [call.shape[1:3] for call in calls for _ in call]
    return read_answers(out / "answers.bin", shapes, classes)
