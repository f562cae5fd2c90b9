"""Verdicts on answers that are known: at chance, without images, never found, and a file that says so on its way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lrp_edge.card import InputSpec, ModelCard
from lrp_edge.datasets import Dataset, Sample
from lrp_edge.errors import LrpEdgeError
from lrp_edge.runtime import Segmentation
from lrp_edge.usability import Examination, Usability

CARD = ModelCard(("crack", "ok", "pit"), ("crack", "pit"), InputSpec("GRAY", (0.0,), (1.0,), network_order="GRAY"))
FRAME = np.full((20, 30, 1), 128, np.uint8)


class Said:
    """Answers what it was told to say; frames with a dark corner filled are OK."""

    card = CARD

    def __init__(self) -> None:
        self.next = Segmentation(1, "ok", False, np.array([0, 1, 0], np.float32), *empty(), 1.0)

    def __call__(self, frame: np.ndarray) -> Segmentation:
        if frame[2, 2, 0] > 100:
            return Segmentation(1, "ok", False, np.array([0, 1, 0], np.float32), *empty(), 1.0)
        return self.next


def empty() -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((20, 30), np.uint8), np.zeros((20, 30), np.float32)


def judged(rows: list[tuple[str, float, bool]], place: tuple[slice, slice] = (slice(5), slice(5))) -> Usability:
    """Judge a model that gives images of these classes these probabilities of a defect and these verdicts."""
    samples = tuple(Sample(Path(f"{i}.png"), label) for i, (label, _, _) in enumerate(rows))
    model = Said()
    examination = Examination(model, Dataset(samples, CARD.classes, Path(), True), "test images")
    for _, score, decided in rows:
        frame, mask = FRAME.copy(), empty()[0]
        if decided:
            frame[:5, :5] = 20
            mask[place] = 255
        scores = np.array([score, 1 - score, 0], np.float32)
        model.next = Segmentation(0 if decided else 1, "", decided, scores, mask, empty()[1], 1.0)
        examination.add(frame, model(frame) if decided else model.next)
    return examination.judge()


GOOD = [("crack", 0.9, True)] * 10 + [("pit", 0.8, True)] * 10 + [("ok", 0.1, False)] * 20


def test_a_model_that_is_right_is_usable() -> None:
    found = judged(GOOD)
    assert found.unusable == []
    assert found.auroc is not None
    assert found.auroc.low == 1
    assert found.location is not None
    assert (found.location.frames, found.location.removed.value) == (20, 1)
    assert found.lines()[-1] == "usable: class and mask are better than chance"
    assert "class, on 40 test images: AUROC 1.00 (1.00 to 1.00)" in found.lines()[0]


def test_masks_of_another_place_are_not() -> None:
    found = judged(GOOD, (slice(12, 17), slice(12, 17)))
    (said,) = found.unusable
    assert said.startswith("mask: with what the mask covers filled, 0.00")
    assert said.endswith("which is chance")


def test_verdicts_at_chance_are_not() -> None:
    random = np.random.default_rng(0)
    rows = [
        (("crack", "pit", "ok", "ok")[i % 4], float(score), score > 0.5) for i, score in enumerate(random.random(80))
    ]
    found = judged(rows)
    assert found.auroc is not None
    assert f"class: AUROC {found.auroc}, chance is 0.5" in found.unusable
    assert any(said.startswith("mask: a place decides OK images about as often") for said in found.unusable)


def test_a_class_that_is_never_found_is_named() -> None:
    rows = [row for row in GOOD if row[0] != "pit"]
    never = judged([*rows, *[("pit", 0.2, False)] * 10])
    assert never.unusable == ["class pit: none of 10 is decided a defect"]
    assert never.lines()[-1] == "not usable: class pit: none of 10 is decided a defect"
    hardly = judged([*rows, ("pit", 0.8, True), *[("pit", 0.2, False)] * 9])
    assert hardly.unusable == ["class pit: only 1 of 10 are decided a defect"]
    assert judged(rows).unusable == ["class pit: not known without images of it"]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "nothing is known without test images"),
        ([("ok", 0.1, False)] * 5, "class: not known without images of OK and of defects"),
        ([("ok", 0.1, False), ("crack", 0.9, True)] * 2, "class: AUROC 1.00 (1.00 to 1.00) of so few images"),
        ([("ok", 0.1, False), ("crack", 0.2, False)] * 9, "mask: not known, since no image is decided a defect"),
        ([("ok", 0.9, True), ("crack", 0.95, True)] * 9, "class ok: none of 9 is decided OK"),
    ],
)  # fmt: skip
def test_what_cannot_be_known_is_not_taken_for_usable(rows: list[tuple[str, float, bool]], said: str) -> None:
    assert said in " ".join(judged(rows).unusable)


def test_a_card_keeps_it() -> None:
    found = judged([*GOOD, ("ok", 0.9, True)])
    card = CARD.replace(usable=found.as_dict())
    assert ModelCard.from_json(card.to_json()) == card
    assert card.unusable == ()
    assert ModelCard.from_json(CARD.to_json()).unusable == ()
    bad = CARD.replace(usable=judged([]).as_dict())
    assert ModelCard.from_json(bad.to_json()).unusable == ("nothing is known without test images",)
    assert CARD.replace(usable={"unusable": "none"}).unusable == ()


def test_a_class_that_the_model_does_not_know_is_refused() -> None:
    with pytest.raises(LrpEdgeError, match=r"class 'dent' of the data is not one of the model's: crack, ok, pit"):
        judged([("dent", 0.9, True)])
