"""Builds the C++ library and its test programs, and carries frames to them and their answers back."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from lrp_edge.runtime.regions import Region

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "cpp_demo"
BUILD = ROOT / "build/cpp/tests"
ONNXRUNTIME = ROOT / "build/onnxruntime"


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


@cache
def onnxruntime() -> Path:
    """Return a folder with the headers of ONNX Runtime and the library that Python has."""
    tool = SOURCE / "tools/onnxruntime_from_debian.py"
    done = subprocess.run([sys.executable, str(tool), str(ONNXRUNTIME)], capture_output=True, text=True, timeout=300)
    if done.returncode:
        pytest.skip(f"the headers of ONNX Runtime are not at hand: {done.stderr.strip().splitlines()[-1]}")
    return ONNXRUNTIME


@cache
def build(preset: str, *options: str) -> Path:
    """Build a preset and return its folder; without the programs, which need OpenCV."""
    require("cmake", "ninja", "clang++" if preset in ("clang", "fuzz") else "c++")
    folder = BUILD / preset
    settings = [f"-DONNXRUNTIME_ROOT={onnxruntime()}", "-DLRP_EDGE_TENSORRT=OFF", "-DLRP_EDGE_PROGRAMS=OFF"]
    command("cmake", "--preset", preset, "-B", folder, "-DLRP_EDGE_FETCH=OFF", *settings, *options, folder=SOURCE)
    command("cmake", "--build", folder, "-j2")
    return folder


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

    def take(dtype: object, count: int) -> np.ndarray:
        nonlocal at
        values = np.frombuffer(data, dtype, count, at)
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
