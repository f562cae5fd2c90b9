"""Learning that resists shortcuts: each piece on known inputs, and a network that learns a stain without them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from lrp_edge.card import ModelCard
from lrp_edge.checkpoint import load_checkpoint
from lrp_edge.classifiers import build
from lrp_edge.datasets import open_dataset, split, write_split
from lrp_edge.evaluation.predictors import RelevancePredictor
from lrp_edge.training import Options, train
from lrp_edge.training.modules import LabelModule
from lrp_edge.training.surroundings import MARKED, Surroundings, beyond, mark_loss, soiled
from lrp_edge.training.synthetic_defects import KINDS, draw_defects
from lrp_edge.training.windows import Draw, Frames, WholeImages
from tests.support.images import write_folder

SIDES = st.integers(33, 70)
SEEDS = st.integers(0, 2**31)


@settings(max_examples=20, deadline=None)
@given(SIDES, SIDES, SEEDS, st.integers(1, 3), st.floats(0, 255))
def test_soil_is_broad_and_as_drawn_again(rows: int, columns: int, seed: int, channels: int, level: float) -> None:
    clean = torch.full((channels, rows, columns), level)
    drawn = soiled(clean, np.random.default_rng(seed))
    assert drawn.shape == clean.shape
    assert drawn.dtype == torch.float32
    assert 0 <= float(drawn.min()) <= float(drawn.max()) <= 255
    assert (drawn == drawn[:1]).all()
    assert torch.equal(drawn, soiled(clean, np.random.default_rng(seed)))


def test_soil_covers_far_more_than_a_mark() -> None:
    clean = torch.full((1, 128, 128), 128.0)
    changed = [
        float(((soiled(clean, np.random.default_rng(seed)) - clean).abs() > 2).float().mean()) for seed in range(40)
    ]
    drawn = [draw_defects(clean, np.random.default_rng(seed), KINDS[:2], fewest=1)[0] for seed in range(40)]
    assert np.median(changed) > 10 * np.median([float(((image - clean).abs() > 2).float().mean()) for image in drawn])


@given(st.integers(1, 3), st.integers(1, 8), st.integers(1, 8), st.floats(0.01, 1), SEEDS)
def test_beyond_the_strongest_share_all_others_are_known_to_be_ok(
    images: int, rows: int, columns: int, share: float, seed: int
) -> None:
    strength = torch.from_numpy(np.random.default_rng(seed).permutation(images * rows * columns)).float()
    strength = strength.view(images, rows, columns)
    count = max(1, round(share * rows * columns))
    for each, found in zip(strength.flatten(1).tolist(), beyond(strength, share).flatten(1).tolist(), strict=True):
        assert {value for value, is_beyond in zip(each, found, strict=True) if not is_beyond} == set(
            sorted(each)[-count:]
        )


@given(SEEDS)
def test_positions_learn_whether_they_have_a_mark_and_a_faint_rim_is_left_out(seed: int) -> None:
    odds = torch.from_numpy(np.random.default_rng(seed).normal(0, 2, (1, 4, 5))).float()
    marks = torch.zeros(1, 32, 40)
    marks[0, 9, 18], marks[0, 25, 30], marks[0, 1, 1] = 1.0, 0.5, 0.1
    on = {(1, 2), (3, 3)}
    off = {(row, column) for row in range(4) for column in range(5)} - on - {(0, 0)}
    expected = sum(np.log1p(np.exp(-float(odds[0][place]))) for place in on) / len(on)
    expected += sum(np.log1p(np.exp(float(odds[0][place]))) for place in off) / len(off)
    assert float(mark_loss(odds, marks)) == pytest.approx(expected, rel=1e-4)
    assert float(mark_loss(odds, torch.zeros(1, 32, 40))) == pytest.approx(float(odds.exp().log1p().mean()), rel=1e-4)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> WholeImages:
    dataset = open_dataset(write_folder(tmp_path_factory.mktemp("data"), {"ok": 20, "hole": 12}))
    frames = Frames(dataset, gray=True)
    return WholeImages(frames, Draw(frames.labels, 0.5, [dataset.classes.index("ok")], 0.5), 3)


def test_without_soil_and_marks_images_are_as_they_were(images: WholeImages) -> None:
    items = Surroundings(images, [1])
    items.draw(2)
    for index in range(len(items)):
        frame, label, marks = items[index]
        assert torch.equal(frame, images[index][0].round().to(torch.uint8))
        assert int(label) == images[index][1]
        assert marks.shape == frame.shape[1:]
        assert not marks.any()


def test_marks_are_on_ok_images_and_the_rest_keeps_its_label(images: WholeImages) -> None:
    items = Surroundings(images, [1], mark_epochs=1, mark_share=0.25)
    shares = []
    for epoch in range(24):
        items.draw(epoch)
        marked = []
        for index in range(len(items)):
            frame, label, marks = items[index]
            assert frame.dtype == torch.uint8
            marked.append(int(label) == MARKED)
            assert bool(marks.any()) == marked[-1]
            # A hole is far darker than any mark on a surface of 120.
            assert int(label) == 0 or int(frame.min()) > 35
            assert int(label) in (MARKED, images[index][1])
        shares.append(np.mean(marked))
    assert shares[0] == pytest.approx(0.75, abs=0.25)
    assert np.mean(shares[1:]) == pytest.approx(0.25, abs=0.05)


@pytest.mark.parametrize("epoch", [0, 1])
def test_the_area_prior_is_in_the_loss_once_positions_mean_something(epoch: int) -> None:
    torch.manual_seed(0)
    architecture = {"family": "efficientnet_lite0", "channels": 1, "classes": 3, "stages": 3, "width": 0.2}
    options = Options(
        weights="none",
        patch=0,
        epochs=4,
        guided=0.0,
        mark_epochs=0,
        mark_share=0.0,
        dense_negatives=0.7,
        area_prior=0.2,
    )
    learner = LabelModule(build(architecture), ModelCard(("hole", "ok", "scratch"), ("hole", "scratch")), options, None)
    learner._trainer = SimpleNamespace(current_epoch=epoch)  # type: ignore[assignment]
    learner.eval()
    with torch.no_grad():
        logits, features = learner.answer(torch.randn(2, 1, 64, 48))
        loss = float(learner.label_loss(logits, features, torch.tensor([2, 1])))
        defect, ok = learner.model.head(features).double()[:, [0, 2]].flatten(2).numpy()  # type: ignore[union-attr, operator]
    strongest = np.argsort(np.logaddexp(*defect))[-round(0.2 * defect.shape[1]) :]
    expected = np.log(np.exp(logits.double().numpy()).sum(1)).mean() - float(logits[0, 2] + logits[1, 1]) / 2
    expected += 0.7 * np.log1p(np.exp(ok)).mean() / 2
    if epoch:
        expected += 0.7 * np.log1p(np.exp(np.delete(defect, strongest, 1))).mean() / 2
    assert loss == pytest.approx(expected, rel=1e-5)


def stained(seed: int, defect: bool, stain: bool) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A noisy surface, with a small dark spot if it is a defect, and with a broad dark stain or not."""
    random = np.random.default_rng((seed, defect, stain))
    size = (64, 80)
    rows, columns = np.mgrid[: size[0], : size[1]]
    pixels = random.normal(130, 5, size)
    row, column = random.uniform(15, 49), random.uniform(15, 65)
    pixels -= stain * 50 * np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / (2 * 11**2))
    row, column = random.uniform(8, 56), random.uniform(8, 72)
    spot = (rows - row) ** 2 + (columns - column) ** 2 < 9
    pixels[spot] -= 35 * defect
    return np.clip(pixels, 0, 255).astype(np.uint8), spot


