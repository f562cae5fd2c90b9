"""Files against what they were exported from: the figures against NumPy's own, and what is wrong is found."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from scipy.stats import spearmanr

from lrp_edge.card import METADATA_KEY, DecisionSpec, InputSpec, ModelCard
from lrp_edge.checkpoint import save_checkpoint
from lrp_edge.classifiers import FAMILIES
from lrp_edge.errors import LrpEdgeError
from lrp_edge.export import to_onnx
from lrp_edge.export.read import load_proto
from lrp_edge.export.verify import run, verify
from lrp_edge.export.verify.frames import Picture
from lrp_edge.export.verify.parity import PROMISED, SOUND
from lrp_edge.export.verify.references import EngineSession
from lrp_edge.export.verify.shapes import batch_sizes, end_pictures
from tests.support.engine_graphs import why_it_cannot_run
from tests.support.exported import tiny
from tests.support.images import surface

CARD = ModelCard(
    ("ok", "dent"),
    ("dent",),
    InputSpec("GRAY", (0.5,), (0.2,), network_order="GRAY"),
    architecture={"family": "tiny", "channels": 1, "classes": 2},
)


@dataclass
class Line:
    """A checkpoint that decides half of six frames as defects, and its files next to it."""

    folder: Path
    checkpoint: Path
    frames: Path
    images: list[NDArray[np.uint8]]

    def file(self, name: str) -> Path:
        return self.folder / f"{name}.onnx"


def undecided(images: list[NDArray[np.uint8]]) -> torch.nn.Module:
    """Return a random classifier whose boundary lies amid the frames."""
    model = tiny(channels=1, classes=2)
    batch = torch.from_numpy(np.stack(images))[:, None] / 255
    with torch.no_grad():
        logits = model((batch - 0.5) / 0.2)
        model[-1].bias[1] -= (logits[:, 1] - logits[:, 0]).quantile(0.5)
    return model


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    """Train nothing, but have checkpoints of so small a CNN that it exports in seconds."""
    folder = tmp_path_factory.mktemp("line")
    images = [surface(index % 2 == 1, index) for index in range(6)]
    (folder / "frames").mkdir()
    for index, image in enumerate(images):
        cv2.imwrite(str(folder / "frames" / f"{index}.png"), image)
    checkpoint = save_checkpoint(folder / "m.safetensors", undecided(images), CARD)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(FAMILIES, "tiny", tiny)
        for name, changes in {"fp32": {}, "fp16": {"precision": "fp16"}, "gated": {"gate": True}}.items():
            to_onnx(checkpoint, folder, card=CARD.replace(**changes), name=name)
        yield Line(folder, checkpoint, folder / "frames", images)


def edit(source: Path, target: Path, change: Any, size: int = 100, **card: Any) -> Path:
    """Write a file with its large constants changed, and fields of its card."""
    proto = onnx.load(source)
    for tensor in proto.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.size > size and values.dtype == np.float32:
            tensor.CopyFrom(numpy_helper.from_array(change(values).astype(np.float32), tensor.name))
    if card:
        changed = load_proto(source)[1].replace(**card)
        onnx.helper.set_model_props(proto, {METADATA_KEY: changed.to_json()})
    onnx.save(proto, target)
    return target


def louder(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Change weights a little, each by a factor of its own."""
    return values * np.random.default_rng(0).uniform(0.9, 1.1, values.shape)


def answers(file: Path, images: list[NDArray[np.uint8]]) -> list[list[Any]]:
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return [[output[0] for output in session.run(None, {"image": image[None, ..., None]})] for image in images]


@pytest.mark.parametrize("backend", ["cpu", "openvino"])
def test_float32_is_what_pytorch_computes(line: Line, backend: str) -> None:
    if backend == "openvino":
        pytest.importorskip("openvino")
    found = verify([line.file("fp32")], frames=str(line.frames), backends=[backend])
    (result,) = found.results
    parity = result.parity
    assert (parity.frames, parity.masks, parity.label_agreement) == (6, 3, 1)
    assert parity.scores_max < 1e-5
    assert parity.relevance_l2 < 1e-4
    assert parity.relevance_rank > 0.9999
    assert parity.mask_iou_worst > 0.99
    assert (result.reference, result.precision) == ("PyTorch float64, m.safetensors", "fp32")
    assert result.tolerance == PROMISED["fp32"]
    assert (found.faults(), found.unavailable) == ([], [])


