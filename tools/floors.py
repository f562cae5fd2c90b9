"""Run the tests of what strangers can reach with the oldest versions that pyproject.toml allows.

What runs a line is installed in a new environment, each package that pyproject.toml names at its lower bound: what a
version of years ago lets pass, nobody would notice otherwise. Without torch, as on a device.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_ROOT = Path(__file__).parents[1]
_FOLDER = _ROOT / "build" / "floors"
_EXTRAS = ("pictures", "cpu", "viewer", "mqtt", "webhook", "camera", "config")
#: What the tests themselves need; of these onnx is what reads a model file, and is as old as may be too.
_TOOLS = ("hypothesis", "psutil", "pytest", "pytest-timeout", "pytest-xdist")
_TESTS = (
    "tests/pictures",
    "tests/runtime/test_damaged_files.py",
    "tests/runtime/test_names.py",
    "tests/runtime/test_redaction.py",
    "tests/runtime/test_segmenter.py",
    "tests/runtime/viewer/test_access.py",
    "tests/runtime/viewer/test_guard.py",
)


def floors() -> list[str]:
    """Return what is installed, each at its lower bound."""
    return sorted(
        {f"{each.name}=={_lower(each)}" for each in _requirements() if each.marker is None or each.marker.evaluate()}
    )


def _requirements() -> Iterator[Requirement]:
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    named = [*project["dependencies"], *(text for extra in _EXTRAS for text in extras[extra])]
    yield from (each for each in map(Requirement, named) if each.name != project["name"])
    yield from (each for each in map(Requirement, extras["export"]) if each.name == "onnx")


def _lower(requirement: Requirement) -> str:
    bounds = [each.version for each in requirement.specifier if each.operator == ">="]
    if len(bounds) != 1:
        raise SystemExit(f"pyproject.toml: {requirement} has no lower bound; expected one, as in NAME>=VERSION")
    return bounds[0]


def main() -> int:
    """Make the environment, and run the tests in it."""
    venv.create(_FOLDER, with_pip=True, clear=True)
    python = _FOLDER / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    print("lowest versions:", ", ".join(floors()), flush=True)
    subprocess.run([*install, *floors()], check=True, cwd=_ROOT)
    subprocess.run([*install, "--constraint", "constraints.txt", *_TOOLS], check=True, cwd=_ROOT)
    subprocess.run([python, "-m", "pip", "check"], check=True, cwd=_ROOT)
    command = [python, "-m", "pytest", "-n", "2", "--dist", "worksteal", "-p", "no:cacheprovider", *_TESTS]
    return subprocess.run(command, cwd=_ROOT).returncode


if __name__ == "__main__":
    sys.exit(main())
