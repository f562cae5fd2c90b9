"""Engines that run an ONNX file on the CPU, against NumPy, and what is said of files that cannot be opened."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from lrp_edge.card import ModelCard
from lrp_edge.errors import LrpEdgeError
from lrp_edge.runtime import Segmenter
from lrp_edge.runtime.engines import Engine, Outputs, open_engine, open_scores
from tests.support.runtime_graphs import brightness_card, brightness_graph, expected

pytest.importorskip("openvino")

FRAMES = np.random.default_rng(0).integers(0, 256, (3, 20, 31, 3), dtype=np.uint8)
BRIGHT = np.stack([FRAMES[0], FRAMES[1] // 2 + 128, FRAMES[2] // 4])


@pytest.fixture(params=["cpu", "openvino"])
def engine(request: pytest.FixtureRequest, model: Path) -> Iterator[Engine]:
    with open_engine(model, request.param, threads=1) as engine:
        yield engine


def assert_as_expected(found: Outputs, frames: np.ndarray) -> None:
    assert [array.dtype for array in found] == [np.float32, np.int32, np.uint8, np.float32]
    for index, frame in enumerate(frames):
        scores, label, mask, relevance = expected(frame)
        np.testing.assert_allclose(found.scores[index], scores, atol=1e-5)
        np.testing.assert_allclose(found.relevance[index], relevance, rtol=1e-5)
        sure = np.abs(relevance - 160) > 1e-3
        np.testing.assert_array_equal(found.mask[index][sure], mask[sure])
        assert found.label[index] == label


def test_both_are_what_numpy_says(engine: Engine) -> None:
    assert [expected(frame)[1] for frame in BRIGHT] == [1, 1, 0]
    assert_as_expected(engine.run(BRIGHT), BRIGHT)
    assert_as_expected(engine.run(BRIGHT[:1, ::2, 5:]), BRIGHT[:1, ::2, 5:])


def test_they_say_what_they_are(engine: Engine) -> None:
    assert (engine.name, engine.provider) in {("onnxruntime-cpu", "cpu"), ("openvino-cpu", "openvino")}
    assert engine.card == brightness_card()


def test_outputs_stay_as_they_were(engine: Engine) -> None:
    first = engine.run(BRIGHT[:1])
    kept = [array.copy() for array in first]
    engine.run(BRIGHT[2:])
    for array, copy in zip(first, kept, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_submitted_frames_may_be_reused_at_once(engine: Engine) -> None:
    frames = BRIGHT[:1].copy()
    wait = engine.submit(frames)
    frames[:] = 0
    assert_as_expected(wait(), BRIGHT[:1])


def test_closed_engine_says_so(engine: Engine) -> None:
    engine.close()
    engine.close()
    with pytest.raises(LrpEdgeError, match=r"model\.onnx is closed"):
        engine.run(BRIGHT)


def test_frames_that_the_graph_does_not_take(engine: Engine) -> None:
    with pytest.raises(LrpEdgeError, match=r"model\.onnx failed on frames \[1, 4, 5, 2\]") as error:
        engine.run(np.zeros((1, 4, 5, 2), np.uint8))
    assert "\n" not in str(error.value)


OPEN_AND_CLOSE = """
import signal, sys
from pathlib import Path
from lrp_edge.runtime.engines import open_engine

signal.signal(signal.SIGINT, lambda number, frame: print("handled"))
engines = [open_engine(Path(sys.argv[1]), "openvino") for _ in range(2)]
while engines:
    engines.pop(0).close()
for _ in range(50):
    open_engine(Path(sys.argv[1]), "openvino").close()
signal.raise_signal(signal.SIGINT)
"""


def test_a_signal_after_openvino_engines_were_closed_is_handled(model: Path) -> None:
    command = [sys.executable, "-c", OPEN_AND_CLOSE, str(model)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr


def test_openvino_keeps_the_precision_of_the_graph(model: Path) -> None:
    compiled = open_engine(model, "openvino")._model  # type: ignore[attr-defined]
    assert compiled.get_property("INFERENCE_PRECISION_HINT").to_string() == "f32"


def test_card_beside_the_file_where_openvino_gives_none(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(brightness_graph(None, 3, None), path)
    with pytest.raises(LrpEdgeError, match=r"no model card.*model\.json"):
        open_engine(path, "openvino")
    path.with_suffix(".json").write_text(brightness_card().to_json())
    assert open_engine(path, "openvino").card == brightness_card()


@pytest.mark.parametrize("provider", ["cpu", "openvino"])
@pytest.mark.parametrize(("content", "said"), [(b"no model", "not an ONNX file"), (None, "no model at")])
def test_file_that_is_no_model(tmp_path: Path, provider: str, content: bytes | None, said: str) -> None:
    path = tmp_path / "model.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(LrpEdgeError, match=said) as error:
        open_engine(path, provider)
    assert "\n" not in str(error.value)


def test_openvino_names_a_tensor_that_is_missing(tmp_path: Path) -> None:
    graph = brightness_graph(brightness_card(), 3, None)
    graph.graph.output[1].name = graph.graph.node[8].output[0] = "klass"
    onnx.save(graph, tmp_path / "model.onnx")
    with pytest.raises(LrpEdgeError, match=r"output 'label' is missing"):
        open_engine(tmp_path / "model.onnx", "openvino")


def without(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Make packages look as if they were not installed."""
    find = importlib.util.find_spec
    for module in (importlib.util, sys.modules["lrp_edge.runtime.engines"]):
        monkeypatch.setattr(module, "find_spec", lambda name, *rest: None if name in names else find(name, *rest))
    for name in names:
        monkeypatch.setitem(sys.modules, name, None)
    for module_name in ("onnx_runtime", "openvino"):
        monkeypatch.delitem(sys.modules, f"lrp_edge.runtime.engines.{module_name}", raising=False)


