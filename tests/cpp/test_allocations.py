"""No frame costs a heap allocation, once one like it has been run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import cpp_build

WAYS = ["contiguous", "strided", "batch", "in-turns", "c"]
FRAMES = 1000


@pytest.fixture(scope="module")
def counted(plain: Path, model: Path) -> dict[str, tuple[int, int]]:
    """Allocations of the library's calls and of as many calls of ONNX Runtime alone, by the way of giving frames."""
    runs: list[dict[str, tuple[int, int]]] = []
    for _ in range(3):
        lines = cpp_build.command(plain / "tests/lrp_edge_allocations", model, FRAMES).splitlines()
        runs.append({name: (int(ours), int(plain)) for name, ours, plain in map(str.split, lines)})
    # ONNX Runtime's own threads allocate now and then, whoever calls it; what a frame costs, it costs in each run.
    return {name: min((run[name] for run in runs), key=lambda found: abs(found[0] - found[1])) for name in runs[0]}


@pytest.mark.parametrize("way", WAYS)
def test_library_allocates_nothing(counted: dict[str, tuple[int, int]], way: str) -> None:
    ours, plain = counted[way]
    print(f"{way}: {ours - plain} of {ours} allocations over {FRAMES} calls are not ONNX Runtime's")
    assert ours == plain


def test_what_is_counted_is_there(counted: dict[str, tuple[int, int]]) -> None:
    """ONNX Runtime allocates at each call, and the counter sees it."""
    assert set(counted) == set(WAYS)
    assert all(plain >= FRAMES for _, plain in counted.values())
