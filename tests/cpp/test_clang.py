"""The library compiles without a warning with Clang too, and answers the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support import cpp_build


@pytest.mark.thorough
def test_clang_s_build_answers_as_gcc_s(release: Path, model: Path, tmp_path: Path) -> None:
    frames = [np.random.default_rng(1).integers(0, 256, (2, 50, 61, 3), dtype=np.uint8)]
    outs = tmp_path / "gcc", tmp_path / "clang"
    for folder, out in zip((release, cpp_build.build("clang")), outs, strict=True):
        out.mkdir()
        list(cpp_build.answers(folder, model, frames, out, 2))
    assert (outs[0] / "answers.bin").read_bytes() == (outs[1] / "answers.bin").read_bytes()
