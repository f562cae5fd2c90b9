from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save
from sklearn.metrics import roc_auc_score
from torch.optim.swa_utils import get_ema_avg_fn

from lrp_edge.card import DecisionSpec, ModelCard
from lrp_edge.checkpoint import load_checkpoint
from lrp_edge.datasets import open_dataset, read_image, split, write_clicks, write_split
from lrp_edge.errors import LrpEdgeError
from lrp_edge.export.deployable import standardise
from lrp_edge.export.origin import load_model
from lrp_edge.training import Options, TrainingResult, measure, train
from lrp_edge.training.callbacks import running_average
from tests.support.images import surface, write_folder

pytestmark = pytest.mark.usefixtures("few_drawn_defects")
TINY = Options(
    model="vgg", width=0.1, epochs=16, mark_epochs=3, patch=48, batch=8, look_from=4, look_every=4, val_every=5,
    lr=5e-3, ema=0.9, test=0.25, val=0.25,
)  # fmt: skip
SHORT = Options(
    model="vgg", width=0.05, epochs=4, mark_epochs=1, patch=48, batch=8, look_from=1, look_every=1, val_every=2, ema=0.9
)


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


def test_the_running_average_leaves_its_start_behind_and_ends_as_torch_s() -> None:
    average, constant = running_average(0.98), get_ema_avg_fn(0.98)
    start, current = torch.zeros(3), torch.ones(3)
    for steps in range(1, 11):
        start = average(start, current, steps)
    assert float(start.min()) > 0.99
    for steps in (441, 10_000):
        assert torch.allclose(average(start, current * 2, steps), constant(start, current * 2, steps))


def test_what_it_learnt_is_usable_and_the_card_says_so(result: TrainingResult) -> None:
    assert result.usability is not None
    assert result.usability.unusable == []
    assert result.card.unusable == ()
    assert result.card.usable == result.usability.as_dict()
    assert result.usability.images == 24
    location = result.usability.location
    assert location is not None
    assert location.margin is not None
    assert location.margin.low > 0.3
    assert json.loads((result.checkpoint.parent / "metrics.json").read_text())["usable"] == result.card.usable


def test_a_classifier_at_chance_is_not_usable_and_says_so(tmp_path: Path) -> None:
    for seed in range(60):
        folder = tmp_path / "data" / ("hole", "ok")[seed % 2]
        folder.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / f"{seed:03}.png"), surface(seed // 2 % 2 == 0, seed))
    result = train(tmp_path / "data", tmp_path / "run", dataclasses.replace(SHORT, val=0.4), progress=False)
    assert result.usability is not None
    assert result.card.unusable
    assert any(said.startswith("class: AUROC ") for said in result.card.unusable)
    _, card = load_checkpoint(result.checkpoint)
    assert card.unusable == result.card.unusable


def test_without_validation_images_nothing_is_known(tmp_path: Path) -> None:
    write_folder(tmp_path / "data", {"ok": 6, "hole": 6})
    options = dataclasses.replace(SHORT, val=0.0, epochs=1)
    result = train(tmp_path / "data", tmp_path / "run", options, progress=False)
    assert result.card.unusable == ("nothing is known without validation images",)


def test_the_figures_are_those_of_the_checkpoint_on_the_test_images(result: TrainingResult, data: Path) -> None:
    model, card = load_checkpoint(result.checkpoint)
    names = json.loads((result.checkpoint.parent / "split.json").read_text())["test"]
    scores, labels = [], []
    for name in names:
        image = torch.from_numpy(read_image(data / name, gray=True)).permute(2, 0, 1)[None] / 255
        with torch.no_grad():
            logits = model(standardise((image - card.input.mean[0]) / card.input.std[0]))
        scores.append(logits.softmax(1)[0].numpy())
        labels.append(card.classes.index(name.split("/")[0]))
    answers, truth = np.array(scores), np.array(labels)
    assert result.test is not None
    assert card.decision is not None
    hole = card.classes.index("hole")
    decided = np.where(answers[:, hole] > card.decision.threshold, hole, card.classes.index("ok"))
    assert result.test.accuracy == pytest.approx(np.mean(decided == truth))
    assert result.test.auroc == pytest.approx(roc_auc_score(truth == hole, answers[:, hole]), abs=1e-6)
    assert result.test.recall["hole"] == pytest.approx(np.mean(decided[truth == hole] == hole))


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
    assert [entry["epoch"] for entry in metrics["epochs"]] == list(range(1, 17))
    assert metrics["epochs"][-1]["loss"] < metrics["epochs"][0]["loss"]
    assert 0 <= metrics["epochs"][4]["val_accuracy"] <= 1
    assert metrics["test"]["auroc"] == result.test.auroc  # type: ignore[union-attr]
    assert metrics["supervision"] == "image"
    with (result.checkpoint.parent / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["loss"]) for row in rows] == [entry["loss"] for entry in metrics["epochs"]]
    assert [row["epoch"] for row in rows if row["val_auroc"]] == ["5", "10", "15"]
    events = list((result.checkpoint.parent / "tensorboard").glob("events.*"))
    assert sum(file.stat().st_size for file in events) > 1000
    curve = cv2.imread(str(result.checkpoint.parent / "curve.png"))
    assert curve.shape[0] > 300
    assert len(np.unique(curve.reshape(-1, 3), axis=0)) > 10
    assert not (result.checkpoint.parent / "resume.ckpt").exists()


