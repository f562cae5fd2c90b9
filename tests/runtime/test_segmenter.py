from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lrp_edge.card import METADATA_KEY, ModelCard
from lrp_edge.errors import LrpEdgeError
from lrp_edge.runtime import Segmentation, Segmenter
from tests.support.card_mutants import card_mutants
from tests.support.runtime_graphs import (
    brightness_card,
    brightness_graph,
    expected,
    misfits,
    mislabelling_graph,
)

frames_of_any_size = arrays(
    np.uint8, st.tuples(st.integers(1, 24), st.integers(1, 24), st.just(3)), elements=st.integers(0, 255)
)


@pytest.fixture(scope="module")
def segmenter(model: Path) -> Segmenter:
    return Segmenter(model, provider="cpu", threads=1)


def assert_as_expected(found: Segmentation, frame: np.ndarray) -> None:
    scores, label, mask, relevance = expected(frame)
    np.testing.assert_allclose(found.scores, scores, atol=1e-5)
    np.testing.assert_allclose(found.relevance, relevance, rtol=1e-5)
    assert (found.label, found.name, found.defect) == (label, ("ok", "stain")[label], label == 1)
    sure = np.abs(relevance - 160) > 1e-3
    np.testing.assert_array_equal(found.mask[sure], mask[sure])
    assert (found.mask.dtype, found.relevance.dtype, found.scores.dtype) == (np.uint8, np.float32, np.float32)
    assert found.mask.shape == found.relevance.shape == frame.shape[:2]
    assert found.milliseconds > 0


@settings(max_examples=40, deadline=None)
@given(frame=frames_of_any_size.filter(lambda f: abs(f.mean() - 80) > 1e-2))
def test_single_frame_is_what_numpy_says(segmenter: Segmenter, frame: np.ndarray) -> None:
    assert_as_expected(segmenter(frame), frame)


@pytest.mark.parametrize("count", [1, 3, 7])
@pytest.mark.parametrize("kind", [list, np.stack])
def test_batch_beyond_max_batch_keeps_order(segmenter: Segmenter, count: int, kind: Callable) -> None:
    frames = [np.full((5, 6, 3), 30 * i, np.uint8) for i in range(count)]
    results = segmenter.batch(kind(frames))
    assert len(results) == count
    for found, frame in zip(results, frames, strict=True):
        assert_as_expected(found, frame)


def test_empty_batch_is_empty(segmenter: Segmenter) -> None:
    assert segmenter.batch([]) == []


def test_views_and_read_only_frames_are_taken(segmenter: Segmenter) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (8, 10, 3), dtype=np.uint8)
    view = frame[::2, ::-1]
    view.flags.writeable = False
    assert_as_expected(segmenter(view), view)


def test_same_frame_same_bytes(segmenter: Segmenter) -> None:
    frame = np.random.default_rng(1).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    first, second = segmenter(frame), segmenter(frame.copy())
    assert first.relevance.tobytes() == second.relevance.tobytes()


def test_gray_model_takes_two_and_three_axes(write_model: Callable[..., Path]) -> None:
    segmenter = Segmenter(write_model("GRAY"))
    frame = np.arange(48, dtype=np.uint8).reshape(6, 8)
    assert_as_expected(segmenter(frame), frame[..., None])
    assert_as_expected(segmenter(frame[..., None]), frame[..., None])


FRAME = np.zeros((4, 5, 3), np.uint8)


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (FRAME.astype(np.float32), "float32.*uint8"),
        (np.full((4, 5, 3), np.nan, np.float32), "float32.*NaN.*uint8"),
        (FRAME.astype(np.uint16), "uint16.*uint8"),
        (FRAME.tolist(), "list.*array"),
        (None, "NoneType.*array"),
        (FRAME[..., 0], r"\[4, 5\].*3"),
        (FRAME[None], r"\[1, 4, 5, 3\].*3"),
        (FRAME[..., :2], r"\[4, 5, 2\].*3"),
        (np.zeros((4, 5, 4), np.uint8), r"\[4, 5, 4\].*3"),
        (np.zeros((0, 5, 3), np.uint8), r"\[0, 5, 3\]"),
    ],
)
def test_wrong_frame_is_named(segmenter: Segmenter, frame: object, said: str) -> None:
    with pytest.raises(LrpEdgeError, match=said) as error:
        segmenter(frame)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)
    if isinstance(frame, np.ndarray):
        with pytest.raises(LrpEdgeError):
            segmenter.batch([FRAME, frame])


def test_wrong_size_for_a_fixed_model(write_model: Callable[..., Path]) -> None:
    segmenter = Segmenter(write_model(size=(4, 6)))
    assert segmenter(np.zeros((4, 6, 3), np.uint8)).name == "ok"
    with pytest.raises(LrpEdgeError, match=r"4x5.*4x6"):
        segmenter(FRAME)