def test_figures_are_numpys_own(line: Line, tmp_path: Path) -> None:
    file = edit(line.file("fp32"), tmp_path / "other.onnx", louder)
    parity = verify([file], against=line.file("fp32"), frames=str(line.frames), backends=["cpu"]).results[0].parity
    pairs = list(zip(answers(file, line.images), answers(line.file("fp32"), line.images), strict=True))
    pixels = [[set(zip(*np.nonzero(mask), strict=True)) for mask in (one[2], other[2])] for one, other in pairs]
    ious = [len(one & other) / len(one | other) for one, other in pixels if one | other]
    assert parity.masks == len(ious) >= 3
    assert 0 < parity.mask_iou_mean < 0.999
    assert parity.mask_iou_mean == pytest.approx(np.mean(ious), abs=1e-12)
    assert parity.mask_iou_worst == pytest.approx(min(ious), abs=1e-12)
    assert parity.scores_max == pytest.approx(max(abs(a[0] - b[0]).max() for a, b in pairs), abs=1e-9)
    assert parity.scores_mean == pytest.approx(np.mean([abs(a[0] - b[0]) for a, b in pairs]), rel=1e-5)
    l2 = [np.sqrt(((a[3] - b[3]) ** 2).sum() / (b[3] ** 2).sum()) for a, b in pairs]
    assert parity.relevance_l2 == pytest.approx(max(l2), rel=1e-5)
    ranks = [spearmanr(a[3].ravel(), b[3].ravel()).statistic for a, b in pairs]
    assert parity.relevance_rank == pytest.approx(np.mean(ranks), abs=1e-6)
    assert parity.label_agreement == np.mean([a[1] == b[1] for a, b in pairs])


def test_changed_weights_are_found(line: Line, tmp_path: Path) -> None:
    file = edit(line.file("fp32"), tmp_path / "other.onnx", louder)
    found = verify([file], against=line.checkpoint, frames=str(line.frames), backends=["cpu"])
    (result,) = found.results
    said = f"relevance differs by {result.parity.relevance_l2:.3g} (at most 0.01 expected)"
    assert said in result.beyond
    assert f"{file} on cpu: {said}" in found.faults()


def test_half_precision_in_its_own_types_is_coarser(line: Line) -> None:
    found = verify([line.file("fp32"), line.file("fp16")], frames=str(line.frames))
    by_case = {(result.file.stem, result.backend): result.parity for result in found.results}
    assert ("fp32", "types") not in by_case
    half = by_case["fp16", "types"]
    assert 1e-5 < half.relevance_l2 < 0.1
    assert 1e-7 < half.scores_max < 2e-2
    assert half.relevance_l2 > 10 * by_case["fp32", "cpu"].relevance_l2
    assert any("types rounds as a GPU does" in note for note in found.notes)


def test_not_a_number_is_beyond_and_json_has_none(line: Line, tmp_path: Path) -> None:
    file = edit(line.file("fp32"), tmp_path / "nan.onnx", lambda values: values * np.nan)
    found = verify([file], against=line.checkpoint, frames=str(line.frames), backends=["cpu"], output=tmp_path)
    text = json.dumps(found.as_dict(), allow_nan=False)
    assert json.loads(text)["results"][0]["parity"]["scores_max"] is None
    assert "scores differ by nan" in " ".join(found.faults())
    assert (tmp_path / "nan.onnx.cpu.worst.png").is_file()