def test_a_seed_decides_the_weights(data: Path, tmp_path: Path) -> None:
    def weights(name: str, seed: int, workers: int) -> dict[str, torch.Tensor]:
        options = dataclasses.replace(SHORT, seed=seed, workers=workers)
        return load_file(train(data, tmp_path / name, options, progress=False).checkpoint)

    first, second, other = weights("a", 5, 0), weights("b", 5, 2), weights("c", 6, 0)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])


def test_colour_frames_are_bgr_and_the_network_is_rgb(tmp_path: Path) -> None:
    for name, defect in (("ok", False), ("hole", True)):
        (tmp_path / "data" / name).mkdir(parents=True)
        for seed in range(8):
            gray = surface(defect, seed)
            cv2.imwrite(str(tmp_path / "data" / name / f"{seed}.png"), np.dstack([gray // 2, gray, gray]))
    options = Options(model="vgg", width=0.05, epochs=1, mark_epochs=0, patch=48, batch=4, val=0.0, test=0.25, ema=0.0)
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
    options = Options(
        model="vgg", width=0.05, epochs=2, mark_epochs=0, patch=48, batch=8, lr=1e30, precision="fp32", ema=0.0
    )
    with pytest.raises(LrpEdgeError, match=r"diverged|NaN"):
        train(data, tmp_path / "run", options, progress=False)
    assert not (tmp_path / "run" / "model.safetensors").exists()


@pytest.mark.parametrize(
    "option",
    [
        {"epochs": 0},
        {"patch": 16},
        {"lr": 0.0},
        {"guided": 1.5},
        {"test": 0.95},
        {"precision": "fp8"},
        {"model": "cnn"},
    ],
)
def test_an_option_out_of_its_range_is_named(option: dict[str, float]) -> None:
    with pytest.raises(LrpEdgeError, match=next(iter(option))):
        Options(**option)  # type: ignore[arg-type]


def test_early_stopping_ends_before_the_last_epoch(data: Path, tmp_path: Path) -> None:
    options = dataclasses.replace(SHORT, epochs=40, lr=1e-7, val_every=1, patience=2, ema=0.0)
    result = train(data, tmp_path / "run", options, progress=False)
    metrics = json.loads((result.checkpoint.parent / "metrics.json").read_text())
    assert len(metrics["epochs"]) < 40


def test_a_split_and_clicks_of_ones_own(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = open_dataset(data)
    parts = split(dataset, seed=9, fractions=(0.5, 0.25, 0.25))
    write_split(tmp_path / "split.json", parts)
    holes = [name for name in dataset.names if name.startswith("hole")]
    write_clicks(tmp_path / "clicks.csv", {name: np.array([[30.0, 40.0]]) for name in holes[1:]})
    options = dataclasses.replace(SHORT, clicks=str(tmp_path / "clicks.csv"))
    result = train(data, tmp_path / "run", options, split_file=tmp_path / "split.json", progress=False)
    assert (tmp_path / "run" / "split.json").read_text() == (tmp_path / "split.json").read_text()
    assert result.card.provenance["supervision"] == "patch"
    bare = holes[0] in parts.train.names
    assert ("have no click" in capsys.readouterr().err) is bare


def test_weights_to_start_from(data: Path, result: TrainingResult, tmp_path: Path) -> None:
    options = dataclasses.replace(TINY, epochs=1, lr=1e-9, ema=0.0, mark_epochs=0, weights=str(result.checkpoint))
    started = train(data, tmp_path / "run", options, progress=False)
    first, second = load_file(result.checkpoint), load_file(started.checkpoint)
    assert torch.allclose(first["features.0.weight"], second["features.0.weight"], atol=1e-3)
    (tmp_path / "other.safetensors").write_bytes(save({"nothing": torch.zeros(3)}))
    with pytest.raises(LrpEdgeError, match="none of its 1 weights fits"):
        train(data, tmp_path / "b", dataclasses.replace(options, weights=str(tmp_path / "other.safetensors")))


FACTORY = """
from torch import nn

def tiny(channels, classes):
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes),
    )
"""


def test_a_factory_of_the_users_is_trained_and_exported(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_models.py").write_text(FACTORY)
    result = train(data, "run", dataclasses.replace(SHORT, model="own_models:tiny"), progress=False)
    with pytest.raises(LrpEdgeError, match="give own_models:tiny in place of the checkpoint"):
        load_checkpoint(result.checkpoint)
    network, card, _ = load_model("own_models:tiny", result.checkpoint)
    assert card is not None
    assert card.classes == ("hole", "ok")
    assert torch.equal(network.state_dict()["0.weight"], load_file(result.checkpoint)["0.weight"])


def test_synthetic_defects_can_be_drawn_on_synthetic_surfaces(data: Path, tmp_path: Path) -> None:
    options = dataclasses.replace(SHORT, mark_surface="synthetic", patch=64)
    assert train(data, tmp_path / "run", options, progress=False).checkpoint.exists()


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
    strict = measure(scores, labels, card.replace(decision=DecisionSpec(0.7)))
    rejected = scores[:, 2] < 0.3
    assert strict.recall["ok"] == pytest.approx((~rejected)[labels == 2].float().mean().item())
    assert strict.auroc == figures.auroc
    assert measure(scores, torch.full((60,), 2), card).auroc is None
