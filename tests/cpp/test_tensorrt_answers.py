"""The native TensorRT backend answers as NumPy does on a simulated GPU, and records graphs as Python's backend does."""

from __future__ import annotations

import pytest

from lrp_edge.runtime.engines.native import NativeEngine
from tests.support.cpp_tensorrt import Native, assert_right, step
from tests.support.simulated_cuda import LARGEST

SHAPES = [(1, 2, 2, 3), (3, 12, 10, 3), (3, 12, 10, 3), (2, 5, 7, 3), (2, 5, 7, 3), (2, 5, 7, 3), (1, 12, 10, 3)]


@pytest.mark.parametrize("gap", [0, 1, 60])
@pytest.mark.parametrize("product", ["tensorrt", "rtx"])
def test_answers_are_what_numpy_says(both: Native, product: str, gap: int) -> None:
    path = both.write(product)
    answers, _ = both.run(path, "open", *(step(shape, gap) for shape in SHAPES), product=product)
    assert answers[0]["provider"] == product
    for answer, shape in zip(answers[1:], SHAPES, strict=True):
        assert_right(answer, both.frames(shape))


@pytest.mark.parametrize("product", ["tensorrt", "rtx"])
@pytest.mark.parametrize("steps", [["current=1", "open"], ["open", "current=1"]])
def test_first_gpu_is_used_whichever_the_program_has_chosen(both: Native, product: str, steps: list[str]) -> None:
    """Nothing can be done, nor released, on the other one."""
    answers, calls = both.run(both.write(product), *steps, *["2x5x7"] * 3, product=product)
    for answer in answers[1:]:
        assert_right(answer, both.frames((2, 5, 7, 3)))
    assert calls["cudaSetDevice"] >= 2


@pytest.mark.parametrize(
    "steps", [["loads=0", "open"], ["contexts=0", "open"], ["open", "fail=cudaMemcpyAsync:1:901", "2x5x7", "heal"]]
)
def test_thread_keeps_its_gpu_when_a_call_fails(both: Native, steps: list[str]) -> None:
    assert "error" in both.run(both.write(), "current=1", *steps)[0][-1]


@pytest.mark.parametrize("reported", ["-1x-1x-1", "2x-1x7", "-1x5x-1"])
def test_shape_that_is_not_known_before_the_call(both: Native, reported: str) -> None:
    answers, _ = both.run(both.write(gate=True), f"mask_shape={reported}", "open", "2x5x7")
    assert_right(answers[1], both.frames((2, 5, 7, 3)))


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
    ("gate", "smallest", "reported"),
    [
        (False, (1, 2, 2), "none whole"),
        (False, (1, *LARGEST[1:]), "eager whole"),
        (True, (1, 2, 2), "none disabled"),
    ],
)
def test_rtx_is_told_of_kernels_and_graphs_as_by_python(
    both: Native, gate: bool, smallest: tuple[int, ...], reported: str
) -> None:
    path = both.write("rtx", gate=gate, smallest=smallest)
    answers, _ = both.run(path, "open", product="rtx")
    assert answers[0]["config"] == reported
    NativeEngine(path, in_flight=1).close()
    config = both.gpu.trt.contexts[0].config
    strategies = (config.dynamic_shapes_kernel_specialization_strategy, config.cuda_graph_strategy)
    assert " ".join(strategy.name.lower().split("_")[0] for strategy in strategies) == reported
