"""CMake builds, installs and links the library with TensorRT, whose SDK and whose GPU are simulated."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support import cpp_build
from tests.support.cpp_tensorrt import SIMULATED, cuda, python_error
from tests.support.simulated_cuda import Gpu

CONSUMER = cpp_build.SOURCE / "consumer"


@pytest.fixture(scope="session")
def sdk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders ``cuda`` and ``tensorrt``, laid out as NVIDIA's archives are."""
    cpp_build.require("cmake", "ninja", "c++")
    folder = tmp_path_factory.mktemp("sdk")
    for name in ("cuda/lib64", "tensorrt/lib", "tensorrt/include"):
        (folder / name).mkdir(parents=True)
    (folder / "cuda/include").symlink_to(cuda())
    (folder / "cuda/version.txt").write_text("CUDA Version 13.0.0\n")
    version = (SIMULATED / "NvInferVersion.h").read_text().partition("#if ")[0]
    version += "#define NV_TENSORRT_MAJOR 10\n#define NV_TENSORRT_MINOR 3\n#endif\n"
    (folder / "tensorrt/include/NvInferVersion.h").write_text(version)
    shutil.copy(SIMULATED / "NvInferRuntime.h", folder / "tensorrt/include")
    words = ["c++", "-std=c++17", "-shared", "-fPIC", f"-I{folder}/tensorrt/include", f"-I{folder}/cuda/include"]
    cudart, nvinfer = folder / "cuda/lib64/libcudart.so", folder / "tensorrt/lib/libnvinfer.so"
    cpp_build.command(*words, SIMULATED / "cuda.cpp", "-o", cudart, "-Wl,-soname,libcudart.so")
    cpp_build.command(*words, SIMULATED / "tensorrt.cpp", cudart, "-o", nvinfer, "-Wl,-soname,libnvinfer.so")
    return folder


