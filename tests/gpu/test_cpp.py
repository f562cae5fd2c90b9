"""The C++ library on an NVIDIA GPU, against the Python runtime on the same: ``python -m pytest tests/gpu -s``.

``TENSORRT_ROOT`` names SDKs of TensorRT or TensorRT-RTX, several as in ``PATH``, of the version that Python has.
Without it, CMake looks where packages are installed. What is not there is skipped with the reason.
"""

from __future__ import annotations

import os
import site
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from lrp_edge import ModelCard
from lrp_edge.card import InputSpec
from lrp_edge.errors import LrpEdgeError
from lrp_edge.export import to_engine, to_onnx
from lrp_edge.runtime.engines import Engine, Outputs, open_engine
from lrp_edge.runtime.engines.cuda import load_cuda
from lrp_edge.runtime.engines.engine_file import PRODUCTS
from lrp_edge.runtime.engines.native import NativeEngine
from tests.support import cpp_build
from tests.support.exported import CLASSES, tiny

pytestmark = pytest.mark.gpu

ROOTS = os.environ.get("TENSORRT_ROOT", "").split(os.pathsep)
SIZE, BATCH = (48, 64), 3


@pytest.fixture(scope="module")
def gpu() -> str:
    """Compute capability of the first GPU."""
    try:
        return load_cuda("rtx").capability()
    except LrpEdgeError as error:
        pytest.skip(f"no NVIDIA GPU answers ({error})")


@pytest.fixture(scope="module", params=ROOTS)
def build(request: pytest.FixtureRequest, gpu: str) -> Path:
    """A build with the TensorRT or TensorRT-RTX of a root."""
    options = ["-DLRP_EDGE_TENSORRT=ON", f"-DTENSORRT_ROOT={request.param}"]
    try:
        return cpp_build.build("release", *options, name=f"tensorrt-{ROOTS.index(request.param)}")
    except AssertionError as error:
        if "TensorRT, the CUDA toolkit or OpenSSL was not found" in " ".join(str(error).split()):
            pytest.skip(f"CMake finds no TensorRT, CUDA toolkit or OpenSSL; TENSORRT_ROOT is {request.param!r}")
        raise


def product_of(build: Path) -> str:
    """Return the product that a build has, if Python has it too."""
    product = "rtx" if "tensorrt_rtx" in cpp_build.cached(build, "TensorRT_LIBRARY") else "tensorrt"
    if find_spec(PRODUCTS[product][1]) is None:
        pytest.skip(f"{PRODUCTS[product][0]} is not installed for Python")
    return product


def random_frames() -> np.ndarray:
    """Return frames of noise, uint8 [N, H, W, 3]; one is dark, one is so in half."""
    frames = np.random.default_rng(0).integers(0, 256, (BATCH, *SIZE, 3), dtype=np.uint8)
    frames[1] //= 8
    frames[2, : SIZE[0] // 2] //= 8
    return frames


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network whose logits are 0 in the frames' mean, so that not all of them are of one class."""
    classifier = tiny(seed=2)
    head = classifier[-1]
    assert isinstance(head, torch.nn.Linear)
    images = torch.from_numpy(random_frames()).permute(0, 3, 1, 2).flip(1) / 255
    with torch.no_grad():
        head.weight *= 100
        head.bias.copy_(-head.weight @ classifier[:-1](images).mean(0))
    card = ModelCard(CLASSES, CLASSES[1:], InputSpec(size=SIZE, max_batch=BATCH))
    return to_onnx(classifier, tmp_path_factory.mktemp("network"), card=card)


def calls() -> list[np.ndarray]:
    """Return the frames of each call, often enough in one shape for CUDA graphs to be replayed."""
    frames = random_frames()
    return [*[frames] * 4, *[frames[index : index + 1] for index in (0, 1, 2, 0)], frames]


def in_cpp(build: Path, model: Path, provider: str, folder: Path) -> tuple[str, dict[str, np.ndarray]]:
    """Run the calls in a process of its own, since two ONNX Runtimes in one would share CUDA's provider."""
    np.savez(folder / "calls.npz", *calls())
    # ONNX Runtime finds cuDNN in its wheel by the help of Python alone.
    places = [*site.getsitepackages(), site.getusersitepackages()]
    wheels = [str(found) for place in places for found in sorted(Path(place).glob("nvidia/*/lib"))]
    paths = [*wheels, *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
    env = {**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(paths)}
    words = [
        sys.executable,
        "-m",
        "tests.support.cpp_answers",
        build,
        model,
        provider,
        folder / "calls.npz",
        folder / "out.npz",
    ]
    done = subprocess.run(
        list(map(str, words)), capture_output=True, text=True, env=env, cwd=cpp_build.ROOT, timeout=540
    )
    if "is installed; compile again with this one" in done.stderr:
        pytest.skip(f"the SDK is of another version than Python's: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    with np.load(folder / "out.npz") as found:
        return done.stdout.strip(), dict(found)


def in_python(engine: Engine) -> Outputs:
    return Outputs(*map(np.concatenate, zip(*map(engine.run, calls()), strict=True)))


def assert_of_all_kinds(expected: Outputs) -> None:
    """Without it, equal answers would say little."""
    assert len(np.unique(expected.label)) > 1
    assert set(np.unique(expected.mask)) == {0, 255}
    assert len(np.unique(expected.relevance)) > 100


def test_engine_has_pythons_bytes(build: Path, gpu: str, network: Path, tmp_path: Path) -> None:
    product = product_of(build)
    gpus: Sequence[str] | None = [gpu] if product == "rtx" else None
    engine = to_engine(network, tmp_path, product=product, gpus=gpus, batch=(1, 1, BATCH))
    with NativeEngine(engine) as native:
        expected = in_python(native)
    assert_of_all_kinds(expected)
    provider, found = in_cpp(build, engine, "", tmp_path)
    assert provider == product
    for name, array in expected._asdict().items():
        assert found[name].dtype == array.dtype, name
        assert found[name].tobytes() == array.tobytes(), name


def test_onnx_runtime_with_cuda_answers_as_python_does(gpu: str, network: Path, tmp_path: Path) -> None:
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has no CUDAExecutionProvider")
    with open_engine(network, "cuda") as engine:
        expected = in_python(engine)
    assert_of_all_kinds(expected)
    provider, found = in_cpp(cpp_build.build("release"), network, "cuda", tmp_path)
    assert provider == "cuda"
    np.testing.assert_array_equal(found["label"], expected.label)
    np.testing.assert_allclose(found["scores"], expected.scores, atol=1e-3)
    # cuDNN may choose another algorithm in each process, and with it other last bits.
    scale = float(np.abs(expected.relevance).max())
    np.testing.assert_allclose(found["relevance"], expected.relevance, atol=2e-2 * scale)
    assert (found["mask"] != expected.mask).mean() < 5e-3
