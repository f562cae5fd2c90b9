"""What is installed is found by a program of another tree, by CMake and by pkg-config, wherever it is put."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support import cpp_build

CONSUMER = cpp_build.SOURCE / "consumer"


@pytest.fixture(scope="module", params=["shared", "static"])
def prefix(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installed package that was moved since."""
    folder = request.getfixturevalue("plain") if request.param == "shared" else cpp_build.build("static")
    first, last = (tmp_path_factory.mktemp(request.param) / name for name in ("first", "last"))
    cpp_build.command("cmake", "--install", folder, "--prefix", first)
    first.rename(last)
    return last


def library_folder(prefix: Path) -> Path:
    (config,) = prefix.rglob("lrp_edge.pc")
    return config.parent.parent


def assert_runs(program: Path, model: Path, home: Path, **env: str) -> None:
    """Run a consumer on a model and on none; ONNX Runtime may leave nothing in the user's folder to report."""
    settings = cpp_build.empty_home(home) | env
    done = subprocess.run([program, model], capture_output=True, text=True, env=settings, timeout=60)
    assert (done.stdout, done.returncode) == ("stain, 1 regions\n", 0), done.stderr
    done = subprocess.run([program, "none.onnx"], capture_output=True, text=True, env=settings, timeout=60)
    assert (done.stderr, done.returncode) == ("error: no model at none.onnx\n", 1)
    assert list(home.iterdir()) == []


def test_find_package(prefix: Path, model: Path, tmp_path: Path) -> None:
    shutil.copytree(CONSUMER, tmp_path / "source")
    cpp_build.command(
        *("cmake", "-S", tmp_path / "source", "-B", tmp_path / "build", "-G", "Ninja", f"-DCMAKE_PREFIX_PATH={prefix}")
    )
    cpp_build.command("cmake", "--build", tmp_path / "build")
    assert_runs(tmp_path / "build/consumer", model, tmp_path / "home")
    assert_runs(tmp_path / "build/consumer_c", model, tmp_path / "home")


def test_another_version_is_not_taken(prefix: Path, tmp_path: Path) -> None:
    shutil.copytree(CONSUMER, tmp_path / "source")
    script = tmp_path / "source/CMakeLists.txt"
    script.write_text(script.read_text().replace("lrp_edge 0.1", "lrp_edge 0.2"))
    done = subprocess.run(
        ["cmake", "-S", tmp_path / "source", "-B", tmp_path / "build", f"-DCMAKE_PREFIX_PATH={prefix}"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode != 0
    said = " ".join(done.stderr.split())
    assert 'compatible with requested version "0.2"' in said
    assert "lrp_edgeConfig.cmake, version: 0.1.0" in said


def test_pkg_config(prefix: Path, model: Path, tmp_path: Path) -> None:
    cpp_build.require("pkg-config", "c++", "cc")
    libraries = library_folder(prefix)
    env = {**os.environ, "PKG_CONFIG_PATH": str(libraries / "pkgconfig")}
    flags = cpp_build.command("pkg-config", "--cflags", "--libs", "lrp_edge", env=env).split()
    assert f"-L{libraries}" in [os.path.normpath(flag) for flag in flags]
    for source, compiler in (("main.cpp", ["c++", "-std=c++17"]), ("main.c", ["cc", "-std=c99"])):
        program = tmp_path / Path(source).stem
        cpp_build.command(*compiler, CONSUMER / source, "-o", program, *flags)
        assert_runs(program, model, tmp_path / "home", LD_LIBRARY_PATH=str(libraries))


def test_installed_files_do_not_know_where_they_were_made(prefix: Path) -> None:
    texts = [path for path in prefix.rglob("*") if path.suffix in (".cmake", ".pc", ".hpp", ".h")]
    assert len(texts) > 10
    for path in texts:
        assert str(cpp_build.ROOT) not in path.read_text(), path
    for path in prefix.rglob("liblrp_edge.so"):
        assert str(cpp_build.ROOT) not in cpp_build.command("readelf", "-d", path)
