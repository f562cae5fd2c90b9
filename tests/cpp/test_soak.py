"""The library in use for a while: frames of many sizes, good and bad, and several threads at once."""

from __future__ import annotations

from pathlib import Path

from tests.support import cpp_build


def test_thousand_frames_good_and_bad(release: Path, model: Path) -> None:
    assert cpp_build.command(release / "tests/lrp_edge_soak", model, 1000) == "1000 frames, 0 wrong\n"


def test_threads(release: Path, model: Path) -> None:
    said = "0 results differ, 0 files are refused otherwise, 0 errors are another thread's\n"
    assert cpp_build.command(release / "tests/lrp_edge_threads", model, 100) == said