def configure(sdk: Path, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    settings = [f"-DONNXRUNTIME_ROOT={cpp_build.onnxruntime()}", "-DLRP_EDGE_FETCH=OFF", "-DLRP_EDGE_PROGRAMS=OFF"]
    settings += ["-DLRP_EDGE_TENSORRT=ON", f"-DTENSORRT_ROOT={sdk / 'tensorrt'}", f"-DCUDAToolkit_ROOT={sdk / 'cuda'}"]
    return subprocess.run(
        ["cmake", "-S", cpp_build.SOURCE, "-B", folder, "-G", "Ninja", *settings, *options],
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture(scope="module", params=["shared", "static"])
def prefix(request: pytest.FixtureRequest, sdk: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The installed package."""
    folder = tmp_path_factory.mktemp(request.param)
    done = configure(sdk, folder / "build", f"-DBUILD_SHARED_LIBS={request.param == 'shared'}", "-DLRP_EDGE_WERROR=ON")
    assert done.returncode == 0, done.stderr
    assert f"TensorRT: {sdk}/tensorrt/lib/libnvinfer.so" in done.stdout
    cpp_build.command("cmake", "--build", folder / "build", "-j2")
    cpp_build.command("cmake", "--install", folder / "build", "--prefix", folder / "prefix")
    return folder / "prefix"


def with_libraries(*folders: Path, **settings: object) -> dict[str, str]:
    """Return an environment in which the linker and the loader look into some folders first."""
    paths = {"LD_LIBRARY_PATH": os.pathsep.join(map(str, folders))}
    return {**os.environ, **paths, **{name: str(value) for name, value in settings.items()}}


def assert_opens_engines(program: Path, gpu: Gpu, env: dict[str, str]) -> None:
    """Run a consumer on an engine, which is too small for its frames: the answer is the loaded engine's."""
    engine = gpu.write("tensorrt")
    done = subprocess.run([program, engine], capture_output=True, text=True, env=env, timeout=60)
    assert (done.stderr, done.returncode) == (f"error: {python_error(engine, 1, 480, 640)}\n", 1)


@pytest.fixture
def gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gpu:
    return Gpu(tmp_path, monkeypatch)


def test_find_package(prefix: Path, sdk: Path, gpu: Gpu, tmp_path: Path) -> None:
    build, env = tmp_path / "build", with_libraries(sdk / "cuda/lib64")
    settings = [f"-DCMAKE_PREFIX_PATH={prefix}", f"-DCUDAToolkit_ROOT={sdk / 'cuda'}"]
    cpp_build.command("cmake", "-S", CONSUMER, "-B", build, "-G", "Ninja", *settings)
    cpp_build.command("cmake", "--build", build, env=env)
    assert_opens_engines(build / "consumer", gpu, env)


def test_pkg_config(prefix: Path, sdk: Path, gpu: Gpu, tmp_path: Path) -> None:
    cpp_build.require("pkg-config")
    (config,) = prefix.rglob("lrp_edge.pc")
    folders = (sdk / "cuda/lib64", sdk / "tensorrt/lib", config.parent.parent)
    env = with_libraries(*folders, PKG_CONFIG_PATH=config.parent)
    flags = cpp_build.command("pkg-config", "--cflags", "--libs", "lrp_edge", env=env).split()
    cpp_build.command("c++", "-std=c++17", CONSUMER / "main.cpp", "-o", tmp_path / "consumer", *flags, env=env)
    assert_opens_engines(tmp_path / "consumer", gpu, env)


def test_another_folder_takes_the_place_of_the_first(sdk: Path, tmp_path: Path) -> None:
    (tmp_path / "other").symlink_to(sdk / "tensorrt")
    for folder in (sdk / "tensorrt", tmp_path / "other"):
        done = configure(sdk, tmp_path / "build", f"-DTENSORRT_ROOT={folder}")
        assert f"TensorRT: {folder}/lib/libnvinfer.so" in done.stdout


def test_library_is_of_the_headers_product(sdk: Path, tmp_path: Path) -> None:
    """Both may be installed in one place."""
    shutil.copytree(sdk / "tensorrt", tmp_path / "both")
    shutil.copy(tmp_path / "both/lib/libnvinfer.so", tmp_path / "both/lib/libtensorrt_rtx.so")
    done = configure(sdk, tmp_path / "first", f"-DTENSORRT_ROOT={tmp_path / 'both'}")
    assert f"TensorRT: {tmp_path}/both/lib/libnvinfer.so" in done.stdout
    with (tmp_path / "both/include/NvInferVersion.h").open("a") as header:
        header.write("#define TRT_MAJOR_RTX 1\n")
    done = configure(sdk, tmp_path / "second", f"-DTENSORRT_ROOT={tmp_path / 'both'}")
    assert f"TensorRT: {tmp_path}/both/lib/libtensorrt_rtx.so" in done.stdout


def test_programs_with_the_static_library_find_the_sdk(sdk: Path, tmp_path: Path) -> None:
    cpp_build.require_header("libopencv-dev", "opencv4/opencv2/core.hpp")
    done = configure(sdk, tmp_path, "-DBUILD_SHARED_LIBS=OFF", "-DLRP_EDGE_PROGRAMS=ON")
    assert done.returncode == 0, done.stderr
    assert f'ORIGIN/../lib:{sdk}/tensorrt/lib"' in (tmp_path / "programs/cmake_install.cmake").read_text()


@pytest.mark.parametrize("on", ["ON", "1"])
def test_sdk_that_is_not_there(sdk: Path, tmp_path: Path, on: str) -> None:
    done = configure(sdk, tmp_path / "build", "-DTENSORRT_ROOT=/nowhere", f"-DLRP_EDGE_TENSORRT={on}")
    assert done.returncode != 0
    said = " ".join(done.stderr.split())
    assert "TensorRT, the CUDA toolkit or OpenSSL was not found; set TENSORRT_ROOT, or LRP_EDGE_TENSORRT=OFF" in said
    done = configure(sdk, tmp_path / "build", "-DTENSORRT_ROOT=/nowhere", "-DLRP_EDGE_TENSORRT=AUTO")
    assert done.returncode == 0, done.stderr