def measured(checkpoint: Path) -> tuple[float, float]:
    """Return the AUROC of the class where stains are on every second part, and the mean one of pixels of defects."""
    predictor = RelevancePredictor(*load_checkpoint(checkpoint))
    truth, scores, pixels = [], [], []
    for seed in range(100, 116):
        defect = seed % 2 == 1
        frame, spot = stained(seed, defect, seed % 4 > 1)
        result = predictor(frame[..., None])
        truth.append(defect)
        scores.append(1 - result.scores[predictor.card.ok_indices[0]])
        if defect:
            pixels.append(roc_auc_score(spot.ravel(), result.relevance.ravel()))
    return float(roc_auc_score(truth, scores)), float(np.mean(pixels))


def test_a_network_that_learns_the_stain_learns_the_defect_with_them(tmp_path: Path) -> None:
    for defect, name in enumerate(("ok", "hole")):
        (tmp_path / "data" / name).mkdir(parents=True)
        for seed in range(20):
            cv2.imwrite(str(tmp_path / "data" / name / f"{seed}.png"), stained(seed, bool(defect), bool(defect))[0])
    write_split(tmp_path / "split.json", split(open_dataset(tmp_path / "data"), seed=0, fractions=(1.0, 0.0, 0.0)))
    settings = {
        "without": {"mark_epochs": 0, "mark_share": 0.0},
        "with": {"soil": 0.5, "mark_epochs": 3, "mark_share": 0.3, "area_prior": 0.1},
    }
    found = {}
    for name, values in settings.items():
        options = Options(epochs=6, **values)  # type: ignore[arg-type]
        result = train(tmp_path / "data", tmp_path / name, options, split_file=tmp_path / "split.json", progress=False)
        found[name] = measured(result.checkpoint)
    assert found["without"][0] < 0.75, found
    assert min(found["with"]) > 0.9, found
