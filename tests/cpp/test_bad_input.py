"""What is wrong is said in Python's words, through C++ and through C, and the segmenter can be used on."""

from __future__ import annotations

import ctypes
import dataclasses
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from lrp_edge.card import DecisionSpec, InputSpec, MaskSpec, ModelCard
from lrp_edge.errors import LrpEdgeError
from lrp_edge.export.tensorrt.profile import profile_for
from lrp_edge.runtime import Segmenter
from lrp_edge.runtime.engines import onnx_runtime
from tests.support import cpp_build, cpp_ctypes
from tests.support.cpp_ctypes import Frame, Handle
from tests.support.damaged import bytes_changed, hostile
from tests.support.runtime_graphs import (
    brightness_card,
    brightness_graph,
    failing_graph,
    misfits,
    mislabelling_graph,
)


def said_by_python(call: Callable[[], object]) -> str:
    with pytest.raises(LrpEdgeError) as error:
        call()
    return str(error.value)


def said_by_cpp(folder: Path, model: Path | str, provider: str = "cpu", calls: str = "", threads: int = 1) -> list[str]:
    """Return the lines after the first one, if the model was opened, else the error alone."""
    words = [str(folder / "tests/lrp_edge_errors"), str(model), provider, str(threads)]
    # ONNX Runtime repeats a damaged file's names as they are.
    done = subprocess.run(words, input=calls, capture_output=True, text=True, errors="replace", timeout=60)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    return lines[1:] if lines[0].startswith("provider ") else lines


def said_by_c(library: ctypes.CDLL, model: Path | str, provider: str = "cpu", threads: int = 1) -> str:
    with Handle(library, model, provider, threads) as handle:
        assert (handle.status, handle.pointer.value) == (cpp_ctypes.ERROR, None)
        return handle.error


def renamed(graph: onnx.ModelProto) -> onnx.ModelProto:
    graph.graph.output[1].name = graph.graph.node[8].output[0] = "klass"
    return graph