def test_openvino_runs_what_is_asked_without_onnx_runtime(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "onnxruntime")
    assert open_engine(model).name == "openvino-cpu"
    assert open_engine(model, "openvino").name == "openvino-cpu"
    with pytest.raises(LrpEdgeError, match=r"onnxruntime.*lrp-edge\[cpu\]"):
        open_engine(model, "cpu")


def test_extras_are_named(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "openvino")
    assert open_engine(model).name == "onnxruntime-cpu"
    for provider, package in (
        ("openvino", r"lrp-edge\[openvino\]"),
        ("tensorrt", r"lrp-edge\[gpu\]"),
        ("nv_tensorrt_rtx", "onnxruntime-trt-rtx"),
    ):
        with pytest.raises(LrpEdgeError, match=f"pip install .*{package}"):
            open_engine(model, provider)
    without(monkeypatch, "openvino", "onnxruntime")
    with pytest.raises(LrpEdgeError, match=r"lrp-edge\[openvino\]"):
        open_engine(model, "openvino")
    with pytest.raises(LrpEdgeError, match=r"lrp-edge\[cpu\]"):
        open_engine(model)


def test_onnx_runtime_with_openvino_inside_runs_it(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Session(onnxruntime.InferenceSession):
        def __init__(self, path: str, options: object, providers: list[str], **kwargs: int) -> None:
            asked.append(providers)
            super().__init__(path, options, providers=["CPUExecutionProvider"], **kwargs)

        def get_providers(self) -> list[str]:
            return [*asked[-1], "CPUExecutionProvider"]

    listed = [
        "TensorrtExecutionProvider",
        "CUDAExecutionProvider",
        "OpenVINOExecutionProvider",
        "CPUExecutionProvider",
    ]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: listed)
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    assert open_engine(model, "openvino").name == "onnxruntime-openvino"
    assert open_engine(model, "tensorrt").name == "onnxruntime-tensorrt"
    assert open_engine(model).name == "onnxruntime-cuda"
    assert asked == [
        ["OpenVINOExecutionProvider"],
        ["TensorrtExecutionProvider", "CUDAExecutionProvider"],
        ["CUDAExecutionProvider"],
    ]


def test_scores_alone_are_the_same(model: Path) -> None:
    scores = open_scores(model, "openvino", threads=1)(BRIGHT)
    np.testing.assert_allclose(scores, [expected(frame)[0] for frame in BRIGHT], atol=1e-5)


@pytest.mark.parametrize("provider", ["cpu", "openvino"])
def test_stream_keeps_order_and_stops_at_a_bad_frame(model: Path, provider: str) -> None:
    frames: list[np.ndarray] = [np.full((4, 5 + i % 2, 3), 25 * i, np.uint8) for i in range(9)]
    with Segmenter(model, provider=provider) as segmenter:
        found = list(segmenter.stream(iter(frames)))
        assert [round(float(result.relevance[0, 0])) for result in found] == [25 * i for i in range(9)]
        assert [result.mask.shape for result in found] == [frame.shape[:2] for frame in frames]
        stream = segmenter.stream([frames[1], frames[2], np.zeros((4, 5, 2), np.uint8), frames[3]])
        assert [next(stream).relevance[0, 0], next(stream).relevance[0, 0]] == [25, 50]
        with pytest.raises(LrpEdgeError, match=r"\[4, 5, 2\]"):
            next(stream)


DATA = b"\x00engine" * 100


