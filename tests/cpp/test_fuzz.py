"""Some seconds of fuzzing; `make fuzz` runs for as long as you like."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support import cpp_build
from tests.support.runtime_graphs import brightness_card

SECONDS = int(os.environ.get("LRP_EDGE_FUZZ_SECONDS", "5"))


@pytest.fixture(scope="module")
def programs() -> Path:
    return cpp_build.build("fuzz") / "tests"


def fuzz(program: Path, corpus: Path, *options: str, **env: str) -> str:
    done = subprocess.run(
        [program, f"-max_total_time={SECONDS}", "-max_len=4096", "-print_final_stats=1", *options, corpus],
        cwd=corpus.parent,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=SECONDS + 120,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    runs = next(line for line in done.stderr.splitlines() if line.startswith("stat::number_of_executed_units"))
    print(f"{program.name}: {runs.split()[-1]} inputs in {SECONDS} s")
    # More than what it began with, and as many as a slow machine gets through.
    assert int(runs.split()[-1]) > 50
    return done.stderr


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    (tmp_path / "corpus").mkdir()
    return tmp_path / "corpus"


def test_card(programs: Path, corpus: Path) -> None:
    profile = {"min": [1, 4, 6], "opt": [1, 4, 6], "max": [4, 4, 6]}
    engine = {"product": "rtx", "gpus": ["sm86"], "options": ["--batch", "1,1,4"]}
    cards = brightness_card(), brightness_card("GRAY", (4, 6)).replace(profile=profile, engine=engine)
    for index, card in enumerate(cards):
        (corpus / f"{index}.json").write_text(card.to_json())
    fuzz(programs / "lrp_edge_fuzz_card", corpus, f"-dict={cpp_build.SOURCE / 'tests/card.dict'}")


def test_frame(programs: Path, corpus: Path, model: Path) -> None:
    fuzz(programs / "lrp_edge_fuzz_frame", corpus, LRP_EDGE_FUZZ_MODEL=str(model))
