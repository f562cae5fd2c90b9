"""Engines built for real by TensorRT-RTX: files, cards, cache, and what is left when a build goes wrong: nothing."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import types
from pathlib import Path

import onnx
import pytest
import torch
from onnx import TensorProto
from torch import Tensor, nn

from lrp_edge.card import InputSpec, ModelCard
from lrp_edge.errors import LrpEdgeError
from lrp_edge.export import to_engine, to_onnx
from lrp_edge.export.tensorrt import build, target
from lrp_edge.export.tensorrt.cache import EngineCache, cache_limit
from lrp_edge.export.tensorrt.profile import profile_for
from tests.support.engine_graphs import contract_graph, node, noted, save, small_card
from tests.support.exported import CARD, tiny

trt = pytest.importorskip("tensorrt_rtx")
pytestmark = pytest.mark.usefixtures("cache")

ANY_SIZE, FIXED = small_card(), small_card((48, 64), 1)
SHAPES = {"smallest": (32, 32), "usual": (48, 64), "largest": (64, 96)}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return save(contract_graph(ANY_SIZE), tmp_path / "out" / "line 3.onnx")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def left(model: Path) -> list[str]:
    """Return what is in the model's folder besides the model."""
    return sorted(path.name for path in model.parent.iterdir() if path != model)


def card_of(engine: Path) -> ModelCard:
    return ModelCard.from_json(engine.with_suffix(".json").read_text())


def test_name_card_and_hashes(model: Path) -> None:
    engine = to_engine(model, gpus=("sm120", "sm86"), batch=(1, 2, 3), workspace_mb=512, optimization_level=2, **SHAPES)
    assert engine == model.parent / f"line 3.rtx-{trt.__version__}.sm86-sm120.fp32.engine"
    assert left(model) == [engine.name, engine.with_suffix(".json").name]
    card = card_of(engine)
    profile = ["--batch", "1,2,3", "--smallest", "32x32", "--usual", "48x64", "--largest", "64x96"]
    assert card.profile == {"min": [1, 32, 32], "opt": [2, 48, 64], "max": [3, 64, 96]}
    assert card.engine == {
        "product": "rtx",
        "version": trt.__version__,
        "gpus": ["sm86", "sm120"],
        "device": "",
        "model": "line 3.onnx",
        "model_sha256": sha256(model),
        "engine_sha256": sha256(engine),
        "options": [*profile, "--workspace", "512", "--optimization-level", "2"],
    }
    assert card.replace(profile={}, engine={}) == ANY_SIZE


def test_a_fixed_size_and_one_frame(tmp_path: Path) -> None:
    engine = to_engine(save(contract_graph(FIXED), tmp_path / "model.onnx"), tmp_path / "new" / "folder")
    assert engine.name == f"model.rtx-{trt.__version__}.sm86-sm89-sm120.fp32.engine"
    assert engine.parent == tmp_path / "new" / "folder"
    assert card_of(engine).profile == {"min": [1, 48, 64], "opt": [1, 48, 64], "max": [1, 48, 64]}
    assert card_of(engine).engine["options"] == ["--batch", "1,1,1"]


@pytest.mark.parametrize(
    ("wishes", "expected"),
    [
        ({}, ((1, 64, 64), (1, 512, 512), (4, 1024, 1024))),
        ({"largest": (300, 48)}, ((1, 64, 48), (1, 300, 48), (4, 300, 48))),
        ({"smallest": (600, 40)}, ((1, 600, 40), (1, 600, 512), (4, 1024, 1024))),
        ({"usual": (2000, 32)}, ((1, 64, 32), (1, 2000, 32), (4, 2000, 1024))),
        ({"batch": (2, 2, 3)}, ((2, 64, 64), (2, 512, 512), (3, 1024, 1024))),
    ],
)
def test_profiles_fit_what_is_given(wishes: dict, expected: tuple) -> None:
    profile = profile_for(ANY_SIZE.input, **wishes)
    assert (profile.smallest, profile.usual, profile.largest) == expected


