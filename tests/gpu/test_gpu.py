"""Every way to run a model on an NVIDIA GPU, against ONNX Runtime on the CPU: ``python -m pytest tests/gpu -s``.

``LRP_EDGE_MODEL`` names an exported ONNX file; without it a small network is exported on the spot, and PyTorch runs it
too. What is not installed is skipped with the reason. Each prints its parity, and its latency compared with the
classifier alone.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from lrp_edge import ModelCard
from lrp_edge.card import InputSpec
from lrp_edge.cli.bench import cut_to_scores
from lrp_edge.errors import LrpEdgeError
from lrp_edge.export import to_engine, to_onnx
from lrp_edge.export.deployable import Deployable
from lrp_edge.runtime.bench import Duration, bench, random_frames
from lrp_edge.runtime.engines import Engine, Outputs, onnx_runtime, open_engine, open_scores
from lrp_edge.runtime.engines.base import largest_batch
from lrp_edge.runtime.engines.cuda import load_cuda
from lrp_edge.runtime.engines.engine_file import PRODUCTS
from lrp_edge.runtime.engines.native import NativeEngine


def why_no_gpu() -> str:
    """Say why there is none; nothing if there is."""
    try:
        count = int(load_cuda("rtx")("cudaGetDeviceCount"))
    except LrpEdgeError as error:
        return "" if torch.cuda.is_available() else f"no NVIDIA GPU answers ({error})"
    return "" if count else "no NVIDIA GPU answers (cudaGetDeviceCount: 0)"


_REASON = why_no_gpu()
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(bool(_REASON), reason=_REASON)]

SIZE = (256, 256)
NATIVE = ("rtx", "tensorrt")
# By the arithmetic's precision: scores; relevance, as a share of its maximum; share of pixels in which masks differ.
# TF32, which GPUs use for fp32 unasked, has a mantissa of 10 bits.
TOLERANCES = {
    "fp32": (5e-3, 2e-2, 5e-3),
    "fp16": (2e-2, 5e-2, 2e-2),
    "bf16": (5e-2, 2e-1, 5e-2),
    "int8": (1e-1, 4e-1, 5e-2),
}


@dataclass
class Case:
    """A model, frames for it, and what ONNX Runtime says on the CPU; the network itself where there is one."""

    path: Path
    card: ModelCard
    frames: np.ndarray
    reference: Outputs
    network: nn.Module | None


class TorchEngine(Engine):
    """The exported module in PyTorch."""

    def __init__(self, network: nn.Module, card: ModelCard, size: tuple[int, int], device: str) -> None:
        self.card, self.device = card, device
        self.name = self.provider = f"pytorch-{device}"
        self._both = Deployable(network, card, size).eval().to(device)
        self._alone = nn.Sequential(self._both.preprocess, network.to(device), nn.Softmax(1)).eval()

    @torch.inference_mode()
    def run(self, frames: np.ndarray) -> Outputs:
        return Outputs(*(output.cpu().numpy() for output in self._both(self._upload(frames))))

    @torch.inference_mode()
    def alone(self, frames: np.ndarray) -> Any:
        return self._alone(self._upload(frames)).cpu().numpy()

    def _upload(self, frames: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(frames)).to(self.device)


def small_network() -> nn.Module:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for channels, wider in ((3, 16), (16, 32), (32, 64)):
        layers += [nn.Conv2d(channels, wider, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 3)).eval()


def textured_frames(count: int, size: tuple[int, int], channels: int) -> np.ndarray:
    """Noise with a bright disc in each frame, so that relevance has somewhere to be."""
    frames = random_frames(count, *size, channels) // 2
    rows, columns = np.ogrid[: size[0], : size[1]]
    for index, frame in enumerate(frames):
        centre = np.random.default_rng(index).uniform(0.3, 0.7, 2) * size
        frame[(rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < (min(size) / 12) ** 2] = 250
    return frames


def make_case(folder: Path) -> Case:
    given, network = os.environ.get("LRP_EDGE_MODEL"), None
    if given:
        path = Path(given)
    else:
        network = small_network()
        spec = InputSpec(size=SIZE, max_batch=4)
        path = to_onnx(network, folder, card=ModelCard(("ok", "dent", "scratch"), ("dent", "scratch"), spec))
    with open_engine(path, "cpu") as engine:
        card = engine.card
        frames = textured_frames(largest_batch(card), card.input.size or SIZE, card.input.channels)
        return Case(path, card, frames, engine.run(frames), network)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make_case(tmp_path_factory.mktemp("model"))


def compile_model(case: Case, folder: Path, product: str) -> Path:
    gpus = [load_cuda(product).capability()] if product == "rtx" else None
    dynamic = case.card.input.size is None
    sizes = dict.fromkeys(("smallest", "usual", "largest"), case.frames.shape[1:3]) if dynamic else {}
    return to_engine(case.path, folder, product=product, gpus=gpus, **sizes)


def compile_classifier(case: Case, folder: Path, product: str, gpu: str) -> Path:
    """Build the part of a model that the scores need; to_engine takes whole models only."""
    trt = import_module(PRODUCTS[product][1])
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    flags = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if flags is None else 1 << int(flags))
    model = cut_to_scores(case.path, folder / "classifier.onnx")
    assert trt.OnnxParser(network, logger).parse_from_file(str(model))
    config, shapes = builder.create_builder_config(), [(1, *case.frames.shape[1:]), case.frames.shape]
    if product == "rtx":
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, gpu.upper()), 0)
    profile = builder.create_optimization_profile()
    profile.set_shape("image", shapes[0], shapes[0], shapes[1])
    config.add_optimization_profile(profile)
    data = bytes(builder.build_serialized_network(network, config))
    facts = {"product": product, "version": trt.__version__, "engine_sha256": hashlib.sha256(data).hexdigest()}
    least, most = ([int(side) for side in shape[:3]] for shape in shapes)
    card = case.card.replace(engine=facts, profile={"min": least, "opt": least, "max": most})
    path = folder / "classifier.engine"
    path.write_bytes(data)
    path.with_suffix(".json").write_text(card.to_json())
    return path


def why_not(how: str, case: Case) -> str:
    """Say why a way to run a model is not to be had here; nothing if it is, and then it must work."""
    if how == "pytorch-cuda":
        if case.network is None:
            return "LRP_EDGE_MODEL is an ONNX file, which PyTorch does not run"
        return "" if torch.cuda.is_available() else "this PyTorch has no CUDA"
    if how not in NATIVE:
        name = onnx_runtime.PROVIDERS[how.partition("-")[0]][0]
        return "" if name in onnxruntime.get_available_providers() else f"this ONNX Runtime has no {name}"
    if find_spec(PRODUCTS[how][1]) is None or find_spec("cuda") is None:
        return f"{PRODUCTS[how][0]} or cuda-python is not installed"
    gpu = load_cuda(how).capability()
    known = getattr(import_module(PRODUCTS[how][1]), "ComputeCapability", None)
    return "" if how == "tensorrt" or gpu.upper() in known.__members__ else f"TensorRT-RTX builds nothing for {gpu}"


@pytest.fixture(scope="module", params=["pytorch-cuda", "cuda", "tensorrt-provider", *NATIVE])
def subject(request: pytest.FixtureRequest, case: Case, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """An engine on the GPU, and the classifier alone on the same."""
    how, folder = request.param, tmp_path_factory.mktemp("engines")
    if reason := why_not(how, case):
        pytest.skip(reason)
    with ExitStack() as owner:
        if how == "pytorch-cuda":
            torch.backends.cudnn.allow_tf32 = False
            engine = TorchEngine(case.network, case.card, case.frames.shape[1:3], "cuda")
            yield engine, engine.alone
        elif how in NATIVE:
            engine = owner.enter_context(NativeEngine(compile_model(case, folder, how)))
            classifier = compile_classifier(case, folder, how, load_cuda(how).capability())
            part = owner.enter_context(NativeEngine(classifier, outputs=("scores",)))
            yield engine, lambda frames: part.submit_raw(frames)()
        else:
            provider = how.partition("-")[0]
            engine = owner.enter_context(open_engine(case.path, provider))
            yield engine, open_scores(cut_to_scores(case.path, folder / "classifier.onnx"), provider)


def differences(found: Outputs, reference: Outputs) -> tuple[float, float, float]:
    """Return the largest difference of scores and of relevance (share of its maximum), and the share of mask pixels."""
    scale = max(float(np.abs(reference.relevance).max()), np.finfo(np.float32).tiny)
    return (
        float(np.abs(found.scores - reference.scores).max()),
        float(np.abs(found.relevance - reference.relevance).max()) / scale,
        float((found.mask != reference.mask).mean()),
    )


def assert_parity(engine: Engine, case: Case) -> None:
    """Compare with the CPU, in one call and frame by frame, often enough for CUDA graphs to be replayed."""
    single = [engine.run(case.frames[index : index + 1]) for index in range(len(case.frames))]
    stacked = Outputs(*(np.concatenate(parts) for parts in zip(*single, strict=True)))
    for how, found in (("in one call", engine.run(case.frames)), ("one by one", stacked)):
        assert [array.dtype for array in found] == [array.dtype for array in case.reference]
        assert [array.shape for array in found] == [array.shape for array in case.reference]
        np.testing.assert_array_equal(found.label, case.reference.label)
        measured = differences(found, case.reference)
        text = "scores {:.1e}, relevance {:.1e} of its maximum, mask {:.2%} of the pixels".format(*measured)
        print(f"\n{engine.name}, {how}: differs from the CPU by {text}")
        for value, limit in zip(measured, TOLERANCES[case.card.precision], strict=True):
            assert value <= limit, text


def measure(engine: Engine, case: Case, alone: Callable, seconds: float = 2.0) -> dict[str, Any]:
    """Measure one frame and the largest batch, and print it."""
    batches = tuple(dict.fromkeys((1, largest_batch(engine.card))))
    found = bench(engine, case.frames, batches, Duration(seconds), alone)
    for row in found["batches"]:
        times = row["latencyMs"]
        text = f"{engine.name}, batch {row['batch']}: p50 {times['median']:.3f} ms, p99 {times['p99']:.3f} ms, "
        text += f"{row['framesPerSecond']:.0f} frames/s"
        if "framesPerSecondInFlight" in row:
            text += f", overlapping {row['framesPerSecondInFlight']:.0f}"
        if "computeMs" in row:
            stages = [f"{name[:-2]} {row[name]['median']:.3f}" for name in ("h2dMs", "computeMs", "d2hMs")]
            text += f" ({', '.join(stages)} ms)"
        alone_ms, ratio = row["classifierMs"]["median"], row["ratio"]
        print(f"\n{text}; classifier alone {alone_ms:.3f} ms, {ratio:.2f} times")
    return found


def test_parity_with_the_cpu(subject: Any, case: Case) -> None:
    assert_parity(subject[0], case)


def test_same_frames_same_bytes(subject: Any, case: Case) -> None:
    """Also when a CUDA graph takes over, and between the slots."""
    engine = subject[0]
    first, *others = (engine.run(case.frames) for _ in range(5))
    for other in others:
        assert [array.tobytes() for array in other] == [array.tobytes() for array in first]


def test_latency_beside_the_classifier_alone(subject: Any, case: Case) -> None:
    engine, alone = subject
    for row in measure(engine, case, alone)["batches"]:
        assert row["latencyMs"]["median"] > 0
        assert row["ratio"] > 1 or case.card.gate


@pytest.mark.parametrize("product", NATIVE)
def test_native_engine_in_use(case: Case, tmp_path: Path, product: str) -> None:
    """Calls in flight keep their order, frames outside the profile are refused, and memory comes back."""
    if reason := why_not(product, case):
        pytest.skip(reason)
    path = compile_model(case, tmp_path, product)
    NativeEngine(path).close()
    free = load_cuda(product).free_memory
    before = free()[0]
    for _ in range(3):
        with NativeEngine(path) as engine:
            expected = [engine.run(case.frames[i : i + 1]) for i in range(len(case.frames))]
            waits = [engine.submit(case.frames[i : i + 1]) for i in range(len(case.frames))]
            for wait, wanted in reversed(list(zip(waits, expected, strict=True))):
                assert [array.tobytes() for array in wait()] == [array.tobytes() for array in wanted]
            with pytest.raises(LrpEdgeError, match="outside its profile"):
                engine.run(np.repeat(case.frames, 2, 0))
            assert engine.run(case.frames[:1]).scores.tobytes() == expected[0].scores.tobytes()
    assert before - free()[0] < 32 * 2**20