@pytest.fixture
def engine_file(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a file that no TensorRT reads, and a card that says that it is one."""

    def write(data: bytes = DATA, profile: dict | None = None, **facts: object) -> Path:
        path = tmp_path / "model.rtx.sm86.engine"
        path.write_bytes(data)
        engine = {
            "product": "rtx",
            "version": "9.9",
            "gpus": ["sm86"],
            "model": "model.onnx",
            "engine_sha256": hashlib.sha256(DATA).hexdigest(),
            "options": ["--batch", "1,1,4"],
            **facts,
        }
        shapes = {"min": [1, 4, 6], "opt": [1, 4, 6], "max": [4, 4, 6]}
        card = brightness_card().replace(engine=engine, profile=shapes if profile is None else profile)
        path.with_suffix(".json").write_text(card.to_json())
        return path

    return write


def refused(path: Path, provider: str | None = None) -> str:
    with pytest.raises(LrpEdgeError) as error:
        open_engine(path, provider)
    assert "\n" not in str(error.value)
    return str(error.value)


COMMAND = re.escape("lrp-edge compile model.onnx --for rtx:sm86 --batch 1,1,4")


@pytest.mark.parametrize("data", [DATA[:-1], b"", DATA[:50] + b"\xff" + DATA[51:], DATA + b"\n"])
def test_engine_that_was_altered_or_cut(
    engine_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)  # it must not come to a call of TensorRT
    assert re.search(f"altered or cut short.*{COMMAND}", refused(engine_file(data)))


def test_engine_without_its_card(engine_file: Callable[..., Path]) -> None:
    path = engine_file()
    path.with_suffix(".json").unlink()
    assert re.search(r"no model card next to it \(model\.rtx\.sm86\.json\).*lrp-edge compile", refused(path))
    path.unlink()
    assert refused(path) == f"no model at {path}"


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"engine_sha256": ""}, "no engine_sha256"),
        ({"version": ""}, "no version"),
        ({"product": "openvino"}, "openvino.*rtx, tensorrt"),
        ({"profile": {}}, "no profile"),
    ],
)
def test_card_that_is_none_of_an_engine(engine_file: Callable[..., Path], facts: dict, said: str) -> None:
    assert re.search(said, refused(engine_file(**facts)))


def test_card_that_is_no_json(engine_file: Callable[..., Path]) -> None:
    path = engine_file()
    path.with_suffix(".json").write_text(json.dumps(asdict(brightness_card()))[:-20])
    assert "not JSON" in refused(path)


def test_engine_is_not_run_by_another_provider(engine_file: Callable[..., Path]) -> None:
    assert re.search("engine for rtx, not for cuda", refused(engine_file(), "cuda"))


@pytest.mark.parametrize(("product", "module"), [("rtx", "tensorrt_rtx"), ("tensorrt", "tensorrt")])
def test_package_that_is_missing(
    engine_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, product: str, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    said = refused(engine_file(product=product))
    assert module in said
    assert f"lrp-edge[{product}]" in said


def test_other_version(engine_file: Callable[..., Path]) -> None:
    installed = pytest.importorskip("tensorrt_rtx").__version__
    said = refused(engine_file())
    assert re.search(f"TensorRT-RTX 9.9.*{re.escape(installed)} is installed.*{COMMAND}", said)


def gpu_answers() -> bool:
    code = (
        "from cuda.bindings.runtime import cudaGetDeviceCount as c; e, n = c(); raise SystemExit(int(e) != 0 or not n)"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_no_gpu(engine_file: Callable[..., Path]) -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    if gpu_answers():
        pytest.skip("there is a GPU")
    said = refused(engine_file(version=trt.__version__))
    assert re.search(r"no NVIDIA GPU answers \(cudaGetDeviceCount: .*lrp-edge run model\.onnx --provider cpu", said)


def test_header_that_is_none_of_an_engine(engine_file: Callable[..., Path]) -> None:
    """TensorRT-RTX's own check tells so without a GPU."""
    trt = pytest.importorskip("tensorrt_rtx")
    from lrp_edge.runtime.engines.engine_file import EngineFile
    from lrp_edge.runtime.engines.native import check_validity

    runtime = trt.Runtime(trt.Logger(trt.Logger.INTERNAL_ERROR))
    with pytest.raises(LrpEdgeError, match=f"is not a TensorRT-RTX engine.*{COMMAND}"):
        check_validity(trt, runtime, EngineFile.read(engine_file()))


def test_rebuild_names_the_new_gpu(engine_file: Callable[..., Path]) -> None:
    from lrp_edge.runtime.engines.engine_file import EngineFile

    file = EngineFile.read(engine_file())
    assert file.rebuild("sm89") == "lrp-edge compile model.onnx --for rtx:sm86,sm89 --batch 1,1,4"
    file = EngineFile.read(engine_file(product="tensorrt", options=["--hardware-compatible", "ampere_plus"]))
    assert file.rebuild("sm89") == "lrp-edge compile model.onnx --for tensorrt --hardware-compatible ampere_plus"
    assert [file.runs_on(gpu) for gpu in ("sm75", "sm86", "sm89", "sm120")] == [False, True, True, True]


def test_card_survives_as_it_was(engine_file: Callable[..., Path]) -> None:
    from lrp_edge.runtime.engines.engine_file import EngineFile

    path = engine_file()
    assert EngineFile.read(path).card == ModelCard.from_json(path.with_suffix(".json").read_text())


def test_nothing_is_reported_to_anybody(model: Path, tmp_path: Path) -> None:
    code = (
        "import sys, numpy; from lrp_edge.runtime import Segmenter\n"
        "Segmenter(sys.argv[1], provider='cpu')(numpy.zeros((8, 8, 3), numpy.uint8))"
    )
    clean = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    subprocess.run([sys.executable, "-c", code, model], check=True, env=clean | home)
    assert list(tmp_path.iterdir()) == []