@pytest.mark.parametrize(
    ("spec", "wishes", "message"),
    [
        (ANY_SIZE.input, {"batch": (1, 1, 5)}, r"batch of 5 frames is more than the model takes \(4\).*--max-batch 5"),
        (ANY_SIZE.input, {"batch": (2, 1, 3)}, "batch of the frames is 2, 1 and 3 for smallest, usual and largest"),
        (ANY_SIZE.input, {"batch": (0, 1, 3)}, "expected an ascending order from 1"),
        (ANY_SIZE.input, {"smallest": (64, 80), "largest": (90, 70)}, "width of the frames is 80, 70 and 70"),
        (ANY_SIZE.input, {"usual": (9, 9), "smallest": (10, 9)}, "height of the frames is 10, 9 and 1024"),
        (InputSpec(size=(48, 64)), {"largest": (96, 64)}, "takes frames of 48x64 only, not 96x64"),
    ],
)
def test_profiles_that_cannot_be(spec: InputSpec, wishes: dict, message: str) -> None:
    with pytest.raises(LrpEdgeError, match=message):
        profile_for(spec, **wishes)


def test_the_second_build_is_the_first(model: Path, cache: Path) -> None:
    steps: list[tuple[str, int, int]] = []
    said: list[str] = []

    def compiled(**changes: object) -> Path:
        return to_engine(model, **SHAPES, progress=lambda *step: steps.append(step), say=said.append, **changes)

    first = compiled().read_bytes()
    assert len(steps) > 20
    assert all(0 <= done <= total for _, done, total in steps)
    assert re.fullmatch(rf"built with TensorRT-RTX {trt.__version__} in \d+\.\d s", said.pop())
    steps.clear()
    again = compiled()
    assert said.pop().startswith("taken from the cache")
    assert steps == []
    assert again.read_bytes() == first
    assert card_of(again).engine["engine_sha256"] == hashlib.sha256(first).hexdigest()
    for change in ({"cache": False}, {"gpus": ["sm86"]}, {"batch": (1, 1, 2)}, {"workspace_mb": 256}):
        compiled(**change)
        assert said.pop().startswith("built with"), change
    assert len(list((cache / "engines").iterdir())) == 4


def test_the_name_of_the_model_does_not_matter_to_the_cache(model: Path) -> None:
    to_engine(model, **SHAPES)
    said: list[str] = []
    renamed = to_engine(model.rename(model.with_name("other.onnx")), **SHAPES, say=said.append)
    assert said[0].startswith("taken from the cache")
    assert card_of(renamed).engine["model"] == "other.onnx"


