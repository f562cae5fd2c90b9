"""What the native TensorRT backend refuses, or cannot do, is said in Python's words, and nothing is left behind."""

from __future__ import annotations

import enum
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from lrp_edge.errors import LrpEdgeError
from lrp_edge.runtime.engines import native
from lrp_edge.runtime.engines.engine_file import EngineFile
from lrp_edge.runtime.engines.native import load_product
from tests.support.cpp_tensorrt import DIAGNOSTICS, VERSION, Native, assert_right, python_error, step


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
    monkeypatch.setitem(sys.modules, module, SimpleNamespace(__version__=VERSION))
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
    assert "it is not an engine" in text


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


@pytest.mark.parametrize("reported", ["2x5x8", "-1x5x8", "2x-1x6", "2x5"])
def test_outputs_of_another_shape(both: Native, reported: str) -> None:
    path = both.write()
    found = reported.replace("x", ", ")
    text = both.error(path, f"mask_shape={reported}", "open", "2x5x7")
    assert text == f"{path}: the engine gives mask as [{found}]; expected [2, 5, 7]: compile it again"


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
