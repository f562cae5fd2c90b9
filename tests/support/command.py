"""The command line as a user has it: a process, its exit status, and one line for each mistake."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def lrp_edge(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command and return its exit status and what it printed."""
    command = [sys.executable, "-m", "lrp_edge", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd)


def assert_refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """Check that it ended with 1 and one line of the tool's own, which has these words."""
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("lrp-edge: ")
    assert done.stderr.count("\n") == 1, done.stderr
    for word in words:
        assert word in done.stderr