@pytest.mark.parametrize("damage", ["altered", "cut short", "no engine", "no card", "card of another"])
def test_a_damaged_entry_is_built_again(damage: str, model: Path, cache: Path) -> None:
    to_engine(model, **SHAPES)
    (entry,) = (cache / "engines").iterdir()
    engine, side = entry / "model.engine", entry / "model.json"
    data = bytearray(engine.read_bytes())
    data[len(data) // 2] ^= 1
    {
        "altered": lambda: engine.write_bytes(data),
        "cut short": lambda: engine.write_bytes(data[:1000]),
        "no engine": engine.unlink,
        "no card": side.unlink,
        "card of another": lambda: side.write_text(ANY_SIZE.to_json()),
    }[damage]()
    said: list[str] = []
    built = to_engine(model, **SHAPES, say=said.append)
    assert "is damaged" in said[0]
    assert said[1].startswith("built with")
    assert card_of(built).engine["engine_sha256"] == sha256(built)
    assert [path.name for path in (cache / "engines").iterdir()] == [entry.name]
    to_engine(model, **SHAPES, say=said.append)
    assert said[-1].startswith("taken from the cache")


def test_a_cache_that_cannot_be_written_costs_no_engine(model: Path, cache: Path) -> None:
    cache.write_text("in the way")
    said: list[str] = []
    assert to_engine(model, **SHAPES, say=said.append).is_file()
    assert f"not kept in {cache}" in said[1]


def test_the_least_recently_used_go_first(cache: Path) -> None:
    engines = EngineCache(cache, 10_000, pytest.fail)
    for age, key in enumerate(("a", "b")):
        data = key.encode() * 1000
        facts = {"engine_sha256": hashlib.sha256(data).hexdigest()}
        engines.keep(key, data, ANY_SIZE.replace(engine=facts))
        os.utime(cache / "engines" / key, (age, age))
    abandoned = cache / "engines" / ".keep-abandoned"
    abandoned.mkdir()
    os.utime(abandoned, (0, 0))
    assert engines.take("a") == b"a" * 1000
    engines.limit = 2 * sum(file.stat().st_size for file in (cache / "engines" / "a").iterdir())
    engines.keep("c", b"c", ANY_SIZE)
    assert sorted(path.name for path in (cache / "engines").iterdir()) == ["a", "c"]


def test_the_first_to_keep_an_engine_wins(cache: Path) -> None:
    engines = EngineCache(cache, 10_000, pytest.fail)
    for data, first in ((b"one", True), (b"another", False)):
        facts = {"engine_sha256": hashlib.sha256(data).hexdigest()}
        assert engines.keep("key", data, ANY_SIZE.replace(engine=facts)) is first
    assert engines.take("key") == b"one"
    assert [path.name for path in (cache / "engines").iterdir()] == ["key"]


def test_the_limit_is_a_number(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    assert cache_limit() == 8 << 30
    monkeypatch.setenv("LRP_EDGE_CACHE_MB", "0")
    assert to_engine(model, **SHAPES).is_file()
    monkeypatch.setenv("LRP_EDGE_CACHE_MB", "8GB")
    with pytest.raises(LrpEdgeError, match="LRP_EDGE_CACHE_MB is '8GB'"):
        to_engine(model, **SHAPES)


COMPILE = """
import sys
from lrp_edge.export import to_engine
def progress(phase, done, steps):
    if mark:
        print("started", flush=True)
        import time; time.sleep(0.02)
mark = "mark" in sys.argv
print(to_engine(sys.argv[1], smallest=(32, 32), usual=(48, 64), largest=(64, 96), progress=progress, say=print))
"""


def start(model: Path, *arguments: str, before: str = "") -> subprocess.Popen:
    code = before + COMPILE
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", code, model, *arguments], stdout=pipe, stderr=pipe, text=True)


def test_two_processes_at_once(model: Path, cache: Path) -> None:
    running = [start(model) for _ in range(2)]
    for process in running:
        output, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        engine = Path(output.splitlines()[-1])
    assert card_of(engine).engine["engine_sha256"] == sha256(engine)
    assert left(model) == [engine.name, engine.with_suffix(".json").name]
    assert len(list((cache / "engines").iterdir())) == 1
    said: list[str] = []
    assert sha256(to_engine(model, **SHAPES, say=said.append)) == sha256(engine)
    assert said[0].startswith("taken from the cache")


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_build_leaves_nothing(how: signal.Signals, model: Path, cache: Path) -> None:
    save(contract_graph(ANY_SIZE, depth=30), model)
    process = start(model, "mark")
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    process.send_signal(how)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == -how, errors
    if how == signal.SIGINT:
        assert errors.rstrip().endswith("KeyboardInterrupt")
        assert "[ERROR]" not in errors
    assert left(model) == []
    assert not (cache / "engines").exists()


@pytest.mark.skipif(os.name == "nt", reason="limits of POSIX")
def test_a_full_disk_leaves_what_was_there(model: Path, cache: Path) -> None:
    engine = to_engine(model, **SHAPES, batch=(1, 1, 1), cache=False)
    before = {path.name: sha256(path) for path in model.parent.iterdir()}
    full = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))\n"
    output, errors = start(model, before=full).communicate(timeout=300)
    assert f"{engine}: this file cannot be written (File too large); free space" in errors
    assert "not kept in" in output
    assert {path.name: sha256(path) for path in model.parent.iterdir()} == before
    assert list((cache / "engines").iterdir()) == []