def test_sizes_of_a_batch_must_agree(segmenter: Segmenter) -> None:
    with pytest.raises(LrpEdgeError, match="size"):
        segmenter.batch([FRAME, np.zeros((4, 6, 3), np.uint8)])


def broken_files(folder: Path) -> dict[str, Path]:
    good = brightness_graph(brightness_card(), 3, None)
    plain = brightness_graph(None, 3, None)
    other = brightness_graph(brightness_card(), 3, None)
    other.graph.output[1].name = other.graph.node[8].output[0] = "klass"
    foreign = brightness_graph(None, 3, None)
    onnx.helper.set_model_props(foreign, {"lrp_edge": '{"schema": 99}'})
    paths = {name: folder / f"{name}.onnx" for name in ("cut", "text", "empty", "plain", "other", "foreign")}
    paths["cut"].write_bytes(good.SerializeToString()[:200])
    paths["text"].write_text("no model")
    paths["empty"].touch()
    for name, graph in (("plain", plain), ("other", other), ("foreign", foreign)):
        onnx.save(graph, paths[name])
    return {**paths, "missing": folder / "missing.onnx", "folder": folder}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("cut", "ONNX"),
        ("text", "ONNX"),
        ("empty", "ONNX"),
        ("missing", "no model"),
        ("folder", "no model"),
        ("plain", "no model card"),
        ("other", "label"),
        ("foreign", "schema 99"),
    ],
)
def test_file_that_is_no_model_of_ours(tmp_path: Path, name: str, said: str) -> None:
    path = broken_files(tmp_path)[name]
    with pytest.raises(LrpEdgeError, match=said) as error:
        Segmenter(path)
    assert re.match(re.escape(str(path)) + "|no model at", str(error.value))
    assert "\n" not in str(error.value)


def test_provider_that_is_unknown_or_not_there(model: Path) -> None:
    import onnxruntime

    with pytest.raises(LrpEdgeError, match=r"'npu'.*cuda, cpu"):
        Segmenter(model, provider="npu")
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        with pytest.raises(LrpEdgeError, match=r"lrp-edge\[gpu\]"):
            Segmenter(model, provider="cuda")


def test_provider_that_does_not_start_is_not_claimed(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime lists CUDA where its wheel has it, and falls back to the CPU where no GPU answers."""
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime may have a working CUDA")
    listed = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: listed)
    with pytest.warns(UserWarning, match="CUDAExecutionProvider"):
        assert Segmenter(model).provider == "cpu"
    with (
        pytest.warns(UserWarning, match="CUDAExecutionProvider"),
        pytest.raises(LrpEdgeError, match=r"cuda.*cpu"),
    ):
        Segmenter(model, provider="cuda")


@pytest.mark.parametrize("provider", ["cpu", "openvino"])
@pytest.mark.parametrize("name", misfits())
def test_a_card_of_another_graph_is_refused_before_any_frame(tmp_path: Path, name: str, provider: str) -> None:
    if provider == "openvino":
        pytest.importorskip("openvino", reason="OpenVINO is not installed")
    path = tmp_path / "model.onnx"
    graph, said = misfits()[name]
    onnx.save(graph, path)
    with pytest.raises(LrpEdgeError, match=re.escape(said)):
        Segmenter(path, provider=provider)


@pytest.mark.parametrize("more", [-1, 2, -(2**31)])
def test_a_label_of_no_class_is_an_error(tmp_path: Path, more: int) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(mislabelling_graph(brightness_card(), more), path)
    with (
        Segmenter(path, provider="cpu") as segmenter,
        pytest.raises(LrpEdgeError, match=rf"gave label {more}; its card has 2 classes"),
    ):
        segmenter(np.zeros((4, 5, 3), np.uint8))


def test_an_altered_card_is_refused_or_its_file_runs(tmp_path: Path) -> None:
    path, frame, ran = tmp_path / "model.onnx", np.full((4, 5, 3), 200, np.uint8), 0
    graph = brightness_graph(None, 3, None)
    for text in card_mutants(600, seed=7):
        onnx.helper.set_model_props(graph, {METADATA_KEY: text})
        path.write_bytes(graph.SerializeToString())
        with suppress(LrpEdgeError), Segmenter(path, provider="cpu", threads=1) as segmenter:
            card, found = segmenter.card, segmenter(frame)
            assert found.defect == (found.name in card.defects)
            assert {card.classes[index] for index in card.defect_indices + card.ok_indices} == set(card.classes)
            assert ModelCard.from_json(card.to_json()) == card
            ran += 1
    assert ran > 50
