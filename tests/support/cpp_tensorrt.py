"""The native TensorRT backend by itself: compiled with headers of any TensorRT, and run on a GPU that is simulated."""

from __future__ import annotations

import json
import os
import site
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lrp_edge.errors import LrpEdgeError
from lrp_edge.runtime.engines.native import NativeEngine
from tests.support import cpp_build
from tests.support.runtime_graphs import expected
from tests.support.simulated_cuda import LARGEST, Gpu

SOURCES = cpp_build.SOURCE / "src"
SIMULATED = cpp_build.SOURCE / "tests/simulated_gpu"
BACKEND = sorted(path for path in SOURCES.glob("tensorrt*.cpp") if path.stem != "tensorrt_missing")
# What the backend takes of the rest of the library.
BESIDES = [SOURCES / f"{name}.cpp" for name in ("error", "files", "frames", "text")] + sorted(SOURCES.glob("card*.cpp"))
# By rising bits.
DIAGNOSTICS = ["VERSION_MISMATCH", "UNSUPPORTED_CC", "OLD_CUDA_DRIVER", "OLD_CUDA_RUNTIME", "INSUFFICIENT_GPU_MEMORY"]
DIAGNOSTICS += ["MALFORMED_ENGINE", "CUDA_ERROR"]
FLAGS = ["-g", "-DLRP_EDGE_STATIC", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
# What the simulated libraries say of themselves.
VERSION = "1.7.1.116"


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
        options = ["-std=c++17", *cpp_build.WARNINGS, *flags, "-fPIC", *include]
        cpp_build.command(compiler, *options, "-c", source, "-o", target)
        return target

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(compile_one, sources))


class Native:
    """The C++ backend on its simulated GPU, next to Python's on its own, with the same engine file."""

    def __init__(self, simulators: dict[str, Path], gpu: Gpu, folder: Path) -> None:
        self.gpu, self._simulators = gpu, simulators
        rng = np.random.default_rng(0)
        self.bytes = rng.integers(0, 256, int(np.prod(LARGEST)) * 3, dtype=np.uint8)
        self.bytes.tofile(folder / "frames.raw")

    def write(self, product: str = "tensorrt", **facts: Any) -> Path:
        """Write an engine of a product, with some facts of its card changed; None leaves one out."""
        path = self.gpu.write(product, gate=facts.pop("gate", False), smallest=facts.pop("smallest", (1, 2, 2)))
        card = json.loads(path.with_suffix(".json").read_text())
        card["engine"] |= {"version": VERSION, **facts}
        card["engine"] = {name: fact for name, fact in card["engine"].items() if fact is not None}
        path.with_suffix(".json").write_text(json.dumps(card))
        return path

    def run(self, path: Path, *steps: str, product: str = "tensorrt") -> tuple[list[dict[str, Any]], dict[str, int]]:
        """Return the answer of each step, and the number of calls of each function; nothing must be left."""
        words = [self._simulators[product], path, self.gpu.folder / "frames.raw", *steps]
        done = subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        *answers, last = map(json.loads, done.stdout.splitlines())
        assert last["live"] == 0
        assert last["current"] == int("current=1" in steps), "another GPU is the thread's than before"
        return answers, last["calls"]

    def error(self, path: Path, *steps: str, product: str = "tensorrt") -> str:
        """Return the error of the last step."""
        return str(self.run(path, *steps, product=product)[0][-1]["error"])

    def frames(self, shape: tuple[int, ...]) -> np.ndarray:
        return self.bytes[: int(np.prod(shape))].reshape(shape)


def step(shape: tuple[int, ...], gap: int = 0) -> str:
    return "x".join(map(str, shape[:3])) + (f"+{gap}" if gap else "")


def assert_right(answer: dict[str, Any], frames: np.ndarray) -> None:
    scores, label, mask, relevance = (np.ravel(each) for each in zip(*map(expected, frames), strict=True))
    np.testing.assert_allclose(answer["scores"], scores, rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(answer["relevance"], relevance, rtol=1e-6)
    np.testing.assert_array_equal(answer["label"], label)
    np.testing.assert_array_equal(answer["mask"], mask)


def python_error(path: Path, *shape: int, provider: str | None = None) -> str:
    """Return what Python's backend says of an engine, or of frames of a shape."""
    with pytest.raises(LrpEdgeError) as caught, NativeEngine(path, provider, in_flight=1) as engine:
        engine.run(np.zeros((*shape, 3), np.uint8))
    return str(caught.value)
