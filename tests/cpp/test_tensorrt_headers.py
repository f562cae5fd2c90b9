"""The native TensorRT backend compiles against the real headers.

``TENSORRT_ROOT`` names folders with ``include/NvInferRuntime.h``, of TensorRT or TensorRT-RTX, several as in ``PATH``.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support import cpp_build
from tests.support.cpp_tensorrt import BACKEND, SIMULATED, SOURCES, compile_all, cuda, tensorrt_headers


@pytest.mark.parametrize("compiler", ["g++", "clang++"])
def test_real_headers_compile_without_a_warning(compiler: str, tmp_path: Path) -> None:
    found = next(filter(shutil.which, (compiler, f"{compiler}-14")), None)
    if found is None:
        pytest.skip(f"{compiler} is not installed")
    folders = tensorrt_headers()
    if not folders:
        pytest.skip("no headers of TensorRT: name a folder with include/NvInferRuntime.h in TENSORRT_ROOT")
    for folder in folders:
        objects = compile_all(found, tmp_path, BACKEND, [folder, cuda()], "-DLRP_EDGE_STATIC")
        symbols = cpp_build.command("nm", "--undefined-only", *objects)
        assert "createInferRuntime_INTERNAL" in symbols, folder


def test_older_tensorrt_is_refused(tmp_path: Path) -> None:
    cpp_build.require("g++")
    (tmp_path / "NvInferRuntime.h").write_text((SIMULATED / "NvInferRuntime.h").read_text())
    version = (SIMULATED / "NvInferVersion.h").read_text()
    assert "NV_TENSORRT_MINOR 3" in version
    (tmp_path / "NvInferVersion.h").write_text(version.replace("NV_TENSORRT_MINOR 3", "NV_TENSORRT_MINOR 2"))
    with pytest.raises(AssertionError, match=r"needs TensorRT 10\.3 or later"):
        compile_all("g++", tmp_path, [SOURCES / "tensorrt_runtime.cpp"], [tmp_path, cuda()])