def test_behind_a_gate_ok_frames_need_no_relevance(line: Line) -> None:
    found = verify([line.file("gated")], frames=str(line.frames), backends=["cpu"])
    assert found.faults() == []
    silent = [not answer[3].any() for answer in answers(line.file("gated"), line.images)]
    assert sum(silent) == 3
    assert found.results[0].parity.relevance_l2 < 1e-4
    against_flat = verify([line.file("gated")], against=line.file("fp32"), frames=str(line.frames), backends=["cpu"])
    against_gated = verify([line.file("fp32")], against=line.file("gated"), frames=str(line.frames), backends=["cpu"])
    assert against_flat.faults() == against_gated.faults() == []


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_noise_is_judged_as_noise_and_said_to_be_none(line: Line, precision: str) -> None:
    found = verify([line.file(precision)], most=2)
    assert found.results[0].tolerance == SOUND[precision]
    assert (found.source, found.frames) == ("noise", 2)
    assert "proves nothing about real ones" in found.notes[0]


def test_frames_are_taken_evenly_and_no_other_is_read(line: Line, tmp_path: Path) -> None:
    for index, image in enumerate(line.images):
        cv2.imwrite(str(tmp_path / f"{index}.png"), image)
    for index in (1, 3, 5):
        (tmp_path / f"{index}.png").write_bytes(b"no picture")
    assert verify([line.file("fp32")], frames=str(tmp_path), most=3, backends=["cpu"]).frames == 3
    with pytest.raises(LrpEdgeError, match=r"1\.png"):
        verify([line.file("fp32")], frames=str(tmp_path), backends=["cpu"])


def test_tolerances_can_be_given(line: Line) -> None:
    found = verify([line.file("fp32")], frames=str(line.frames), backends=["cpu"], tolerance={"scores": 0.0})
    (result,) = found.results
    assert result.tolerance.iou == PROMISED["fp32"].iou
    assert [said.split(" by ")[0] for said in result.beyond] == ["scores differ", "batch 8: scores differ"]


def test_the_worst_frame_is_drawn(line: Line, tmp_path: Path) -> None:
    file = edit(line.file("fp32"), tmp_path / "other.onnx", louder)
    found = verify([file], against=line.checkpoint, frames=str(line.frames), backends=["cpu"], output=tmp_path / "out")
    (result,) = found.results
    assert result.picture == tmp_path / "out" / "other.onnx.cpu.worst.png"
    assert [path.name for path in (tmp_path / "out").iterdir()] == [result.picture.name]
    ious = []
    for one, other in zip(answers(file, line.images), answers(line.file("fp32"), line.images), strict=True):
        either = (one[2] | other[2]) > 0
        ious.append(((one[2] & other[2]) > 0).sum() / either.sum() if either.any() else 1.0)
    worst = int(np.argmin(ious))
    assert result.worst == str(line.frames / f"{worst}.png")
    frame = line.images[worst].repeat(4, 0).repeat(4, 1)
    drawn = cv2.imread(str(result.picture))
    height, width = frame.shape
    assert drawn.shape == (height + 3 * 28, 5 * width, 3)
    assert np.array_equal(drawn[56 : 56 + height, :width], frame[..., None].repeat(3, 2))
    panels = [drawn[56 : 56 + height, place * width : (place + 1) * width] for place in range(5)]
    assert not any(np.array_equal(panels[one], panels[other]) for one in range(5) for other in range(one))