@pytest.mark.parametrize("pair_before", [False, True])
def test_a_pair_appears_whole_or_not_at_all(pair_before: bool, model: Path) -> None:
    engine = model.parent / f"line 3.rtx-{trt.__version__}.sm86-sm89-sm120.fp32.engine"
    if pair_before:
        engine.with_suffix(".json").write_text("previous")
    engine.mkdir()
    with pytest.raises(LrpEdgeError, match=r"this file cannot be written .*choose another folder"):
        to_engine(model, **SHAPES)
    expected = [engine.name, engine.with_suffix(".json").name] if pair_before else [engine.name]
    assert left(model) == expected
    if pair_before:
        assert engine.with_suffix(".json").read_text() == "previous"


class Attention(nn.Module):
    """Attention whose products name their axes in capitals, as MaxViT's."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.query, self.key = nn.Conv2d(3, 8, 8, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        weights = torch.einsum("B I D, B J D -> B I J", self.query(x), self.key(x)).softmax(-1)
        return self.head(torch.einsum("B I J, B J D -> B I D", weights, x).mean(1))  # type: ignore[no-any-return]


def test_products_with_axes_in_capitals_build(tmp_path: Path) -> None:
    torch.manual_seed(0)
    assert to_engine(to_onnx(Attention().eval(), tmp_path, card=CARD), gpus=("sm86",), cache=False).is_file()


def test_a_refused_node_is_named_with_its_module(tmp_path: Path) -> None:
    refused = [
        noted(node("Det", ["planes"], "det"), module="features.3"),
        node("Gizmo", ["planes"], "gizmo", domain="acme"),
        node("Unique", ["planes"], "unique"),
    ]
    message = (
        rf"model.onnx: TensorRT-RTX {trt.__version__} cannot take node 'node_det' \(Det\) of module "
        r"features\.3: it does not support this operator; and 2 more: Gizmo, Unique; replace"
    )
    with pytest.raises(LrpEdgeError, match=message):
        to_engine(save(contract_graph(ANY_SIZE, *refused), tmp_path / "model.onnx"))
    gizmo = noted(refused[1], module="head", part="relevance")
    with pytest.raises(LrpEdgeError, match=r"\(Gizmo\) of the relevance of module head: (it knows no|Op type)"):
        to_engine(save(contract_graph(ANY_SIZE, gizmo), tmp_path / "model.onnx"))
    with pytest.raises(LrpEdgeError, match=r"'node_unique' \(Unique\): it does not support"):
        to_engine(save(contract_graph(ANY_SIZE, refused[2]), tmp_path / "model.onnx"))
    with pytest.raises(LrpEdgeError, match=r"'node_unique' \(Unique\) of the mask: it does not support"):
        to_engine(save(contract_graph(ANY_SIZE, noted(refused[2], part="mask")), tmp_path / "model.onnx"))
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


@pytest.mark.skipif(trt.__version__ < "1.7", reason="older versions build it")
def test_what_the_builder_refuses_is_named_with_its_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = contract_graph(ANY_SIZE)
    noted(next(made for made in graph.graph.node if made.op_type == "Gemm"), module="classifier.6")
    model = save(graph, tmp_path / "model.onnx")
    with monkeypatch.context() as patch:
        patch.setattr("lrp_edge.export.passes.turing.without_gemm", lambda proto: proto)
        with pytest.raises(LrpEdgeError, match=r"for sm75 \(node of module classifier\.6\): .*FP32 GEMM"):
            to_engine(model, gpus=["sm75"], **SHAPES)
    assert to_engine(model, gpus=["sm75"], **SHAPES).is_file()


def test_too_little_memory_says_what_to_do(model: Path) -> None:
    with pytest.raises(
        LrpEdgeError, match=r"too little memory .* 4 frames of 64x96 within --workspace 1; try a larger"
    ):
        to_engine(model, workspace_mb=1, **SHAPES)
    assert left(model) == []


def builds_of(monkeypatch: pytest.MonkeyPatch, refuse: int, reason: str = "") -> list[str]:
    """Let the first builds be refused; return the list that gets each tried graph's operators before its branch."""
    tried, run, attempt = [], build._run, build._attempt

    def attempted(form: build.Request, logger: object, *rest: object) -> tuple:
        tried.append(" ".join(node.op_type for node in form.proto.graph.node))
        if len(tried) <= refuse and reason:
            logger.log(logger.Severity.ERROR, reason)
        return attempt(form, logger, *rest)

    monkeypatch.setattr(build, "_attempt", attempted)
    monkeypatch.setattr(build, "_run", lambda *given: run(*given) if len(tried) > refuse else None)
    return tried


