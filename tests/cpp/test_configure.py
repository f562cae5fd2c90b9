"""Where ONNX Runtime is looked for, what is built of what is there, and what is said where something is not."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.support import cpp_build


@pytest.fixture(autouse=True)
def _tools() -> None:
    cpp_build.require("cmake", "ninja", "c++")
    cpp_build.require_header("nlohmann-json3-dev", "nlohmann/json.hpp")


def configure(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Configure the project without the programs, if nothing else is asked for; nothing is ever downloaded."""
    settings = ["-DLRP_EDGE_PROGRAMS=OFF", "-DLRP_EDGE_TENSORRT=OFF", "-DFETCHCONTENT_FULLY_DISCONNECTED=ON", *options]
    return subprocess.run(
        ["cmake", "-S", cpp_build.SOURCE, "-B", folder, "-G", "Ninja", *settings],
        capture_output=True,
        text=True,
        timeout=300,
    )


def said(done: subprocess.CompletedProcess[str]) -> str:
    """Return the error in one line; CMake breaks it anywhere."""
    assert done.returncode != 0, done.stdout
    return " ".join(done.stderr.split())


@pytest.fixture(scope="module")
def _no_package(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A system without a package of ONNX Runtime, which would be taken first."""
    folder = tmp_path_factory.mktemp("system")
    if configure(folder, "-DLRP_EDGE_FETCH=OFF").returncode == 0:
        pytest.skip(f"this system has a package of ONNX Runtime: {cpp_build.cached(folder, 'ONNXRuntime_LIBRARY')}")


# A package's library is the system's, and is not installed once more.
@pytest.mark.parametrize(
    ("place", "fetch", "installed"),
    [
        pytest.param("ONNXRUNTIME_ROOT", "OFF", "ON", id="given"),
        pytest.param("CMAKE_PREFIX_PATH", "OFF", "OFF", id="package"),
        pytest.param("FETCHCONTENT_SOURCE_DIR_ONNXRUNTIME", "ON", "ON", id="downloaded"),
    ],
)
@pytest.mark.usefixtures("_no_package")
def test_where_onnx_runtime_is_found(tmp_path: Path, place: str, fetch: str, installed: str) -> None:
    root = cpp_build.onnxruntime()
    done = configure(tmp_path, f"-D{place}={root}", f"-DLRP_EDGE_FETCH={fetch}")
    assert done.returncode == 0, done.stderr
    (header,) = root.rglob("onnxruntime_c_api.h")
    (version,) = re.findall(r"^#define ORT_API_VERSION (\d+)", header.read_text(), re.MULTILINE)
    assert f"ONNX Runtime: {root}/lib/libonnxruntime.so, headers of 1.{version}\n" in done.stdout
    assert cpp_build.cached(tmp_path, "LRP_EDGE_INSTALL_ONNXRUNTIME") == installed


@pytest.mark.parametrize("option", ["-DLRP_EDGE_FETCH=OFF", "-DONNXRUNTIME_ROOT=/nowhere"])
@pytest.mark.usefixtures("_no_package")
def test_nothing_is_found(tmp_path: Path, option: str) -> None:
    text = said(configure(tmp_path, option))
    assert "ONNX Runtime was not found; install it (Debian 13: libonnxruntime-dev)" in text
    assert "-DONNXRUNTIME_ROOT=" in text


def test_another_folder_takes_the_place_of_the_first(tmp_path: Path) -> None:
    root = cpp_build.onnxruntime()
    (tmp_path / "other").symlink_to(root)
    for folder in (root, tmp_path / "other"):
        done = configure(tmp_path / "build", f"-DONNXRUNTIME_ROOT={folder}")
        assert f"ONNX Runtime: {folder}/lib/libonnxruntime.so" in done.stdout


def without_opencv(folder: Path, programs: str) -> subprocess.CompletedProcess[str]:
    options = ["-DCMAKE_DISABLE_FIND_PACKAGE_OpenCV=ON", f"-DLRP_EDGE_PROGRAMS={programs}"]
    return configure(folder, f"-DONNXRUNTIME_ROOT={cpp_build.onnxruntime()}", *options)


def test_programs_that_are_asked_for_need_opencv(tmp_path: Path) -> None:
    text = said(without_opencv(tmp_path, "ON"))
    assert "OpenCV" in text
    assert "libopencv-dev" in text
    assert "-DLRP_EDGE_PROGRAMS=OFF" in text


def test_programs_that_are_not_asked_for_are_left_out_without_opencv(tmp_path: Path) -> None:
    done = without_opencv(tmp_path, "AUTO")
    assert done.returncode == 0, done.stderr
    assert "The programs are left out" in done.stdout
    targets = (tmp_path / "build.ninja").read_text()
    assert "liblrp_edge.so" in targets
    assert "lrp_edge_image" not in targets


def test_every_preset_can_be_built() -> None:
    presets = json.loads((cpp_build.SOURCE / "CMakePresets.json").read_text())
    names = {preset["name"] for preset in presets["configurePresets"] if not preset.get("hidden")}
    assert {cpp_build.PRESET, *cpp_build.SANITIZERS} <= names
    assert names == {preset["name"] for preset in presets["buildPresets"]}
