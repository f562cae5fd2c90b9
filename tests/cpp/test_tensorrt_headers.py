"""The native TensorRT backend compiles against the real headers, and does its work on a GPU that is simulated.

``TENSORRT_ROOT`` names folders with ``include/NvInferRuntime.h``, of TensorRT or TensorRT-RTX, several as in ``PATH``.
"""

from __future__ import annotations

import enum
import hashlib
import json
import os
import re
import shutil
import site
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cpp_build
import numpy as np
import pytest
from engine_graphs import contract_graph, save, small_card
from runtime_graphs import expected
from simulated_cuda import LARGEST, Gpu

from lrp_edge.card import ModelCard
from lrp_edge.errors import LrpEdgeError
from lrp_edge.runtime.engines import native
from lrp_edge.runtime.engines.engine_file import EngineFile
from lrp_edge.runtime.engines.native import NativeEngine, load_product

SOURCES = cpp_build.SOURCE / "src"
SIMULATED = cpp_build.SOURCE / "tests/simulated_gpu"
BACKEND = sorted(path for path in SOURCES.glob("tensorrt*.cpp") if path.stem != "tensorrt_missing")
# What the backend takes of the rest of the library.
BESIDES = [SOURCES / f"{name}.cpp" for name in ("error", "files", "frames", "text")] + sorted(SOURCES.glob("card*.cpp"))
# By rising bits.
DIAGNOSTICS = ["VERSION_MISMATCH", "UNSUPPORTED_CC", "OLD_CUDA_DRIVER", "OLD_CUDA_RUNTIME", "INSUFFICIENT_GPU_MEMORY"]
DIAGNOSTICS += ["MALFORMED_ENGINE", "CUDA_ERROR"]
FLAGS = ["-g", "-DLRP_EDGE_STATIC", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
WARNINGS = ["-std=c++17", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror"]


def sites() -> list[Path]:
    return [Path(folder) for folder in (*site.getsitepackages(), site.getusersitepackages())]


def with_header(folders: list[Path], header: str) -> list[Path]:
    return [folder for folder in dict.fromkeys(folders) if (folder / header).is_file()]


def cuda() -> Path:
    """Return the folder of CUDA's headers: the toolkit's, or of the wheels nvidia-cuda-runtime and nvidia-cuda-crt."""
    roots = [Path(os.environ[name]) for name in ("CUDA_PATH", "CUDA_HOME") if name in os.environ]
    folders = [root / "include" for root in (*roots, Path("/usr/local/cuda"), Path("/usr"))]
    folders += [found for place in sites() for found in place.glob("nvidia/*/include")]
    found = [folder for folder in with_header(folders, "cuda_runtime_api.h") if (folder / "crt").is_dir()]
    if not found:
        pytest.skip("CUDA's headers are not installed: pip install nvidia-cuda-runtime nvidia-cuda-crt")
    return found[0]


def tensorrt_headers() -> list[Path]:
    """Return the folders with headers of TensorRT or TensorRT-RTX; NVIDIA's wheels have none so far."""
    roots = [Path(root) for root in os.environ.get("TENSORRT_ROOT", "").split(os.pathsep) if root]
    system = [Path("/usr/include"), Path("/usr/include/x86_64-linux-gnu"), Path("/usr/include/aarch64-linux-gnu")]
    wheels = [found for place in sites() for found in place.glob("tensorrt*/include")]
    return with_header([*(root / "include" for root in roots), *system, *wheels], "NvInferRuntime.h")


def compile_all(compiler: str, folder: Path, sources: list[Path], headers: list[Path], *flags: str) -> list[Path]:
    """Compile files, two at a time, and return the objects; a warning is an error."""
    # The headers of others do not pass our warnings; the simulated ones are ours.
    include = [f"-I{SOURCES}", f"-I{cpp_build.SOURCE / 'include'}"]
    include += [f"{'-I' if header == SIMULATED else '-isystem'}{header}" for header in headers]

    def compile_one(source: Path) -> Path:
        target = folder / f"{source.parent.name}_{source.stem}.o"
        cpp_build.command(compiler, *WARNINGS, *flags, "-fPIC", *include, "-c", source, "-o", target)
        return target

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(compile_one, sources))


@pytest.mark.parametrize("compiler", ["g++", "clang++"])
def test_real_headers_compile_without_a_warning(compiler: str, tmp_path: Path) -> None:
    found = next(filter(shutil.which, (compiler, f"{compiler}-14")), None)
    if found is None:
        pytest.skip(f"{compiler} is not installed")
    folders = tensorrt_headers()
    if not folders:
        pytest.skip("TensorRT's headers are not installed; TENSORRT_ROOT names a folder with include/NvInferRuntime.h")
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


@pytest.fixture(scope="session")
def objects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """The backend, and what it takes of the library, compiled for each product with the simulated headers."""
    cpp_build.require("g++")
    for package, header in (("nlohmann-json3-dev", "nlohmann/json.hpp"), ("libssl-dev", "openssl/evp.h")):
        if not with_header([Path("/usr/include"), Path("/usr/local/include")], header):
            pytest.skip(f"{package} is not installed")
    same = compile_all("g++", tmp_path_factory.mktemp("same"), BESIDES, [SIMULATED, cuda()], *FLAGS)
    defines = {"tensorrt": [], "rtx": ["-DSIMULATED_RTX"]}
    return {
        product: [
            *same,
            *compile_all("g++", tmp_path_factory.mktemp(product), BACKEND, [SIMULATED, cuda()], *FLAGS, *define),
        ]
        for product, define in defines.items()
    }


@pytest.fixture(scope="session")
def simulators(objects: dict[str, list[Path]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The backend on a simulated GPU, for each product."""
    folder, headers = tmp_path_factory.mktemp("simulators"), [SIMULATED, cuda()]
    same = compile_all("g++", folder, [SIMULATED / "main.cpp", SIMULATED / "cuda.cpp"], headers, *FLAGS)
    for product, define in (("tensorrt", []), ("rtx", ["-DSIMULATED_RTX"])):
        own = compile_all("g++", folder, [SIMULATED / "tensorrt.cpp"], headers, *FLAGS, *define)
        cpp_build.command("g++", *FLAGS, *objects[product], *same, *own, "-lcrypto", "-o", folder / product)
    return {product: folder / product for product in objects}


@pytest.fixture(scope="session")
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
    objects: dict[str, list[Path]], rtx_engine: Path, tmp_path: Path
) -> None:
    """Its hash is right, and so is the version that the loaded library says of itself: no call of TensorRT follows."""
    main = compile_all("g++", tmp_path, [cpp_build.SOURCE / "tests/open_engine.cpp"], [], *FLAGS)
    libraries = real_libraries()
    places = [f"-Wl,-rpath,{library.parent}" for library in libraries]
    program = tmp_path / "open_engine"
    cpp_build.command("g++", *FLAGS, *objects["rtx"], *main, *libraries, *places, "-lcrypto", "-o", program)
    # What the libraries keep until the end is not ours.
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "ASAN_OPTIONS": "detect_leaks=0"}
    done = subprocess.run([program, rtx_engine], capture_output=True, text=True, env=env, timeout=120)
    script = f"from lrp_edge.runtime import Segmenter; Segmenter({str(rtx_engine)!r})"
    python = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=env, timeout=120)
    assert (done.returncode, python.returncode) == (1, 1), done.stderr
    assert done.stderr.startswith("no NVIDIA GPU answers (cudaGetDeviceCount: ")
    assert done.stderr.strip() == python.stderr.strip().splitlines()[-1].partition("LrpEdgeError: ")[2]


class Native:
    """The C++ backend on its simulated GPU, beside Python's on its own, with the same engine file."""

    def __init__(self, simulators: dict[str, Path], gpu: Gpu, folder: Path) -> None:
        self.gpu, self._simulators = gpu, simulators
        rng = np.random.default_rng(0)
        self.bytes = rng.integers(0, 256, int(np.prod(LARGEST)) * 3, dtype=np.uint8)
        self.bytes.tofile(folder / "frames.raw")

    def write(self, product: str = "tensorrt", **facts: Any) -> Path:
        """Write an engine of a product, with some facts of its card changed; None leaves one out."""
        path = self.gpu.write(product, gate=facts.pop("gate", False), smallest=facts.pop("smallest", (1, 2, 2)))
        card = json.loads(path.with_suffix(".json").read_text())
        card["engine"] |= {"version": "1.7.1.116", **facts}
        card["engine"] = {name: fact for name, fact in card["engine"].items() if fact is not None}
        path.with_suffix(".json").write_text(json.dumps(card))
        return path

    def run(self, path: Path, *steps: str, product: str = "tensorrt") -> tuple[list[dict[str, Any]], dict[str, int]]:
        """Return the answer of each step, and the number of calls of each function; nothing must be left."""
        words = [self._simulators[product], path, self.gpu.folder / "frames.raw", *steps]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        *answers, last = map(json.loads, done.stdout.splitlines())
        assert last["live"] == 0
        return answers, last["calls"]

    def error(self, path: Path, *steps: str, product: str = "tensorrt") -> str:
        """Return the error of the last step."""
        return str(self.run(path, *steps, product=product)[0][-1]["error"])

    def frames(self, shape: tuple[int, ...]) -> np.ndarray:
        return self.bytes[: int(np.prod(shape))].reshape(shape)


@pytest.fixture
def both(simulators: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Native:
    """Both backends."""
    return Native(simulators, Gpu(tmp_path, monkeypatch), tmp_path)


def assert_right(answer: dict[str, Any], frames: np.ndarray) -> None:
    scores, label, mask, relevance = (np.ravel(each) for each in zip(*map(expected, frames), strict=True))
    np.testing.assert_allclose(answer["scores"], scores, rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(answer["relevance"], relevance, rtol=1e-6)
    np.testing.assert_array_equal(answer["label"], label)
    np.testing.assert_array_equal(answer["mask"], mask)


SHAPES = [(1, 2, 2, 3), (3, 12, 10, 3), (3, 12, 10, 3), (2, 5, 7, 3), (2, 5, 7, 3), (2, 5, 7, 3), (1, 12, 10, 3)]


def step(shape: tuple[int, ...], gap: int = 0) -> str:
    return "x".join(map(str, shape[:3])) + (f"+{gap}" if gap else "")


@pytest.mark.parametrize("gap", [0, 1, 60])
@pytest.mark.parametrize("product", ["tensorrt", "rtx"])
def test_answers_are_what_numpy_says(both: Native, product: str, gap: int) -> None:
    path = both.write(product)
    answers, _ = both.run(path, "open", *(step(shape, gap) for shape in SHAPES), product=product)
    assert answers[0]["provider"] == product
    for answer, shape in zip(answers[1:], SHAPES, strict=True):
        assert_right(answer, both.frames(shape))


def test_graph_is_recorded_at_a_shapes_second_time_and_replayed(both: Native) -> None:
    answers, calls = both.run(both.write(), "open", *["2x5x7"] * 5, "1x2x2", "2x5x7", "2x5x7")
    for answer, shape in zip(answers[1:], [(2, 5, 7, 3)] * 5 + [(1, 2, 2, 3)] + [(2, 5, 7, 3)] * 2, strict=True):
        assert_right(answer, both.frames(shape))
    assert calls["cudaStreamBeginCapture"] == calls["cudaGraphInstantiateWithFlags"] == 2
    # All but the first run of a shape; each recording enqueues once more.
    assert calls["cudaGraphLaunch"] == 5
    assert calls["enqueueV3"] == 3 + 2


def test_no_graph_of_a_gate_or_for_rtx_which_records_itself(both: Native) -> None:
    _, calls = both.run(both.write(gate=True), "open", *["2x5x7"] * 3)
    assert "cudaStreamBeginCapture" not in calls
    _, calls = both.run(both.write("rtx"), "open", *["2x5x7"] * 3, product="rtx")
    assert "cudaStreamBeginCapture" not in calls


@pytest.mark.parametrize(
    "fault",
    ["recordable=0", *(f"fail=cuda{call}:0:901" for call in ("StreamBeginCapture", "GraphInstantiateWithFlags"))],
)
def test_what_cannot_be_recorded_is_enqueued(both: Native, fault: str) -> None:
    answers, calls = both.run(both.write(), fault, "open", *["2x5x7"] * 4)
    for answer in answers[1:]:
        assert_right(answer, both.frames((2, 5, 7, 3)))
    assert "cudaGraphLaunch" not in calls
    assert calls["cudaStreamBeginCapture"] == 1
    assert calls["cudaGetLastError"] == 1


@pytest.mark.parametrize(
    ("gate", "smallest", "told"),
    [
        (False, (1, 2, 2), "none whole"),
        (False, (1, *LARGEST[1:]), "eager whole"),
        (True, (1, 2, 2), "none disabled"),
    ],
)
def test_rtx_is_told_of_kernels_and_graphs_as_by_python(
    both: Native, gate: bool, smallest: tuple[int, ...], told: str
) -> None:
    path = both.write("rtx", gate=gate, smallest=smallest)
    answers, _ = both.run(path, "open", product="rtx")
    assert answers[0]["config"] == told
    NativeEngine(path, in_flight=1).close()
    config = both.gpu.trt.contexts[0].config
    strategies = (config.dynamic_shapes_kernel_specialization_strategy, config.cuda_graph_strategy)
    assert " ".join(strategy.name.lower().split("_")[0] for strategy in strategies) == told


def python_error(path: Path, *shape: int, provider: str | None = None) -> str:
    """Return what Python's backend says of an engine, or of frames of a shape."""
    with pytest.raises(LrpEdgeError) as caught, NativeEngine(path, provider, in_flight=1) as engine:
        engine.run(np.zeros((*shape, 3), np.uint8))
    return str(caught.value)


def missing(both: Native) -> Path:
    return both.gpu.folder / "missing.engine"


def without_card(both: Native) -> Path:
    path = both.write()
    path.with_suffix(".json").unlink()
    return path


def altered(both: Native) -> Path:
    path = both.write(model="the part's.onnx", options=["--batch", "1,2", ""])
    path.write_bytes(b"enGine")
    return path


def without_profile(both: Native) -> Path:
    path = both.write()
    card = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps(card | {"profile": {"min": [1, 2, 2]}}))
    return path


def broken_card(both: Native) -> Path:
    path = both.write()
    path.with_suffix(".json").write_text('{"schema": 7}')
    return path


BAD_FILES: list[Callable[[Native], Path]] = [
    missing,
    without_card,
    altered,
    without_profile,
    broken_card,
    *(lambda both, fact=fact: both.write(**{fact: None}) for fact in ("product", "version", "engine_sha256")),
    lambda both: both.write("rtx", engine_sha256="0" * 64, gpus=["sm86", "sm89"], options=["--lowest-level", "O 3"]),
    lambda both: both.write(product="cheese"),
]


@pytest.mark.parametrize("make", BAD_FILES)
def test_bad_files_are_refused_before_any_call_with_pythons_text(both: Native, make: Callable[[Native], Path]) -> None:
    path = make(both)
    answers, calls = both.run(path, "open")
    assert answers[-1]["error"] == python_error(path)
    assert calls == {}


def test_other_provider(both: Native) -> None:
    path = both.write()
    assert both.error(path, "open:cuda") == python_error(path, provider="cuda")


def test_other_product_says_what_to_build(both: Native) -> None:
    text = both.error(both.write("rtx"), "open")
    assert "is an engine for TensorRT-RTX, and this lrp_edge was built with TensorRT; " in text


@pytest.mark.parametrize("product", ["tensorrt", "rtx"])
def test_other_version(both: Native, product: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = both.write(product, version="1.7.0.9")
    module = "tensorrt_rtx" if product == "rtx" else "tensorrt"
    monkeypatch.setitem(sys.modules, module, SimpleNamespace(__version__="1.7.1.116"))
    with pytest.raises(LrpEdgeError) as caught:
        load_product(EngineFile.read(path))
    answers, calls = both.run(path, "open", product=product)
    assert answers[-1]["error"] == str(caught.value)
    assert calls == {}


@pytest.mark.parametrize(
    ("version", "options", "taken"),
    [
        ("1.7.1.116", [], True),
        ("1.7.1", [], True),
        ("1.7.1.post12.dev1", [], True),
        ("1.7", [], True),
        ("1.7.11", [], False),
        ("1.7.1.11", [], False),
        ("1", [], True),
        ("17", [], False),
        ("unknown", [], False),
        ("9.9", ["--version-compatible"], True),
    ],
)
def test_version_is_compared_as_far_as_the_card_has_it(
    both: Native, version: str, options: list[str], taken: bool
) -> None:
    answers, _ = both.run(both.write(version=version, options=options), "open")
    assert ("error" not in answers[-1]) == taken


@pytest.mark.parametrize(
    ("steps", "faults", "devices"),
    [(["devices=0"], {}, 0), (["fail=cudaGetDeviceCount:0:100"], {"cudaGetDeviceCount": (0, 100)}, 1)],
)
def test_no_gpu(both: Native, steps: list[str], faults: dict[str, tuple[int, int]], devices: int) -> None:
    path = both.write(model="in parts.onnx")
    both.gpu.api.devices, both.gpu.api.fail = devices, faults
    assert both.error(path, *steps, "open") == python_error(path)


@pytest.mark.parametrize("options", [[], ["--hardware-compatible", "ampere_plus"]])
def test_other_gpu(both: Native, options: list[str]) -> None:
    path = both.write("rtx", gpus=["sm80", "sm86"], options=options)
    both.gpu.api.capability = (8, 9)
    if options:
        assert "error" not in both.run(path, "minor=9", "open", product="rtx")[0][-1]
    else:
        assert both.error(path, "minor=9", "open", product="rtx") == python_error(path)


def test_engine_that_cannot_be_loaded_is_said_with_tensorrts_reason(both: Native) -> None:
    path = both.write()
    both.gpu.trt.loads = False
    text = both.error(path, "loads=0", "open")
    assert text == python_error(path)
    assert "it is no engine" in text


@pytest.mark.parametrize("name", ["image", "label", "relevance"])
def test_tensors_of_another_type(both: Native, name: str) -> None:
    path = both.write()
    both.gpu.trt.types[name] = np.int64
    assert both.error(path, f"mistyped={name}", "open") == python_error(path)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16, 32, 64, 3, 96, 128])
def test_engine_that_tensorrt_rtx_finds_not_valid(both: Native, bits: int) -> None:
    path = both.write("rtx")
    flags = enum.IntFlag("Diagnostics", {name: 1 << bit for bit, name in enumerate(DIAGNOSTICS)})
    trt = SimpleNamespace(EngineValidity=SimpleNamespace(INVALID=2), EngineInvalidityDiagnostics=flags)
    runtime = SimpleNamespace(engine_header_size=64, get_engine_validity=lambda data: (2, bits))
    with pytest.raises(LrpEdgeError) as caught:
        native.check_validity(trt, runtime, EngineFile.read(path))
    assert both.error(path, f"invalid={bits}", "open", product="rtx") == str(caught.value)


def test_diagnostics_have_the_real_ones_bits() -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    real = {name: int(value) for name, value in trt.EngineInvalidityDiagnostics.__members__.items()}
    assert real == {name: 1 << bit for bit, name in enumerate(DIAGNOSTICS)}
    header = (SIMULATED / "NvInferRuntime.h").read_text()
    assert all(f"k{name} = {value}" in header for name, value in real.items())


def without_free(text: str) -> str:
    """Leave out how much memory is free: Python still holds what it has allocated when it says so."""
    return re.sub(r"\d+ of 2048 MiB", "some of 2048 MiB", text)


@pytest.mark.parametrize("call", ["cudaMalloc", "cudaMallocHost"])
@pytest.mark.parametrize("before", range(5))
def test_memory_that_is_short_at_any_allocation(both: Native, call: str, before: int) -> None:
    path = both.write()
    both.gpu.api.fail = {call: (before, 2)}
    text = both.error(path, f"fail={call}:{before}:2", "open")
    assert without_free(text) == without_free(python_error(path))
    assert "wants 3 MiB of GPU memory for 1 calls of frames [3, 12, 10, 3]" in text


def test_no_memory_for_a_context(both: Native) -> None:
    path = both.write()
    both.gpu.trt.most_contexts = 0
    assert both.error(path, "contexts=0", "open") == python_error(path)


def test_other_failure_of_cuda_when_loading(both: Native) -> None:
    path = both.write()
    both.gpu.api.fail = {"cudaStreamCreateWithFlags": (0, 901)}
    text = both.error(path, "fail=cudaStreamCreateWithFlags:0:901", "open")
    assert text == python_error(path)
    assert text.endswith("check the NVIDIA driver")


def test_profile_beyond_all_memory_is_refused(both: Native) -> None:
    path = both.write()
    card = json.loads(path.with_suffix(".json").read_text())
    card["profile"]["max"] = [2**22, 2**21, 2**21]
    path.with_suffix(".json").write_text(json.dumps(card))
    assert "take more bytes than there are addresses" in both.error(path, "open")


@pytest.mark.parametrize("shape", [(4, 2, 2), (1, 1, 2), (1, 13, 2), (1, 2, 11)])
def test_frames_outside_the_profile_and_on(both: Native, shape: tuple[int, int, int]) -> None:
    path = both.write()
    answers, _ = both.run(path, "open", step(shape), "1x2x2")
    assert answers[1]["error"] == python_error(path, *shape)
    assert_right(answers[2], both.frames((1, 2, 2, 3)))


# Each call of a run, with how many of them go well first, and with how many runs: at the second, a graph is replayed.
CALLS = [("cudaMemcpyAsync", before) for before in range(5)] + [("cudaStreamSynchronize", 0)]
FAILURES = [(*call, runs) for runs in (0, 3) for call in CALLS] + [("cudaGraphLaunch", 0, 3)]


@pytest.mark.parametrize(("call", "before", "runs"), FAILURES)
def test_failure_of_a_call_is_said_and_the_backend_goes_on(both: Native, call: str, before: int, runs: int) -> None:
    path, name = both.write(), "2x5x7"
    answers, _ = both.run(path, "open", *[name] * runs, f"fail={call}:{before}:901", name, "heal", name, "1x12x10")
    error = f"{path}: {call}: cudaErrorStreamCaptureInvalidated (in words)"
    assert answers[1 + runs] == {"error": error}
    assert_right(answers[-2], both.frames((2, 5, 7, 3)))
    assert_right(answers[-1], both.frames((1, 12, 10, 3)))


def test_what_is_under_way_is_waited_for_before_its_buffers_go(both: Native) -> None:
    answers, _ = both.run(both.write(), "open", "fail=cudaMemcpyAsync:2:901", "2x5x7", "heal")
    assert "cudaMemcpyAsync" in answers[1]["error"]


def test_engine_that_cannot_be_run(both: Native) -> None:
    path = both.write()
    answers, _ = both.run(path, "open", "fail=enqueueV3:0:1", "2x5x7", "heal", "2x5x7")
    assert answers[1]["error"] == f"{path}: the engine cannot be run on frames [2, 5, 7, 3]"
    assert_right(answers[2], both.frames((2, 5, 7, 3)))


def test_real_engine_for_another_gpu(both: Native, rtx_engine: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(rtx_engine, tmp_path))
    card = ModelCard.from_json(rtx_engine.with_suffix(".json").read_text())
    assert card.engine["engine_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    # The simulated library is of one version.
    card.engine["version"] = "1.7.1.116"
    path.with_suffix(".json").write_text(card.to_json())
    text = both.error(path, "open", product="rtx")
    assert f"{path} was built for sm89, and this GPU is sm86; compile again: lrp-edge compile" in text
