from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from images import surface, write_folder
from safetensors.torch import load_file
from sklearn.metrics import roc_auc_score

from lrp_edge.card import ModelCard
from lrp_edge.checkpoint import load_checkpoint
from lrp_edge.datasets import open_dataset, read_image
from lrp_edge.errors import LrpEdgeError
from lrp_edge.learning import measure
from lrp_edge.training import Options, TrainingResult, train

TINY = Options(
    width=0.1, pools=3, epochs=6, mark_epochs=4, mark_patch=48, patch=48, batch=8, look_from=2, look_every=2,
    lr=5e-3, test=0.25, val=0.25,
)  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Steps are so small here that threads cost more than they give."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("data"), {"ok": 48, "hole": 48})


@pytest.fixture(scope="module")
def result(data: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainingResult:
    return train(data, tmp_path_factory.mktemp("run"), TINY, progress=False)


def test_it_learns_to_see_the_defect(result: TrainingResult) -> None:
    assert result.test is not None
    assert result.val is not None
    assert result.test.images == 24
    assert result.test.auroc is not None
    assert result.test.auroc > 0.9


def test_the_figures_are_those_of_the_checkpoint_on_the_test_images(result: TrainingResult, data: Path) -> None:
    model, card = load_checkpoint(result.checkpoint)
    names = json.loads((result.checkpoint.parent / "split.json").read_text())["test"]
    scores, labels = [], []
    for name in names:
        image = torch.from_numpy(read_image(data / name, gray=True)).permute(2, 0, 1)[None] / 255
        with torch.no_grad():
            logits = model((image - card.input.mean[0]) / card.input.std[0])
        scores.append(logits.softmax(1)[0].numpy())
        labels.append(card.classes.index(name.split("/")[0]))
    answers, truth = np.array(scores), np.array(labels)
    assert result.test is not None
    assert result.test.accuracy == pytest.approx(np.mean(answers.argmax(1) == truth))
    hole = card.classes.index("hole")
    assert result.test.auroc == pytest.approx(roc_auc_score(truth == hole, answers[:, hole]), abs=1e-6)
    assert result.test.recall["hole"] == pytest.approx(np.mean(answers.argmax(1)[truth == hole] == hole))


def test_the_card_says_what_was_trained(result: TrainingResult, data: Path) -> None:
    _, card = load_checkpoint(result.checkpoint)
    assert card == result.card
    assert card == ModelCard.from_json((result.checkpoint.parent / "model.json").read_text())
    assert card.classes == ("hole", "ok")
    assert card.defects == ("hole",)
    assert (card.input.order, card.input.network_order, card.input.size) == ("GRAY", "GRAY", None)
    names = json.loads((result.checkpoint.parent / "split.json").read_text())["train"]
    pixels = np.concatenate([read_image(data / name, gray=True).ravel() for name in names]) / 255
    assert card.input.mean[0] == pytest.approx(pixels.mean(), abs=1e-5)
    assert card.input.std[0] == pytest.approx(pixels.std(), abs=1e-5)
    assert card.provenance["training"]["seed"] == 0


def test_the_parts_are_the_whole_and_do_not_overlap(result: TrainingResult, data: Path) -> None:
    parts = json.loads((result.checkpoint.parent / "split.json").read_text())
    together = [name for part in parts.values() for name in part]
    assert sorted(together) == open_dataset(data).names
    assert {name: len(part) for name, part in parts.items()} == {"train": 48, "val": 24, "test": 24}


def test_every_epoch_is_in_the_metrics(result: TrainingResult) -> None:
    metrics = json.loads((result.checkpoint.parent / "metrics.json").read_text())
    assert [entry["epoch"] for entry in metrics["epochs"]] == list(range(1, 7))
    assert metrics["epochs"][-1]["loss"] < metrics["epochs"][0]["loss"]
    assert 0 <= metrics["epochs"][4]["val_accuracy"] <= 1
    assert metrics["test"]["auroc"] == result.test.auroc  # type: ignore[union-attr]


def test_a_seed_decides_the_weights(data: Path, tmp_path: Path) -> None:
    short = Options(width=0.05, pools=3, epochs=3, mark_epochs=1, mark_patch=48, patch=48, look_from=1)

    def weights(name: str, seed: int, workers: int) -> dict[str, torch.Tensor]:
        options = dataclasses.replace(short, look_every=1, seed=seed, workers=workers)
        return load_file(train(data, tmp_path / name, options, progress=False).checkpoint)

    first, second, other = weights("a", 5, 0), weights("b", 5, 2), weights("c", 6, 0)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])