def test_files_of_one_name_have_pictures_of_their_own(line: Line, tmp_path: Path) -> None:
    files = [tmp_path / name / "model.onnx" for name in ("a", "b")]
    for file in files:
        file.parent.mkdir()
        shutil.copy(line.file("fp32"), file)
    verify(files, against=line.checkpoint, most=1, backends=["cpu"], output=tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["1.model.onnx.cpu.worst.png", "2.model.onnx.cpu.worst.png"]


def test_the_reference_is_the_checkpoint_of_the_card_and_no_other(line: Line, tmp_path: Path) -> None:
    file = Path(shutil.copy(line.file("fp32"), tmp_path))
    with pytest.raises(LrpEdgeError, match=r"exported from m\.safetensors, which is neither next to it.*--against"):
        verify([file])
    save_checkpoint(tmp_path / "m.safetensors", tiny(seed=1, channels=1, classes=2), CARD)
    with pytest.raises(LrpEdgeError, match=r"is not the checkpoint that .* was exported from: its SHA-256"):
        verify([file])
    found = verify([file], against=tmp_path / "m.safetensors", most=2, backends=["cpu"])
    assert found.faults()
    assert any("was exported from m.safetensors" in note for note in found.notes)
    shutil.copy(line.checkpoint, tmp_path)
    assert verify([file], most=2, backends=["cpu"]).faults() == []


def test_a_file_of_a_factory_needs_against(line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = edit(line.file("fp32"), tmp_path / "m.onnx", np.asarray, provenance={"model": "mine:make"})
    with pytest.raises(
        LrpEdgeError, match=r"exported from mine:make, and a file cannot be verified against itself.*--against"
    ):
        verify([file])
    code = "from tests.support.exported import tiny\n\n\ndef make():\n    return tiny(channels=1, classes=2)\n"
    (tmp_path / "verified_factory.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    found = verify([file], against="verified_factory:make", weights=line.checkpoint, most=2, backends=["cpu"])
    assert found.faults() == []
    assert found.reference == "PyTorch float64, verified_factory:make m.safetensors"
    with pytest.raises(LrpEdgeError, match="--against"):
        verify([file], weights=line.checkpoint)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (["openvin"], r"backends are openvin; did you mean openvino\? expected one or more of types, cpu"),
        (["abc"], r"backends are abc; expected one or more of types"),
        (["rtx"], r"is not for rtx; expected types or cpu"),
        (["cpu", "rtx"], r"backend rtx runs none of the files"),
    ],
)
def test_backends_that_do_not_fit(line: Line, asked: list[str], words: str) -> None:
    with pytest.raises(LrpEdgeError, match=words):
        verify([line.file("fp32")], backends=asked)


def test_a_backend_that_is_not_installed_is_listed_or_an_error(line: Line) -> None:
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    found = verify([line.file("fp32")], most=1)
    (entry,) = [entry for entry in found.unavailable if entry.backend == "cuda"]
    assert "no CUDAExecutionProvider" in entry.reason
    assert found.faults() == []
    with pytest.raises(LrpEdgeError, match="no CUDAExecutionProvider"):
        verify([line.file("fp32")], most=1, backends=["cpu", "cuda"])


def test_a_file_is_no_proof_of_itself(line: Line) -> None:
    found = verify([line.file("fp32")], against=line.file("fp32"), most=1)
    assert "cpu" not in [result.backend for result in found.results]
    assert "is the reference itself" in next(entry.reason for entry in found.unavailable if entry.backend == "cpu")
    with pytest.raises(LrpEdgeError, match="is fp16; expected a file in fp32"):
        verify([line.file("fp32")], against=line.file("fp16"))


def test_a_backend_that_fails_on_frames_is_a_fault(tmp_path: Path, line: Line) -> None:
    fixed = CARD.replace(input=InputSpec("GRAY", (0.5,), (0.2,), (64, 80), network_order="GRAY"))
    file = to_onnx(line.checkpoint, tmp_path, card=fixed)
    assert verify([file], against=line.checkpoint, frames=str(line.frames), backends=["cpu"]).faults() == []
    cv2.imwrite(str(tmp_path / "small.png"), line.images[0][:40])
    with pytest.raises(LrpEdgeError, match=r"small\.png is 40x80; this model takes 64x80 only"):
        verify([file], against=line.checkpoint, frames=str(tmp_path / "small.png"))
    claims = edit(file, tmp_path / "claims.onnx", np.asarray, input=CARD.input)
    found = verify([claims], against=line.checkpoint, frames=str(tmp_path / "small.png"))
    assert next(entry.backend for entry in found.unavailable if entry.started) == "cpu"
    assert any(f"{claims} on cpu: " in fault for fault in found.faults())
    with pytest.raises(LrpEdgeError, match="failed on frames"):
        verify([claims], against=line.checkpoint, frames=str(tmp_path / "small.png"), backends=["cpu"])


def test_files_must_take_the_same_frames(line: Line, tmp_path: Path) -> None:
    colour = edit(line.file("fp32"), tmp_path / "colour.onnx", np.asarray, input=InputSpec())
    with pytest.raises(LrpEdgeError, match=r"takes GRAY frames, and .*colour\.onnx BGR"):
        verify([line.file("fp32"), colour], against=line.checkpoint)
    named = edit(line.file("fp32"), tmp_path / "named.onnx", np.asarray, classes=("ok", "hole"), defects=("hole",))
    with pytest.raises(LrpEdgeError, match="expected files of one model"):
        verify([named], against=line.file("fp32"))
    moved = edit(line.file("fp32"), tmp_path / "moved.onnx", np.asarray, decision=DecisionSpec(0.25))
    with pytest.raises(
        LrpEdgeError, match=r"decides at a threshold of 0\.25, and .*fp32\.onnx at a threshold of 0\.5;"
    ):
        verify([moved], against=line.file("fp32"))
    many = edit(line.file("fp32"), tmp_path / "many.onnx", np.asarray, classes=("ok", "dent", "hole"))
    with pytest.raises(LrpEdgeError, match=r"has 2 outputs, and .* the classes ok, dent, hole"):
        verify([many], against=line.checkpoint)
    with pytest.raises(LrpEdgeError, match=r"expected an \.onnx file"):
        verify([line.checkpoint])


def test_an_engine_without_a_gpu_is_listed_and_not_verified(line: Line, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    from lrp_edge.export import to_engine

    sizes = {"smallest": (64, 64), "usual": (64, 80), "largest": (64, 96)}
    engine = to_engine(line.file("fp32"), tmp_path, gpus=("sm86",), batch=(1, 1, 1), **sizes)
    reason = why_it_cannot_run(engine)
    shutil.copy(line.checkpoint, tmp_path)
    found = verify([engine, line.file("fp32")], most=1)
    assert (found.unavailable[0].file, found.unavailable[0].backend) == (engine, "rtx")
    assert found.unavailable[0].reason == reason
    assert {result.file for result in found.results} == {line.file("fp32")}
    assert found.faults() == [f"{engine} is not verified: nothing here ran it"]
    with pytest.raises(LrpEdgeError, match=r"GPU|CUDA|NVIDIA"):
        verify([engine], most=1, backends=["rtx"])


def constant(session: Any) -> Any:
    """Return a session that answers each call with its first frame's answer."""

    class Mixed:
        def run(self, names: Any, feeds: dict[str, Any]) -> list[Any]:
            return [output[:1].repeat(len(output), 0) for output in session.run(names, feeds)]

    return Mixed()


@pytest.mark.parametrize("backend", ["cpu", "openvino"])
def test_batches_are_what_single_frames_are(line: Line, backend: str) -> None:
    (result,) = verify([line.file("gated")], frames=str(line.frames), backends=[backend]).results
    assert list(result.shapes) == ["batch 8"]
    batch = result.shapes["batch 8"]
    # Six frames, and the first two of them again.
    assert (batch.frames, batch.label_agreement) == (8, 1.0)
    assert batch.mask_iou_mean > 0.999
    assert result.as_dict()["shapes"]["batch 8"]["frames"] == 8


def test_a_file_that_mixes_up_the_frames_of_a_call_is_found(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "EngineSession", lambda engine: constant(EngineSession(engine)))
    found = verify([line.file("fp32")], against=line.checkpoint, frames=str(line.frames), backends=["openvino"])
    assert found.results[0].parity.label_agreement == 1
    assert any("batch 8: labels agree on a share of 0.5" in fault for fault in found.faults())


def test_shapes_are_those_of_the_card(line: Line) -> None:
    picture = Picture("x.png", line.images[0][..., None])
    card = CARD.replace(profile={"min": [2, 32, 40, 1], "opt": [2, 64, 80, 1], "max": [16, 128, 160, 1]})
    assert batch_sizes(CARD) == [8]
    assert batch_sizes(CARD.replace(input=dataclasses.replace(CARD.input, max_batch=1))) == []
    assert batch_sizes(card) == [2, 16]
    assert end_pictures(CARD, picture) == []
    ends = end_pictures(card, picture)
    assert [(end.source, end.image.shape) for end in ends] == [
        ("x.png at 32x40", (32, 40, 1)), ("x.png at 128x160", (128, 160, 1)),
    ]  # fmt: skip