def of_doubles(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Make the mask one of float64."""
    for initializer in graph.graph.initializer:
        if initializer.name in ("full", "zero"):
            wide = onnx.numpy_helper.to_array(initializer).astype(np.float64)
            initializer.CopyFrom(onnx.numpy_helper.from_array(wide, initializer.name))
    graph.graph.output[2].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    return graph


def good() -> onnx.ModelProto:
    return brightness_graph(brightness_card(), 3, None)


BROKEN = {
    "cut": lambda: good().SerializeToString()[:200],
    "text": lambda: b"no model",
    "empty": lambda: b"",
    "plain": lambda: brightness_graph(None, 3, None).SerializeToString(),
    "renamed": lambda: renamed(good()).SerializeToString(),
    "of-doubles": lambda: of_doubles(good()).SerializeToString(),
}


@pytest.mark.parametrize("name", BROKEN)
def test_file_that_is_no_model_of_ours(release: Path, library: ctypes.CDLL, tmp_path: Path, name: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(BROKEN[name]())
    expected = said_by_python(lambda: Segmenter(path, provider="cpu", threads=1))
    assert said_by_cpp(release, path) == [expected]
    assert said_by_c(library, path) == expected


@pytest.mark.parametrize("path", ["missing.onnx", "./a//b/./missing.onnx", "../ä/missing.onnx", ".", "", "/usr//lib/"])
def test_file_that_is_not_there(release: Path, library: ctypes.CDLL, path: str) -> None:
    expected = said_by_python(lambda: Segmenter(path, provider="cpu"))
    assert expected.startswith("no model at ")
    assert said_by_cpp(release, path) == [expected]
    assert said_by_c(library, path) == expected


@pytest.mark.parametrize("provider", ["npu", "CPU", "it's", "a\nb", *onnx_runtime.PROVIDERS])
def test_provider_that_is_unknown_or_not_there(release: Path, library: ctypes.CDLL, model: Path, provider: str) -> None:
    if provider in onnx_runtime.PROVIDERS and onnx_runtime.installed(provider):
        assert said_by_cpp(release, model, provider, "4 5 3 0\n") == ["labels 0"]
        return
    expected = said_by_python(lambda: onnx_runtime._choose(provider))
    assert said_by_cpp(release, model, provider) == [expected]
    assert said_by_c(library, model, provider) == expected


def test_threads_below_zero(release: Path, library: ctypes.CDLL, model: Path) -> None:
    expected = "threads is -1; expected 1 or more, or 0 for as many as there are cores"
    assert said_by_cpp(release, model, threads=-1) == [expected]
    assert said_by_c(library, model, threads=-1) == expected


def changed(**changes: object) -> str:
    return json.dumps({**dataclasses.asdict(brightness_card()), **changes})


def without(name: str) -> str:
    return json.dumps({key: value for key, value in dataclasses.asdict(brightness_card()).items() if key != name})


def with_mask(**changes: object) -> str:
    return changed(mask={**dataclasses.asdict(brightness_card().mask), **changes})


def with_input(**changes: object) -> str:
    return changed(input={**dataclasses.asdict(brightness_card().input), **changes})


CARDS = {
    "newer": changed(schema=2),
    "text-schema": changed(schema="1"),
    "no-schema": without("schema"),
    "deep": f'{{"schema": {"[" * 100_000}{"]" * 100_000}}}',
    "area-class": with_mask(area_classes=["ok"]),
    "area-classes": with_mask(area_classes="stain"),
    "stride": changed(relevance_stride=0),
    "stride-text": changed(relevance_stride="4"),
    "list": "[1, 2]",
    "text": '"card"',
    "number": "1.5",
    "null": "null",
    "same-classes": changed(classes=["ok", "ok"]),
    "one-class": changed(classes=["it's"], defects=[]),
    "other-defect": changed(defects=["stain", 'a "b"']),
    "other-explained": changed(explained="all"),
    "other-activation": changed(activation="tanh"),
    "other-precision": changed(precision="fp8"),
    "other-order": with_input(order="BRG"),
    "other-network-order": with_input(network_order="YUV\n"),
    "few-means": with_input(mean=[0.5]),
    "gray-network": with_input(network_order="GRAY"),
    "no-batch": with_input(max_batch=0),
    "negative-batch": with_input(max_batch=-4),
    "threshold-of-1": changed(decision={"threshold": 1}),
    "threshold-below-0": changed(decision={"threshold": -0.25}),
    "threshold-without-ok": changed(defects=["ok", "stain"], decision={"threshold": 0.5}),
    "threshold-without-defect": changed(defects=[], decision={"threshold": 0.5}),
}


def path_with_card(folder: Path, card: str) -> Path:
    graph = brightness_graph(None, 3, None)
    onnx.helper.set_model_props(graph, {"lrp_edge": card})
    onnx.save(graph, folder / "model.onnx")
    return folder / "model.onnx"


@pytest.mark.parametrize("name", CARDS)
def test_card_that_is_none(release: Path, library: ctypes.CDLL, tmp_path: Path, name: str) -> None:
    path = path_with_card(tmp_path, CARDS[name])
    expected = said_by_python(lambda: Segmenter(path, provider="cpu"))
    assert said_by_cpp(release, path) == [expected]
    assert said_by_c(library, path) == expected


MISFITS = {
    "unknown": changed(colour="red"),
    "unknown-input": with_input(colour="red"),
    "unknown-mask": changed(mask={"colour": "red"}),
    "unknown-decision": changed(decision={"colour": "red"}),
    "number-decision": changed(decision=0.5),
    "text-threshold": changed(decision={"threshold": "low"}),
    "text-promise": changed(decision={"promised": "2 %"}),
    "fraction-of-images": changed(decision={"images": 0.5}),
    "no-classes": without("classes"),
    "no-defects": without("defects"),
    "no-input": without("input"),
    "no-mask": without("mask"),
    "mask-list": changed(mask=[1]),
    "no-object": changed(input=None),
    "number-of-classes": changed(classes=2),
    "classes-of-numbers": changed(classes=[1, 2]),
    "number-of-order": with_input(order=5),
    "text-of-means": with_input(mean="0.5"),
    "means-of-texts": with_input(mean=["0.5"]),
    "mean-of-truth": with_input(mean=[True]),
    "no-size": with_input(size=[0, 5]),
    "one-size": with_input(size=[5]),
    "size-of-halves": with_input(size=[0.5, 0.5]),
    "half-a-batch": with_input(max_batch=1.5),
    "text-of-switch": with_input(standardise="yes"),
    "gate-of-number": changed(gate=1),
    "parameters-of-texts": changed(mask={"parameters": {"q": "0.5"}}),
    "close-of-truth": changed(mask={"close": True}),
}
NO_JSON = {"cut-short": changed()[:-20], "nothing": ""}


def outside_of_brackets(text: str) -> str:
    return re.sub(r" \(.*\);", " (…);", text)


@pytest.mark.parametrize("name", MISFITS)
def test_card_with_a_field_that_does_not_fit(release: Path, library: ctypes.CDLL, tmp_path: Path, name: str) -> None:
    path = path_with_card(tmp_path, MISFITS[name])
    expected = said_by_python(lambda: Segmenter(path, provider="cpu"))
    assert "does not fit its schema" in expected
    assert said_by_cpp(release, path) == [expected]
    assert said_by_c(library, path) == expected


@pytest.mark.parametrize("name", NO_JSON)
def test_card_that_the_reader_words_in_its_own_way(
    release: Path, library: ctypes.CDLL, tmp_path: Path, name: str
) -> None:
    """What stands in brackets is the JSON reader's own."""
    path = path_with_card(tmp_path, NO_JSON[name])
    expected = said_by_python(lambda: Segmenter(path, provider="cpu"))
    (found,) = said_by_cpp(release, path)
    assert outside_of_brackets(found) == outside_of_brackets(expected)
    assert said_by_c(library, path) == found


def test_every_field_of_python_s_card_is_known(release: Path, tmp_path: Path) -> None:
    filled = ModelCard(
        ("ok", "stain"),
        ("stain",),
        InputSpec("BGR", (0.1, 0.2, 0.3), (1.0, 2.0, 3.0), (4, 6), (8, 12), "RGB", 3, True),
        decision=DecisionSpec(0.25, 60, 0.05, 0.1, 0.033333, "2025-11-13T02:13:20+00:00", "by hand"),
        mask=MaskSpec("fixed", {"threshold": 0.5}, "box:3", 2, 1, ("stain",), "by hand"),
        relevance_stride=4,
        parity={"worst": float("nan"), "least": float("-inf")},
        provenance={"nested": [{"text": 'with "NaN" and \\'}, float("inf")]},
    )
    path = path_with_card(tmp_path, filled.to_json())
    assert said_by_cpp(release, path, calls="4 6 3 0\n4 5 3 0\n") == [
        "labels 0",
        "frame is 4x5; this model takes 4x6: resize the frame, or export with --size dynamic",
    ]


def test_card_beside_the_file(release: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(brightness_graph(None, 3, None), path)
    path.with_suffix(".json").write_text(brightness_card().to_json())
    assert said_by_cpp(release, path, calls="4 5 3 0\n") == ["labels 0"]
    path.with_suffix(".json").write_text(changed(schema=2))
    (found,) = said_by_cpp(release, path)
    assert found == said_by_python(lambda: ModelCard.from_json(changed(schema=2), str(path.with_suffix(".json"))))


def zeros(*shapes: tuple[int, int, int]) -> list[np.ndarray]:
    return [np.zeros(shape, np.uint8) for shape in shapes]


#: Frames that NumPy can describe too.
SHAPES = {
    "two-channels": [(4, 5, 2)],
    "four-channels": [(4, 5, 4)],
    "no-channels": [(4, 5, 0)],
    "no-height": [(0, 5, 3)],
    "no-width": [(4, 0, 3)],
    "second-of-batch": [(4, 5, 3), (4, 5, 1)],
    "two-sizes": [(4, 5, 3), (4, 6, 3)],
    "three-sizes": [(9, 5, 3), (4, 6, 3), (4, 5, 3)],
}
MOST = 2**63 - 1
#: Frames that it cannot, and what is to be said.
MEMORY = {
    "4 5 3 -15": "frame [4, 5, 3] has a stride of -15 bytes; expected 15 or more, or 0 if the rows are adjacent",
    "4 5 3 14": "frame [4, 5, 3] has a stride of 14 bytes; expected 15 or more, or 0 if the rows are adjacent",
    f"4 5 3 {MOST}": f"frame [4, 5, 3] has a stride of {MOST} bytes and reaches beyond the memory's end; expected its "
    "own height, width and stride",
    f"4 5 3 {-MOST - 1}": f"frame [4, 5, 3] has a stride of {-MOST - 1} bytes; expected 15 or more, or 0 if the rows "
    "are adjacent",
    f"{2**40} {2**40} 3 0": f"frame [{2**40}, {2**40}, 3] has a stride of 0 bytes and reaches beyond the memory's end; "
    "expected its own height, width and stride",
    f"4 {MOST} 3 0": f"frame [4, {MOST}, 3] has a stride of 0 bytes and reaches beyond the memory's end; expected its "
    "own height, width and stride",
    "4 5 3 none": "frame [4, 5, 3] has no data; expected a pointer to its first byte",
}


def all_cases(model: Path) -> list[tuple[str, str]]:
    """Return calls and what must be said of them."""
    with Segmenter(model, provider="cpu", threads=1) as segmenter:
        most = segmenter.card.input.max_batch
        cases = [
            (
                " ".join(f"{height} {width} {channels} 0" for height, width, channels in shapes),
                said_by_python(lambda shapes=shapes: segmenter.batch(zeros(*shapes))),  # type: ignore[misc]
            )
            for shapes in SHAPES.values()
        ]
        too_many = said_by_python(lambda: profile_for(segmenter.card.input, batch=(1, 1, most + 1)))
    return [*cases, *MEMORY.items(), (" ".join(["4 5 3 0"] * (most + 1)), too_many)]


def test_frames_through_cpp(release: Path, model: Path) -> None:
    cases = all_cases(model)
    found = said_by_cpp(release, model, calls="".join(f"{call}\n4 5 3 0 4 5 3 16\n" for call, _ in cases))
    for (call, expected), said, after in zip(cases, found[::2], found[1::2], strict=True):
        assert (call, said, after) == (call, expected, "labels 0 0")


def test_frames_through_c(library: ctypes.CDLL, model: Path) -> None:
    memory = np.zeros(1 << 16, np.uint8)
    fine = [cpp_ctypes.frame_of(memory[:60].reshape(4, 5, 3))]
    with Handle(library, model) as handle:
        for call, expected in all_cases(model):
            words = iter(call.split())
            frames = []
            for height, width, channels, stride in zip(words, words, words, words, strict=True):
                data, step = (None, 0) if stride == "none" else (memory.ctypes.data, int(stride))
                frames.append(Frame(ctypes.sizeof(Frame), data, int(height), int(width), int(channels), step))
            assert (handle.run(frames)[0], handle.error) == (cpp_ctypes.ERROR, expected)
            status, results = handle.run(fine)
            assert (status, results[0].label, results[0].name) == (cpp_ctypes.OK, 0, b"ok")


def test_frame_of_another_size_than_the_model_s(release: Path, write_model: Callable[..., Path]) -> None:
    path = write_model(size=(4, 6))
    expected = said_by_python(lambda: Segmenter(path)(np.zeros((4, 5, 3), np.uint8)))
    assert said_by_cpp(release, path, calls="4 5 3 0\n4 6 3 0\n") == [expected, "labels 0"]


def test_no_frames_are_no_error(release: Path, model: Path) -> None:
    assert said_by_cpp(release, model, calls="\n") == ["labels"]


def test_engine_that_fails_on_frames(release: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(failing_graph(brightness_card("GRAY")), path)
    expected = said_by_python(lambda: Segmenter(path, provider="cpu")(np.zeros((4, 5, 1), np.uint8)))
    assert "failed on frames [1, 4, 5, 1]" in expected
    assert said_by_cpp(release, path, calls="4 5 1 0\n") == [expected]


@pytest.mark.parametrize("name", misfits())
def test_card_of_another_graph(release: Path, library: ctypes.CDLL, tmp_path: Path, name: str) -> None:
    path = tmp_path / "model.onnx"
    graph, said = misfits()[name]
    onnx.save(graph, path)
    expected = said_by_python(lambda: Segmenter(path, provider="cpu"))
    assert expected == f"{path}: {said}"
    assert said_by_cpp(release, path) == [expected]
    assert said_by_c(library, path) == expected


@pytest.mark.parametrize("more", [-1, 2, 2**31 - 1])
def test_label_of_no_class(release: Path, tmp_path: Path, more: int) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(mislabelling_graph(brightness_card(), more), path)
    expected = said_by_python(lambda: Segmenter(path, provider="cpu")(np.zeros((4, 5, 3), np.uint8)))
    assert expected == f"{path} gave label {more}; its card has 2 classes: export again"
    assert said_by_cpp(release, path, calls="4 5 3 0\n") == [expected]


def test_file_that_is_made_to_harm(release: Path, library: ctypes.CDLL, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    path = tmp_path / "models" / "model.onnx"
    for what, data in hostile(tmp_path / "models").items():
        if "not UTF-8" in what:
            continue
        path.write_bytes(data)
        expected = said_by_python(lambda: Segmenter(path, provider="cpu", threads=1))
        assert said_by_cpp(release, path) == [expected], what
        assert said_by_c(library, path) == expected, what


def test_changed_bytes(release: Path, tmp_path: Path) -> None:
    """Each file is refused by both or by neither."""
    path = tmp_path / "model.onnx"
    for data in bytes_changed(good().SerializeToString(), 40, seed=3):
        path.write_bytes(data)
        try:
            with Segmenter(path, provider="cpu", threads=1) as segmenter:
                expected = f"labels {segmenter(np.zeros((4, 5, 3), np.uint8)).label}"
        except LrpEdgeError:
            expected = "refused"
        (found,) = said_by_cpp(release, path, calls="4 5 3 0\n")
        assert (found if found.startswith("labels") else "refused") == expected


def test_engine_file_without_tensorrt(release: Path, tmp_path: Path) -> None:
    assert said_by_cpp(release, tmp_path / "model.engine") == [f"no model at {tmp_path}/model.engine"]
    (tmp_path / "model.engine").write_bytes(b"engine")
    (found,) = said_by_cpp(release, tmp_path / "model.engine")
    assert "built without TensorRT" in found


def test_version_is_the_package_s(library: ctypes.CDLL) -> None:
    project = (cpp_build.ROOT / "pyproject.toml").read_text()
    assert f'version = "{library.lrp_edge_version().decode()}"' in project
