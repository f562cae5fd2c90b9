"""What the C++ library costs compared with ONNX Runtime alone, and its start and memory compared with Python's."""

from __future__ import annotations

import statistics
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

import lrp_edge
from tests.support import cpp_build
from tests.support.runtime_graphs import brightness_card, brightness_graph

pytestmark = pytest.mark.benchmark

HEIGHT, WIDTH, CALLS, ROUNDS = 480, 640, 300, 5
#: Microseconds a frame that the library may add, where nothing has to be copied.
LIMIT = 50

PYTHON = """
import sys, time
start = time.perf_counter()
import numpy as np
from lrp_edge.runtime import Segmenter
segmenter = Segmenter(sys.argv[1], provider="cpu", threads=1)
print("start", (time.perf_counter() - start) * 1e3)
segmenter(np.zeros((int(sys.argv[2]), int(sys.argv[3]), segmenter.card.input.channels), np.uint8))
print("memory", next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmRSS:")))
"""


@pytest.fixture(scope="module")
def brightness(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("brightness") / "model.onnx"
    onnx.save(brightness_graph(brightness_card(), 3, None), path)
    return path


@pytest.fixture(scope="module")
def surfaces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from lrp_edge.export import to_onnx

    checkpoint = Path(lrp_edge.__file__).parent / "assets/surfaces.safetensors"
    return to_onnx(checkpoint, tmp_path_factory.mktemp("surfaces"))


def program() -> Path:
    return cpp_build.build("release") / "tests/lrp_edge_overhead"


def test_overhead_over_onnx_runtime(brightness: Path) -> None:
    rounds: dict[str, list[list[float]]] = {}
    for _ in range(ROUNDS):
        for line in cpp_build.command(program(), brightness, HEIGHT, WIDTH, CALLS).splitlines()[2:]:
            name, *figures = line.split()
            rounds.setdefault(name, []).append(list(map(float, figures)))
    overhead = {}
    for name, values in rounds.items():
        undisturbed, middle, session, regions = map(statistics.median, zip(*values, strict=True))
        overhead[name] = undisturbed
        print(
            f"{name}, {regions:.0f} regions: {undisturbed:.0f} µs a frame undisturbed, {middle:.0f} µs in the middle, "
            f"next to {session:.0f} µs of Ort::Session::Run"
        )
    assert overhead["plain"] <= LIMIT
    assert overhead["regions"] <= LIMIT


@pytest.mark.parametrize("name", ["brightness", "surfaces"])
def test_start_and_memory_beside_python(request: pytest.FixtureRequest, name: str) -> None:
    model = request.getfixturevalue(name)
    commands = {
        "C++": [program(), model, HEIGHT, WIDTH, 0],
        "Python": [sys.executable, "-c", PYTHON, model, HEIGHT, WIDTH],
    }
    facts: dict[str, dict[str, float]] = {}
    for side, words in commands.items():
        runs = [dict(map(str.split, output(words))) for _ in range(ROUNDS)]
        facts[side] = {what: statistics.median(float(run[what]) for run in runs) for what in ("start", "memory")}
        start, memory = facts[side]["start"], facts[side]["memory"] / 1024
        print(f"{name}, {side}: ready after {start:.0f} ms, {memory:.0f} MiB resident after a frame")
    assert facts["C++"]["start"] < facts["Python"]["start"]
    assert facts["C++"]["memory"] < facts["Python"]["memory"]


def output(words: list[object]) -> list[str]:
    done = subprocess.run(list(map(str, words)), cwd=cpp_build.ROOT, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()