def test_colour_frames_are_bgr_and_the_network_is_rgb(tmp_path: Path) -> None:
    import cv2

    for name, defect in (("ok", False), ("hole", True)):
        (tmp_path / "data" / name).mkdir(parents=True)
        for seed in range(8):
            gray = surface(defect, seed)
            cv2.imwrite(str(tmp_path / "data" / name / f"{seed}.png"), np.dstack([gray // 2, gray, gray]))
    options = Options(width=0.05, epochs=1, mark_epochs=0, patch=48, batch=4, val=0.0, test=0.25)
    result = train(tmp_path / "data", tmp_path / "run", options, progress=False)
    assert (result.card.input.order, result.card.input.network_order) == ("BGR", "RGB")
    red, green, blue = result.card.input.mean
    assert red == pytest.approx(green)
    assert blue == pytest.approx(red / 2, abs=0.01)
    assert result.val is None
    assert result.card.architecture["channels"] == 3


def test_an_output_folder_with_a_model_is_left_alone(result: TrainingResult, data: Path) -> None:
    before = result.checkpoint.read_bytes()
    with pytest.raises(LrpEdgeError, match="--overwrite"):
        train(data, result.checkpoint.parent, TINY, progress=False)
    assert result.checkpoint.read_bytes() == before


def test_what_cannot_be_trained_is_refused_before_anything_is_written(data: Path, tmp_path: Path) -> None:
    with pytest.raises(LrpEdgeError, match="cannot be written"):
        train(data, "/proc/run", TINY, progress=False)
    with pytest.raises(LrpEdgeError, match="no such folder"):
        train(tmp_path / "missing", tmp_path / "run", TINY, progress=False)
    with pytest.raises(LrpEdgeError, match="OK class 'fine' is not among"):
        train(data, tmp_path / "run", TINY, ok_class="fine", progress=False)
    write_folder(tmp_path / "names", {"one": 2, "two": 2})
    with pytest.raises(LrpEdgeError, match="--ok-class"):
        train(tmp_path / "names", tmp_path / "run", TINY, progress=False)
    assert not (tmp_path / "run").exists()


def test_a_training_that_diverges_leaves_no_checkpoint(data: Path, tmp_path: Path) -> None:
    options = Options(width=0.05, epochs=2, mark_epochs=0, patch=48, batch=8, lr=1e30, precision="fp32")
    with pytest.raises(LrpEdgeError, match=r"diverged|NaN"):
        train(data, tmp_path / "run", options, progress=False)
    assert not any((tmp_path / "run").iterdir())


@pytest.mark.parametrize(
    "option",
    [{"epochs": 0}, {"patch": 16}, {"lr": 0.0}, {"guided": 1.5}, {"test": 0.95}, {"precision": "fp8"}],
)
def test_an_option_out_of_its_range_is_named(option: dict[str, float]) -> None:
    with pytest.raises(LrpEdgeError, match=next(iter(option))):
        Options(**option)  # type: ignore[arg-type]


def test_measure_agrees_with_scikit_learn_and_knows_what_is_absent() -> None:
    card = ModelCard(classes=("a", "b", "ok"), defects=("a", "b"))
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(60, 3, generator=generator).softmax(1)
    labels = torch.randint(0, 2, (60,), generator=generator) * 2
    figures = measure(scores, labels, card)
    truth = labels.numpy() != 2
    assert figures.auroc == pytest.approx(roc_auc_score(truth, scores[:, :2].sum(1).numpy()), abs=1e-6)
    assert figures.recall["b"] is None
    assert figures.accuracy == pytest.approx((scores.argmax(1) == labels).float().mean().item())
    assert measure(scores, torch.full((60,), 2), card).auroc is None
