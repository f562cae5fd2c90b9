"""The library compiles without a warning with Clang too, and answers the same."""

from __future__ import annotations

from pathlib import Path

import cpp_build
import numpy as np


def test_clang_s_build_answers_as_gcc_s(release: Path, model: Path, tmp_path: Path) -> None:
    frames = [np.random.default_rng(1).integers(0, 256, (2, 50, 61, 3), dtype=np.uint8)]
    for folder in (release, cpp_build.build("clang")):
        (tmp_path / folder.name).mkdir()
        list(cpp_build.answers(folder, model, frames, tmp_path / folder.name, 2))
    assert (tmp_path / "clang/answers.bin").read_bytes() == (tmp_path / "release/answers.bin").read_bytes()
