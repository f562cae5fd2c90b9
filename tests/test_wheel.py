"""A wheel from an archive without symbolic links, as a checkout on Windows has none: it is whole, and the demo runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DEMO = "import sys; from lrp_edge.cli import main; sys.argv = ['lrp-edge', 'demo', '-o', 'demo']; main()"


@pytest.mark.thorough
def test_a_wheel_built_without_links_runs_the_demo(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "lrp_edge", source / "lrp_edge", ignore=shutil.ignore_patterns("__pycache__"))
    assert not [path for path in source.rglob("*") if path.is_symlink()]
    pip = [sys.executable, "-m", "pip", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", tmp_path, source], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", tmp_path / "site", wheel], check=True)
    env = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    where = "import lrp_edge.runtime, lrp_edge.export; print(lrp_edge.runtime.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", where], env=env, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert found.stdout.startswith(str(tmp_path / "site"))
    subprocess.run([sys.executable, "-c", DEMO], env=env, cwd=tmp_path, check=True)
    assert (tmp_path / "demo" / "index.html").is_file()
