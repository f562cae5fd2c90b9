"""The library, built once."""

from __future__ import annotations

import ctypes
import shutil
from pathlib import Path

import pytest

from tests.support import cpp_build, cpp_ctypes
from tests.support.cpp_tensorrt import BACKEND, BESIDES, FLAGS, SIMULATED, Native, compile_all, cuda
from tests.support.simulated_cuda import Gpu

PRODUCTS: dict[str, list[str]] = {"tensorrt": [], "rtx": ["-DSIMULATED_RTX"]}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave these to ``make cpp``: compilers and sanitizers take as long as all other tests."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("cpp")


@pytest.fixture(scope="session")
def release() -> Path:
    """The folder of a release build; LRP_EDGE_CPP_PRESET takes another preset, e.g. debug or a sanitizer's."""
    return cpp_build.build(cpp_build.PRESET)


@pytest.fixture(scope="session")
def plain(release: Path) -> Path:
    """The same, for what cannot be done to a library with a sanitizer."""
    if cpp_build.PRESET in cpp_build.SANITIZERS:
        pytest.skip(f"the library of {cpp_build.PRESET} is loaded by a program with that sanitizer only")
    return release


@pytest.fixture(scope="session")
def library(plain: Path) -> ctypes.CDLL:
    """The library in this process."""
    return cpp_ctypes.load(plain)


@pytest.fixture(scope="session")
def prefix(plain: Path, session_folder: Path) -> Path:
    """The installed package, always in one place, so that what is built with it need not be rebuilt."""
    folder = cpp_build.BUILD / "prefix"
    with cpp_build.once(session_folder / "installed") as first:
        if first:
            shutil.rmtree(folder, ignore_errors=True)
            cpp_build.command("cmake", "--install", plain, "--prefix", folder)
    return folder


@pytest.fixture(scope="session")
def backend_objects(session_folder: Path) -> dict[str, list[Path]]:
    """The backend, and what it takes of the library, compiled for each product with the simulated headers."""
    cpp_build.require("g++")
    cpp_build.require_header("nlohmann-json3-dev", "nlohmann/json.hpp")
    cpp_build.require_header("libssl-dev", "openssl/evp.h")
    folders = {name: session_folder / "backend" / name for name in ("same", *PRODUCTS)}
    with cpp_build.once(session_folder / "backend") as first:
        for folder in folders.values() if first else ():
            folder.mkdir(parents=True)
        if first:
            compile_all("g++", folders["same"], BESIDES, [SIMULATED, cuda()], *FLAGS)
            for product, define in PRODUCTS.items():
                compile_all("g++", folders[product], BACKEND, [SIMULATED, cuda()], *FLAGS, *define)
    return {product: [*folders["same"].glob("*.o"), *folders[product].glob("*.o")] for product in PRODUCTS}


@pytest.fixture(scope="session")
def simulators(backend_objects: dict[str, list[Path]], session_folder: Path) -> dict[str, Path]:
    """The backend on a simulated GPU, for each product."""
    folder = session_folder / "simulators"
    with cpp_build.once(folder) as first:
        if first:
            folder.mkdir()
            _link_simulators(backend_objects, folder)
    return {product: folder / product for product in PRODUCTS}


def _link_simulators(objects: dict[str, list[Path]], folder: Path) -> None:
    headers = [SIMULATED, cuda()]
    same = compile_all("g++", folder, [SIMULATED / "main.cpp", SIMULATED / "cuda.cpp"], headers, *FLAGS)
    for product, define in PRODUCTS.items():
        own = compile_all("g++", folder, [SIMULATED / "tensorrt.cpp"], headers, *FLAGS, *define)
        cpp_build.command("g++", *FLAGS, *objects[product], *same, *own, "-lcrypto", "-o", folder / product)


@pytest.fixture
def both(simulators: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Native:
    """The native backend in C++ and in Python, each on its simulated GPU."""
    return Native(simulators, Gpu(tmp_path, monkeypatch), tmp_path)