def gated(folder: Path) -> Path:
    return to_onnx(tiny(), folder, card=CARD.replace(gate=True, precision="fp16"))


def test_a_gated_graph_that_is_refused_is_tried_with_its_casts_before_the_branch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = builds_of(monkeypatch, refuse=1)
    assert to_engine(gated(tmp_path)).is_file()
    assert len(tried) == 2
    assert tried[1].count("Cast") > tried[0].count("Cast")


def test_what_lacks_memory_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = builds_of(monkeypatch, refuse=9, reason="std::bad_alloc")
    with pytest.raises(LrpEdgeError, match="too little memory"):
        to_engine(gated(tmp_path))
    assert len(tried) == 1


@pytest.mark.parametrize(
    "text",
    [
        "Unexpected exception std::bad_alloc",
        "Error Code 2: OutOfMemory (Requested size was 127116939 bytes.)",
        "no tactics to implement the operation within workspace limit.",
        "Compiling this graph requires workspace memory greater than 0.",
    ],
)
def test_how_the_builder_speaks_of_memory(text: str) -> None:
    assert build._NO_MEMORY.search(text)


def test_graphs_that_are_not_the_contract_s(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    save(contract_graph(ANY_SIZE, mask_type=TensorProto.FLOAT), path)
    with pytest.raises(LrpEdgeError, match=r"'mask' is an output of type float with 3 axes, expected .* type uint8"):
        to_engine(path)
    graph = contract_graph(ANY_SIZE)
    del graph.graph.output[3]
    with pytest.raises(LrpEdgeError, match="'relevance' is neither input nor output, expected an output"):
        to_engine(save(graph, path))
    graph = contract_graph(small_card((32, 32)))
    onnx.helper.set_model_props(graph, {"lrp_edge": FIXED.to_json()})
    with pytest.raises(LrpEdgeError, match=r"shape \[-1, 32, 32, 3\], but its card says \[-1, 48, 64, 3\]"):
        to_engine(save(graph, path))


def test_files_that_are_no_exports(model: Path) -> None:
    data = model.read_bytes()
    model.write_bytes(data[: len(data) // 2])
    with pytest.raises(LrpEdgeError, match="not an ONNX file"):
        to_engine(model)
    with pytest.raises(LrpEdgeError, match="no model at"):
        to_engine(model.with_name("missing.onnx"))
    graph = contract_graph(ANY_SIZE)
    graph.ClearField("metadata_props")
    with pytest.raises(LrpEdgeError, match="no model card"):
        to_engine(save(graph, model))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gpus": ["sm98"]}, r"no GPU 'sm98'; did you mean sm89\? expected some of sm75"),
        ({"gpus": []}, "no GPU to build for"),
        ({"product": "rtxx"}, r"no product 'rtxx'; did you mean rtx\?"),
        ({"workspace_mb": 0}, "expected 1 or more"),
        ({"optimization_level": 6}, "expected 0 to 5"),
        ({"version_compatible": True}, "leave out --version-compatible"),
        ({"hardware_compatible": "ampere_plus"}, "leave out --hardware-compatible"),
    ],
)
def test_what_the_product_does_not_know(options: dict, message: str, model: Path) -> None:
    with pytest.raises(LrpEdgeError, match=message):
        to_engine(model, **options)
    assert left(model) == []


class FakeDriver:
    """Answers as CUDA's driver does on a Jetson Orin."""

    cuInit = staticmethod(lambda flags: 0)  # noqa: N815
    cuDeviceGet = staticmethod(lambda device, index: 0)  # noqa: N815

    @staticmethod
    def cuDeviceGetAttribute(value: object, attribute: int, device: object) -> int:  # noqa: N802
        value._obj.value = {75: 8, 76: 7}[attribute]  # type: ignore[attr-defined]
        return 0

    @staticmethod
    def cuDeviceGetName(name: ctypes.Array, length: int, device: object) -> int:  # noqa: N802
        name.value = b"Orin"
        return 0


@pytest.fixture
def tensorrt(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """TensorRT-RTX in the place of TensorRT, which has the same API but builds nothing without a GPU."""
    stand_in = types.SimpleNamespace(**{**vars(trt), "__version__": "10.3.0"})
    monkeypatch.setitem(sys.modules, "tensorrt", stand_in)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: FakeDriver)
    return stand_in


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("version", ["10.3.0", "11.4.0.106"])
def test_tensorrt_builds_for_the_gpu_that_is_there(
    version: str, tensorrt: types.SimpleNamespace, model: Path, cache: Path
) -> None:
    tensorrt.__version__ = version
    if version > "11":
        del tensorrt.NetworkDefinitionCreationFlag
    engine = to_engine(model, product="tensorrt", hardware_compatible="ampere_plus", **SHAPES)
    assert engine.name == f"line 3.tensorrt-{version}.sm87.fp32.engine"
    assert card_of(engine).engine["device"] == "Orin"
    assert card_of(engine).engine["options"][-2:] == ["--hardware-compatible", "ampere_plus"]
    (timings,) = (cache / "timings").iterdir()
    assert timings.name == f"tensorrt-{version}.sm87.Orin.cache"
    to_engine(model, product="tensorrt", **SHAPES)


def test_tensorrt_where_it_cannot_build(
    tensorrt: types.SimpleNamespace, monkeypatch: pytest.MonkeyPatch, model: Path
) -> None:
    with pytest.raises(LrpEdgeError, match="leave out sm86"):
        to_engine(model, product="tensorrt", gpus=["sm86"])
    with pytest.raises(LrpEdgeError, match=r"'ampere'; did you mean ampere_plus\? TensorRT 10\.3\.0 knows ampere_plus"):
        to_engine(model, product="tensorrt", hardware_compatible="ampere")
    monkeypatch.setattr(tensorrt, "Builder", lambda logger: int("no GPU", base=[]))
    with pytest.raises(LrpEdgeError, match="run this command on the device"):
        to_engine(model, product="tensorrt")
    monkeypatch.setattr(FakeDriver, "cuInit", lambda flags: 100)
    with pytest.raises(LrpEdgeError, match=r"there is none here \(CUDA error 100\): run this command on the device"):
        to_engine(model, product="tensorrt")
    tensorrt.__version__ = "8.6.1"
    with pytest.raises(LrpEdgeError, match=r"TensorRT 8\.6\.1 is too old; expected 10\.3 or newer"):
        to_engine(model, product="tensorrt")


def test_without_a_driver_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target, "_CUDA", "libcuda-that-is-not-there.so")
    with pytest.raises(LrpEdgeError, match="no CUDA driver"):
        target.present_gpu()


