"""Where ONNX Runtime is looked for, and what is said where it is not."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import cpp_build
import pytest


@pytest.fixture(autouse=True)
def _tools() -> None:
    cpp_build.require("cmake", "ninja", "c++")


def configure(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    settings = ["-DLRP_EDGE_PROGRAMS=OFF", "-DLRP_EDGE_TENSORRT=OFF", *options]
    return subprocess.run(
        ["cmake", "-S", cpp_build.SOURCE, "-B", folder, "-G", "Ninja", *settings],
        capture_output=True,
        text=True,
        timeout=120,
    )


def value(folder: Path, name: str) -> str:
    (found,) = re.findall(rf"^{name}:\w+=(.*)$", (folder / "CMakeCache.txt").read_text(), re.MULTILINE)
    return found


def test_folder_that_is_given(tmp_path: Path) -> None:
    root = cpp_build.onnxruntime()
    done = configure(tmp_path, f"-DONNXRUNTIME_ROOT={root}", "-DLRP_EDGE_FETCH=OFF")
    assert done.returncode == 0, done.stderr
    assert f"ONNX Runtime: {root}/lib/libonnxruntime.so, headers of 1.21" in done.stdout
    assert value(tmp_path, "LRP_EDGE_INSTALL_ONNXRUNTIME") == "ON"


def test_package_that_is_installed(tmp_path: Path) -> None:
    """Its library is the system's, and is not installed once more."""
    root = cpp_build.onnxruntime()
    done = configure(tmp_path, f"-DCMAKE_PREFIX_PATH={root}", "-DLRP_EDGE_FETCH=OFF")
    assert done.returncode == 0, done.stderr
    assert f"ONNX Runtime: {root}/lib/libonnxruntime.so" in done.stdout
    assert value(tmp_path, "LRP_EDGE_INSTALL_ONNXRUNTIME") == "OFF"


def test_archive_that_was_downloaded(tmp_path: Path) -> None:
    root = cpp_build.onnxruntime()
    done = configure(tmp_path, f"-DFETCHCONTENT_SOURCE_DIR_ONNXRUNTIME={root}")
    assert done.returncode == 0, done.stderr
    assert f"ONNX Runtime: {root}/lib/libonnxruntime.so" in done.stdout
    assert value(tmp_path, "LRP_EDGE_INSTALL_ONNXRUNTIME") == "ON"


@pytest.mark.parametrize("option", ["-DLRP_EDGE_FETCH=OFF", "-DONNXRUNTIME_ROOT=/nowhere"])
def test_nothing_is_found(tmp_path: Path, option: str) -> None:
    done = configure(tmp_path, option)
    assert done.returncode != 0
    said = " ".join(done.stderr.split())
    assert "ONNX Runtime was not found; install it (Debian 13: libonnxruntime-dev)" in said
    assert "-DONNXRUNTIME_ROOT=" in said


def test_another_folder_takes_the_place_of_the_first(tmp_path: Path) -> None:
    root = cpp_build.onnxruntime()
    (tmp_path / "other").symlink_to(root)
    for folder in (root, tmp_path / "other"):
        done = configure(tmp_path / "build", f"-DONNXRUNTIME_ROOT={folder}")
        assert f"ONNX Runtime: {folder}/lib/libonnxruntime.so" in done.stdout


def test_every_preset_can_be_built_and_tested() -> None:
    presets = json.loads((cpp_build.SOURCE / "CMakePresets.json").read_text())
    names = {preset["name"] for preset in presets["configurePresets"] if not preset.get("hidden")}
    assert names == {preset["name"] for preset in presets["buildPresets"]}
    assert names - {"fuzz", "aarch64"} == {preset["name"] for preset in presets["testPresets"]}
