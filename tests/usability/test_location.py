"""The proof of location: on stand-ins whose answers are known, and on networks made to look at defects or at stains."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from torch import nn

from lrp_edge.card import InputSpec, MaskSpec, ModelCard
from lrp_edge.classifiers import Classifier, LogSumExp
from lrp_edge.evaluation.predictors import RelevancePredictor
from lrp_edge.runtime import Segmentation
from lrp_edge.synthetic import draw_soiled
from lrp_edge.usability.location import UInt8, elsewhere, fill, grown, locate, try_frame

SIZE = (96, 128)


def answer(defect: bool, mask: np.ndarray) -> Segmentation:
    label, scores = int(defect), np.array([not defect, defect], np.float32)
    relevance = mask.astype(np.float32)
    return Segmentation(
        label, ("ok", "hole")[label], defect, scores, (255 * mask * defect).astype(np.uint8), relevance, 1.0
    )


def part(seed: int, defect: bool) -> tuple[UInt8, np.ndarray]:
    """A noisy surface with a dark square, and where that is."""
    random = np.random.default_rng(seed)
    frame, where = random.normal(128, 4, (*SIZE, 1)), np.zeros(SIZE, bool)
    if defect:
        row, column = random.integers(10, 70, 2)
        where[row : row + 8, column : column + 8] = True
        frame[where] -= 70
    return np.clip(frame, 0, 255).astype(np.uint8), where


def sees_dark(frame: UInt8) -> Segmentation:
    """Decide by dark pixels, and mask them."""
    dark = frame[..., 0] < 90
    return answer(bool(dark.sum() > 20), dark)


def trials(predictor: Callable[[UInt8], Segmentation], count: int = 24) -> list:
    found = []
    for seed in range(count):
        frame, _ = part(seed, seed % 2 == 1)
        found.append(try_frame(predictor, frame, predictor(frame), seed % 2 == 1, np.random.default_rng(seed)))
    return found


def test_a_mask_that_decides_is_proven() -> None:
    found = locate(trials(sees_dark))
    assert found is not None
    assert found.frames == 12
    assert found.removed.value == 1
    for estimate in (found.stays, found.margin, found.separation):
        assert estimate is not None
        assert estimate.value == 1
        assert estimate.low > 0.5
    assert "with what the mask covers filled, 1.00 (0.76 to 1.00) of 12 defects turn OK" in str(found)


def test_a_mask_somewhere_else_is_chance() -> None:
    random = np.random.default_rng(5)

    def guesses(frame: UInt8) -> Segmentation:
        result = sees_dark(frame)
        mask = elsewhere(result.mask > 0, 1, random)[0] if result.defect else result.mask > 0
        return answer(result.defect, mask)

    found = locate(trials(guesses))
    assert found is not None
    assert found.removed.value < 0.2
    assert found.margin is not None
    assert found.margin.low < 0


def test_a_verdict_that_any_filling_turns_proves_nothing() -> None:
    frames = {part(seed, True)[0].tobytes() for seed in range(1, 24, 2)}

    def knows_by_heart(frame: UInt8) -> Segmentation:
        return answer(frame.tobytes() in frames, frame[..., 0] < 90)

    found = locate(trials(knows_by_heart))
    assert found is not None
    assert found.removed.value == 1
    assert found.stays is not None
    assert found.stays.value == 0
    assert found.margin is not None
    assert found.margin.low < 0 <= found.margin.value


def test_what_is_never_decided_or_has_no_mask() -> None:
    assert locate(trials(lambda frame: answer(False, np.zeros(SIZE)))) is None
    found = locate(trials(lambda frame: answer(True, np.zeros(SIZE))))
    assert found is not None
    assert (found.frames, found.removed.value, found.stays, found.margin) == (24, 0, None, None)
    assert "no room" in str(locate(trials(lambda frame: answer(True, np.ones(SIZE)))))


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32), st.integers(1, 6), st.sampled_from([1, 3]))
def test_fillings_are_where_they_should_be(seed: int, count: int, channels: int) -> None:
    random = np.random.default_rng(seed)
    frame = random.integers(0, 255, (*SIZE, channels), np.uint8)
    mask = np.zeros(SIZE, bool)
    for _ in range(count):
        row, column = random.integers(0, 80, 2)
        mask[row : row + random.integers(1, 16), column : column + random.integers(1, 40)] = True
    where = grown(mask)
    assert (where >= mask).all()
    filled = fill(frame, where)
    assert filled.shape == frame.shape
    assert np.array_equal(filled[~where], frame[~where])
    flat = np.full_like(frame, seed % 256)
    assert np.array_equal(fill(flat, where), flat)
    for place in elsewhere(where, 3, random):
        assert place.sum() == where.sum()
        assert not (place & where).any()


def test_there_is_no_elsewhere_for_more_than_half_of_a_frame() -> None:
    where = np.zeros(SIZE, bool)
    where[:49] = True
    assert elsewhere(where, 3, np.random.default_rng(0)) == []
    where[48] = False
    assert [place.sum() for place in elsewhere(where, 3, np.random.default_rng(0))] == [where.sum()] * 3


def detector(shrink: int, inner: int, outer: int, threshold: float, gain: float) -> Classifier:
    """A classifier that finds what is darker by a threshold within `inner` than between that and `outer`.

    Both are in pixels of the frame shrunk by `shrink`.
    """
    kernel = torch.full((1, 1, outer, outer), 1 / (outer**2 - inner**2))
    rim = (outer - inner) // 2
    kernel[..., rim : rim + inner, rim : rim + inner] = -1 / inner**2
    contrast, head = nn.Conv2d(1, 1, outer, padding=outer // 2), nn.Conv2d(1, 2, 1)
    with torch.no_grad():
        contrast.weight.copy_(kernel)
        contrast.bias.fill_(-threshold)  # type: ignore[union-attr]
        head.weight.copy_(torch.tensor([0, gain]).reshape(2, 1, 1, 1))
        head.bias.copy_(torch.tensor([0.0, -9.0]))  # type: ignore[union-attr]
    shrunk = [nn.AvgPool2d(shrink)] if shrink > 1 else []
    return Classifier(nn.Sequential(*shrunk, contrast, nn.ReLU()), LogSumExp(), head, nn.Identity(), shrink)


def proofs(network: Classifier, frames: list[tuple[UInt8, bool]]) -> tuple[float, float]:
    card = ModelCard(
        ("ok", "defect"),
        ("defect",),
        InputSpec("GRAY", (0.0,), (1.0,), network_order="GRAY"),
        explained="evidence",
        mask=MaskSpec("otsu"),
    )
    predictor = RelevancePredictor(network, card)
    found = locate([try_frame(predictor, frame, predictor(frame), defect, np.random.default_rng(i), 2)
                    for i, (frame, defect) in enumerate(frames)])  # fmt: skip
    assert found is not None
    assert found.separation is not None
    assert found.margin is not None
    return found.separation.value, found.margin.value


def test_it_tells_models_that_learnt_the_stain_from_models_that_learnt_the_defect() -> None:
    kinds = ("blowhole", "ok", "crack", "ok")
    frames = [
        (draw_soiled(kinds[i % 4], 5000 + i, i // 4 % 2 == 1, SIZE)[0][..., None], kinds[i % 4] != "ok")
        for i in range(24)
    ]
    random = np.random.default_rng(0)
    of_defects, of_stains = [], []
    for _ in range(10):
        inner = int(random.choice([3, 5]))
        fine = detector(1, inner, inner + 6, random.uniform(0.05, 0.08), random.uniform(250, 400))
        of_defects.append(proofs(fine, frames))
        inner = int(random.choice([5, 7]))
        coarse = detector(4, inner, inner + 6, random.uniform(0.02, 0.035), random.uniform(700, 1000))
        of_stains.append(proofs(coarse, frames))
    truth = [1] * 10 + [0] * 10
    separations = [row[0] for row in of_defects + of_stains]
    assert roc_auc_score(truth, separations) >= 0.95
    assert np.mean([row[0] for row in of_stains]) < 0.2
    # Both mask what they rest on, and that is all that the margin, which knows no labels, can prove.
    assert min(row[1] for row in of_defects) > 0.5
    assert np.mean([row[1] for row in of_stains]) > 0.5


@pytest.mark.parametrize("stain", [False, True])
def test_the_networks_of_the_test_look_at_what_they_are_said_to_look_at(stain: bool) -> None:
    network = detector(4, 7, 13, 0.025, 900.0) if stain else detector(1, 5, 11, 0.06, 300.0)
    scale, hits = 4 if stain else 1, []
    for seed in range(12):
        image, mask, soil = draw_soiled("blowhole", seed, True, SIZE)
        with torch.no_grad():
            seen = network.features(torch.from_numpy(image)[None, None] / 255)
        place = np.unravel_index(int(seen[0, 0].argmax()), seen.shape[2:])
        row, column = (int(scale * side + scale // 2) for side in place)
        hits.append(grown((soil if stain else mask) > 0)[row, column])
    assert np.mean(hits) > 0.7
