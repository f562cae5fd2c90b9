"""Versions that pyproject.toml allows: what is tested at the lower bound, and what CI installs, are among them."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools import floors

CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"


@pytest.mark.parametrize("requirement", list(floors._requirements()), ids=str)
def test_what_ci_installs_and_the_lower_bound_are_allowed(requirement: Requirement) -> None:
    assert floors._lower(requirement) in requirement.specifier
    lines = (line for line in CONSTRAINTS.read_text().splitlines() if "==" in line)
    installed = {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}
    if requirement.marker is None or requirement.marker.evaluate():
        assert installed[canonicalize_name(requirement.name)] in requirement.specifier


def test_each_package_is_installed_at_one_version() -> None:
    names = [each.partition("==")[0] for each in floors.floors()]
    assert len(names) == len(set(names))
    assert {"onnxruntime", "starlette", "uvicorn", "opencv-python-headless"} <= set(names)
