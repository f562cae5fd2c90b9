"""Engines of TensorRT and TensorRT-RTX on a simulated GPU: right answers, order of work, nothing leaked."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lrp_edge.errors import LrpEdgeError
from lrp_edge.runtime import Segmenter
from lrp_edge.runtime.bench import Duration, bench
from lrp_edge.runtime.engines import native
from lrp_edge.runtime.engines.cuda import Cuda, CudaError
from lrp_edge.runtime.engines.native import NativeEngine
from tests.support.runtime_graphs import expected
from tests.support.simulated_cuda import CAPTURE_FAILED, NO_DEVICE, OUT_OF_MEMORY, Gpu, SimulatedCudart


@pytest.fixture
def gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gpu:
    return Gpu(tmp_path, monkeypatch)


def frames_of(*shape: int, seed: int = 0) -> np.ndarray:
    """Frames that differ in brightness."""
    rng = np.random.default_rng(seed)
    return (rng.integers(0, 256, (*shape, 3)) * rng.uniform(0.2, 1, (shape[0], 1, 1, 1))).astype(np.uint8)


def assert_as_expected(found: Any, frames: np.ndarray) -> None:
    assert [array.dtype for array in found] == [np.float32, np.int32, np.uint8, np.float32]
    for index, frame in enumerate(frames):
        for array, value in zip(found, expected(frame), strict=True):
            np.testing.assert_allclose(array[index], value, rtol=1e-6)
    assert len(found.label) == len(frames)


@pytest.mark.parametrize("product", ["rtx", "tensorrt"])
def test_answers_are_numpys_for_any_shape_in_the_profile(gpu: Gpu, product: str) -> None:
    with gpu.open(product) as engine:
        assert (engine.name, engine.provider, engine.in_flight) == (product, product, 2)
        kept = []
        for seed, shape in enumerate([(1, 5, 6), (3, 12, 10), (2, 2, 2), (2, 2, 2), (2, 2, 2), (1, 5, 6)]):
            frames = frames_of(*shape, seed=seed)
            kept.append((engine.run(frames), frames))
        for found, frames in kept:
            assert_as_expected(found, frames)
    assert gpu.api.live == {}


@pytest.mark.parametrize("in_flight", [1, 2, 3])
def test_calls_in_flight_are_answered_in_any_order(gpu: Gpu, in_flight: int) -> None:
    with gpu.open(in_flight=in_flight) as engine:
        batches = [frames_of(2, 4, 4, seed=seed) for seed in range(7)]
        reused = np.empty_like(batches[0])
        waits = []
        for batch in batches:
            np.copyto(reused, batch)
            waits.append(engine.submit(reused))
        for wait, batch in reversed(list(zip(waits, batches, strict=True))):
            assert_as_expected(wait(), batch)
            assert_as_expected(wait(), batch)


def test_work_overlaps(gpu: Gpu) -> None:
    """Nothing is waited for until the slots are taken."""
    with gpu.open(in_flight=2) as engine:
        gpu.api.calls.clear()
        for _ in range(2):
            engine.submit(frames_of(1, 4, 4))
        assert "cudaStreamSynchronize" not in gpu.api.calls
        engine.submit(frames_of(1, 4, 4))
        assert gpu.api.calls.count("cudaStreamSynchronize") == 1


def test_buffers_are_allocated_once(gpu: Gpu) -> None:
    with gpu.open() as engine:
        gpu.api.calls.clear()
        for shape in ((1, 2, 2), (3, 12, 10), (2, 7, 3)):
            engine.run(frames_of(*shape))
        assert not [name for name in gpu.api.calls if "Malloc" in name or "Create" in name]
        assert engine.device_bytes > 0


def counts(gpu: Gpu, *names: str) -> list[int]:
    return [gpu.api.calls.count(name) for name in names]


GRAPHS = ("cudaStreamBeginCapture", "cudaGraphInstantiate", "cudaGraphLaunch", "cudaGraphExecDestroy")


def test_tensorrt_replays_a_graph_while_the_shape_stays(gpu: Gpu) -> None:
    with gpu.open(in_flight=1) as engine:
        for seed in range(5):
            assert_as_expected(engine.run(frames_of(2, 4, 4, seed=seed)), frames_of(2, 4, 4, seed=seed))
        assert counts(gpu, *GRAPHS) == [1, 1, 4, 0]
        for seed in range(3):
            assert_as_expected(engine.run(frames_of(1, 6, 5, seed=seed)), frames_of(1, 6, 5, seed=seed))
        assert counts(gpu, *GRAPHS) == [2, 2, 6, 1]
        for shape in ((1, 2, 2), (1, 3, 3)) * 3:
            assert_as_expected(engine.run(frames_of(*shape)), frames_of(*shape))
        assert counts(gpu, *GRAPHS) == [2, 2, 6, 2]
    assert gpu.api.live == {}


@pytest.mark.parametrize(("product", "gate"), [("tensorrt", True), ("rtx", False), ("rtx", True)])
def test_no_graph_of_a_gate_nor_by_hand_for_rtx(gpu: Gpu, product: str, gate: bool) -> None:
    with gpu.open(product, 1, gate) as engine:
        for seed in range(4):
            assert_as_expected(engine.run(frames_of(2, 4, 4, seed=seed)), frames_of(2, 4, 4, seed=seed))
    assert counts(gpu, *GRAPHS) == [0, 0, 0, 0]


@pytest.mark.parametrize("failing", ["context", "cudaStreamBeginCapture", "cudaGraphInstantiate"])
def test_graph_that_cannot_be_recorded_is_not_tried_again(gpu: Gpu, failing: str) -> None:
    gpu.trt.capturable = failing != "context"
    if failing != "context":
        gpu.api.fail[failing] = (0, CAPTURE_FAILED)
    with gpu.open(in_flight=1) as engine:
        for seed in range(5):
            assert_as_expected(engine.run(frames_of(2, 4, 4, seed=seed)), frames_of(2, 4, 4, seed=seed))
    assert counts(gpu, "cudaStreamBeginCapture", "cudaGraphLaunch", "cudaGetLastError") == [1, 0, 1]
    assert gpu.api.live == {}


@pytest.mark.parametrize(
    ("smallest", "gate", "kernels", "graphs"),
    [
        ((1, 12, 10), False, "EAGER", "WHOLE_GRAPH_CAPTURE"),
        ((1, 2, 2), False, "NONE", "WHOLE_GRAPH_CAPTURE"),
        ((1, 12, 10), True, "EAGER", "DISABLED"),
    ],
)
def test_rtx_changes_no_kernel_while_it_answers(
    gpu: Gpu, smallest: tuple[int, ...], gate: bool, kernels: str, graphs: str
) -> None:
    with NativeEngine(gpu.write("rtx", gate, smallest)):
        for context in gpu.trt.contexts:
            assert context.config.dynamic_shapes_kernel_specialization_strategy.name == kernels
            assert context.config.cuda_graph_strategy.name == graphs


def test_close_keeps_what_is_under_way_and_releases_all(gpu: Gpu) -> None:
    engine = gpu.open()
    frames = frames_of(2, 4, 4)
    wait = engine.submit(frames)
    engine.close()
    engine.close()
    assert gpu.api.live == {}
    assert_as_expected(wait(), frames)
    with pytest.raises(LrpEdgeError, match="closed"):
        engine.run(frames)


ALLOCATIONS = [("cudaMalloc", n) for n in range(10)] + [("cudaMallocHost", n) for n in range(10)]


@pytest.mark.parametrize(("call", "nth"), ALLOCATIONS)
def test_too_little_memory_is_said_and_leaks_nothing(gpu: Gpu, call: str, nth: int) -> None:
    gpu.api.fail[call] = (nth, OUT_OF_MEMORY)
    with pytest.raises(
        LrpEdgeError, match=r"wants 6 MiB .* 2 calls .*\[3, 12, 10, 3\].* of 2048 MiB are free.*--batch"
    ):
        gpu.open()
    assert gpu.api.live == {}


@pytest.mark.parametrize("contexts", [0, 1])
def test_no_memory_for_a_context(gpu: Gpu, contexts: int) -> None:
    gpu.trt.most_contexts = contexts
    with pytest.raises(LrpEdgeError, match=r"wants 6 MiB"):
        gpu.open()
    assert gpu.api.live == {}


@pytest.mark.parametrize(
    "call", ["cudaStreamCreateWithFlags", "cudaEventCreate", "cudaMemcpyAsync", "cudaStreamSynchronize"]
)
def test_error_of_cuda_names_the_call_and_leaks_nothing(gpu: Gpu, call: str) -> None:
    gpu.api.fail[call] = (0, NO_DEVICE)
    with pytest.raises(LrpEdgeError, match=f"{call}: cudaErrorNoDevice") as error, gpu.open() as engine:
        engine.run(frames_of(1, 4, 4))
    assert str(gpu.folder) in str(error.value)
    assert gpu.api.live == {}


@pytest.mark.parametrize("shape", [(4, 4, 4), (1, 1, 4), (1, 13, 10), (1, 12, 11)])
def test_frames_outside_the_profile(gpu: Gpu, shape: tuple[int, ...]) -> None:
    asked = ", ".join(map(str, shape))
    with gpu.open() as engine:
        with pytest.raises(LrpEdgeError, match=rf"\[{asked}, 3\].*1 to 3 frames of 2x2 to 12x10.*--batch.*--largest"):
            engine.run(frames_of(*shape))
        assert_as_expected(engine.run(frames_of(1, 2, 2)), frames_of(1, 2, 2))


def test_engine_that_cannot_be_loaded(gpu: Gpu) -> None:
    gpu.trt.loads = False
    with pytest.raises(LrpEdgeError, match="cannot be loaded: it is not an engine; compile again: lrp-edge compile"):
        gpu.open()


def test_engine_with_other_tensors(gpu: Gpu) -> None:
    gpu.trt.types["mask"] = np.int32
    with pytest.raises(LrpEdgeError, match="output 'mask' is int32; expected uint8"):
        gpu.open()


@pytest.mark.parametrize("shape", [(2, 4, 4), (2, -1, 4), (-1, -1, -1)])
def test_shape_that_is_right_as_far_as_it_is_known(gpu: Gpu, shape: tuple[int, ...]) -> None:
    gpu.api.mask_shape = shape
    frames = frames_of(2, 4, 4)
    with gpu.open() as engine:
        assert_as_expected(engine.run(frames), frames)


@pytest.mark.parametrize("shape", [(2, 4), (2, 4, 5), (-1, 4, 5), (2, 4, 4, 1), (-1, -1)])
def test_shape_that_is_another(gpu: Gpu, shape: tuple[int, ...]) -> None:
    gpu.api.mask_shape = shape
    expected = rf"gives mask as \[{', '.join(map(str, shape))}\]; expected \[2, 4, 4\]"
    with gpu.open() as engine, pytest.raises(LrpEdgeError, match=expected):
        engine.run(frames_of(2, 4, 4))


def test_scores_alone(gpu: Gpu) -> None:
    gpu.trt.types = {"image": np.uint8, "scores": np.float32}
    with pytest.raises(LrpEdgeError, match="output 'label' is missing"):
        gpu.open()
    frames = frames_of(2, 4, 4)
    with NativeEngine(gpu.write(), outputs=("scores",)) as engine:
        (scores,) = engine.submit_raw(frames)()
    np.testing.assert_allclose(scores, [expected(frame)[0] for frame in frames], rtol=1e-6)


def test_gpu_that_it_was_not_built_for(gpu: Gpu) -> None:
    gpu.api.capability = (12, 0)
    with pytest.raises(LrpEdgeError, match=r"built for sm86, and this GPU is sm120.*--for rtx:sm86,sm120"):
        gpu.open("rtx")


def test_no_gpu_at_all(gpu: Gpu) -> None:
    gpu.api.devices = 0
    with pytest.raises(LrpEdgeError, match=r"no NVIDIA GPU answers \(cudaGetDeviceCount: 0\)"):
        gpu.open()
    gpu.api.fail["cudaGetDeviceCount"] = (0, NO_DEVICE)
    with pytest.raises(LrpEdgeError, match=r"no NVIDIA GPU answers \(cudaGetDeviceCount: cudaErrorNoDevice"):
        gpu.open()


def test_each_diagnosis_has_words(gpu: Gpu) -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    from lrp_edge.runtime.engines.engine_file import EngineFile

    file = EngineFile.read(gpu.write("rtx"))
    for name, value in trt.EngineInvalidityDiagnostics.__members__.items():
        verdict = (trt.EngineValidity.INVALID, int(value))
        runtime = SimpleNamespace(engine_header_size=4, get_engine_validity=lambda data, verdict=verdict: verdict)
        with pytest.raises(LrpEdgeError, match="compile again") as error:
            native.check_validity(trt, runtime, file)
        assert name not in str(error.value)
        assert native._VALIDITY[name] in str(error.value)
    for verdict in ((trt.EngineValidity.VALID, 0), (trt.EngineValidity.SUBOPTIMAL, 2)):
        runtime = SimpleNamespace(engine_header_size=4, get_engine_validity=lambda data, verdict=verdict: verdict)
        native.check_validity(trt, runtime, file)


def test_segmenter_splits_at_the_profile_and_streams(gpu: Gpu) -> None:
    frames = frames_of(8, 4, 5)
    with Segmenter(gpu.write()) as segmenter:
        assert segmenter.provider == "tensorrt"
        for results in (segmenter.batch(frames), list(segmenter.stream(frames))):
            assert len(results) == 8
            for found, frame in zip(results, frames, strict=True):
                scores, label, mask, relevance = expected(frame)
                np.testing.assert_allclose(found.scores, scores, rtol=1e-6)
                np.testing.assert_array_equal(found.mask, mask)
                np.testing.assert_allclose(found.relevance, relevance, rtol=1e-6)
                assert found.label == label
        stream = segmenter.stream([frames[0], frames[1], np.zeros((40, 40, 3), np.uint8)])
        assert [next(stream).relevance.mean(), next(stream).relevance.mean()] == pytest.approx(
            frames[:2].mean((1, 2, 3))
        )
        with pytest.raises(LrpEdgeError, match=r"\[1, 40, 40, 3\] are outside"):
            next(stream)


def test_bench_states_the_stages_apart(gpu: Gpu) -> None:
    with gpu.open() as engine:
        found = bench(engine, frames_of(4, 4, 5), (1, 2), Duration(iterations=6, warm_up=1))
    assert found["deviceMiB"] == pytest.approx(engine.device_bytes / 2**20)
    for row in found["batches"]:
        assert [row[name]["median"] for name in ("h2dMs", "computeMs", "d2hMs")] == [0.25] * 3
        assert row["framesPerSecondInFlight"] > 0


def test_every_failure_is_an_error() -> None:
    api = SimulatedCudart()
    api.fail["cudaMalloc"] = (1, OUT_OF_MEMORY)
    cuda = Cuda(api)
    address = cuda("cudaMalloc", 8)
    with pytest.raises(CudaError, match=r"cudaMalloc: cudaErrorMemoryAllocation \(in words\)") as error:
        cuda("cudaMalloc", 8)
    assert error.value.code == "cudaErrorMemoryAllocation"
    cuda("cudaFree", address)
    assert api.live == {}
