"""The native TensorRT backend with the real libraries and engines of TensorRT-RTX, as far as it goes without a GPU."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lrp_edge.card import ModelCard
from tests.support import cpp_build
from tests.support.cpp_tensorrt import DIAGNOSTICS, FLAGS, SIMULATED, VERSION, Native, compile_all, cuda, python_error
from tests.support.engine_graphs import contract_graph, save, small_card


@pytest.fixture(scope="module")
def rtx_engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real engine of TensorRT-RTX, as lrp-edge compile writes it."""
    pytest.importorskip("tensorrt_rtx")
    from lrp_edge.export import to_engine

    model = save(contract_graph(small_card(size=(16, 24))), tmp_path_factory.mktemp("engine") / "model.onnx")
    return to_engine(model, gpus=("sm89",), batch=(1, 1, 2))


def real_libraries() -> list[Path]:
    """Return the libraries of TensorRT-RTX and of CUDA's runtime."""
    trt = pytest.importorskip("tensorrt_rtx")
    rtx = Path(trt.__file__).parent.parent / "tensorrt_rtx_libs/libtensorrt_rtx.so.1"
    runtime = [found for name in ("lib64", "lib") for found in sorted((cuda().parent / name).glob("libcudart.so*"))]
    if not rtx.is_file() or not runtime:
        pytest.skip("the libraries of TensorRT-RTX, or of CUDA's runtime, are not where their wheels put them")
    return [rtx, runtime[-1]]


def test_real_engine_with_real_libraries_is_refused_for_want_of_a_gpu(
    backend_objects: dict[str, list[Path]], rtx_engine: Path, tmp_path: Path
) -> None:
    """Its hash is right, and so is the version that the loaded library says of itself: no call of TensorRT follows."""
    main = compile_all("g++", tmp_path, [cpp_build.SOURCE / "tests/open_engine.cpp"], [], *FLAGS)
    libraries = real_libraries()
    places = [f"-Wl,-rpath,{library.parent}" for library in libraries]
    program = tmp_path / "open_engine"
    cpp_build.command("g++", *FLAGS, *backend_objects["rtx"], *main, *libraries, *places, "-lcrypto", "-o", program)
    # What the libraries keep until the end is not ours.
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "ASAN_OPTIONS": "detect_leaks=0"}
    done = subprocess.run([program, rtx_engine], capture_output=True, text=True, env=env, timeout=120)
    script = f"from lrp_edge.runtime import Segmenter; Segmenter({str(rtx_engine)!r})"
    python = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=env, timeout=120)
    assert (done.returncode, python.returncode) == (1, 1), done.stderr
    assert done.stderr.startswith("no NVIDIA GPU answers (cudaGetDeviceCount: ")
    assert done.stderr.strip() == python.stderr.strip().splitlines()[-1].partition("LrpEdgeError: ")[2]


def test_real_engine_for_another_gpu(both: Native, rtx_engine: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(rtx_engine, tmp_path))
    card = ModelCard.from_json(rtx_engine.with_suffix(".json").read_text())
    assert card.engine["engine_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    card.engine["version"] = VERSION
    path.with_suffix(".json").write_text(card.to_json())
    text = both.error(path, "open", product="rtx")
    assert text == python_error(path)
    assert f"{path} was built for sm89, and this GPU is sm86; compile again: lrp-edge compile" in text


def test_diagnostics_have_the_real_ones_bits() -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    real = {name: int(value) for name, value in trt.EngineInvalidityDiagnostics.__members__.items()}
    assert real == {name: 1 << bit for bit, name in enumerate(DIAGNOSTICS)}
    header = (SIMULATED / "NvInferRuntime.h").read_text()
    assert all(re.search(rf"\bk{name} = {value}\b", header) for name, value in real.items())