def test_what_is_not_installed_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    for product, module in (("rtx", "tensorrt_rtx"), ("tensorrt", "tensorrt")):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(LrpEdgeError, match=rf"this needs {module}.*pip install 'lrp-edge\[{product}\]'"):
            to_engine(model, product=product)


def test_what_earlier_builds_measured_is_used_if_it_fits() -> None:
    calls: list[object] = []

    class Config:
        def create_timing_cache(self, data: bytes) -> bytes:
            return data

        def set_timing_cache(self, timing: bytes, ignore_mismatch: bool) -> bool:
            calls.append((timing, ignore_mismatch))
            return timing != b"of another driver"

    assert build._use_timing(Config(), b"fits") == b"fits"
    assert build._use_timing(Config(), b"of another driver") == b""
    assert build._use_timing(Config(), None) is None
    assert calls == [(b"fits", False), (b"of another driver", False), (b"", False)]


def test_rebuilt_from_the_card_s_words(model: Path) -> None:
    """The words behind the product in a card are those that the command line takes."""
    from typer.testing import CliRunner

    from lrp_edge.cli import app

    facts = card_of(to_engine(model, gpus=["sm86"], workspace_mb=300, **SHAPES)).engine
    command = ["compile", str(model), "--for", f"{facts['product']}:{','.join(facts['gpus'])}", *facts["options"]]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "taken from the cache" in done.output
    assert json.loads(next(model.parent.glob("*.json")).read_text())["engine"] == facts
