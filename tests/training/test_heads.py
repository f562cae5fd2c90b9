"""Heads fitted to synthetic defects, with relevance that is what relevance is like: wider than the defect."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from scipy import ndimage

from lrp_edge.card import InputSpec, MaskSpec, ModelCard
from lrp_edge.datasets import open_dataset
from lrp_edge.relevance.masks import OUTLINE, MaskHead, local_extent
from lrp_edge.synthetic import draw
from lrp_edge.training import heads
from lrp_edge.training.calibration import calibrated
from lrp_edge.training.synthetic_defects import draw_defects

CLASSES = ("ok", "pit", "worn")
CARD = ModelCard(CLASSES, CLASSES[1:], InputSpec("GRAY", (0.5,), (0.2,), network_order="GRAY"))


def drawn(kind, seed, reach=9, side=128):
    """One defect on a drawn surface, and its outline widened as relevance would be."""
    surface = torch.from_numpy(draw("ok", seed, (side, side))[0]).float()[None]
    image, (strength,), _ = draw_defects(surface, np.random.default_rng(seed), (kind,), fewest=1, most=1)
    truth = strength[None] > heads.OUTLINE * strength.max()
    wide = ndimage.gaussian_filter(ndimage.maximum_filter(strength.numpy(), reach), reach / 3)
    return heads.SyntheticDefect(kind, truth, torch.from_numpy(wide)[None], image)


def detected(kinds, count=3):
    return [each for each in (drawn(kind, seed) for kind in kinds for seed in range(count)) if each.truth.any()]


def iou(defect, mask):
    return float((mask & defect.truth).sum() / (mask | defect.truth).sum())


def test_an_outline_is_found_to_pay_for_fine_defects():
    defects = detected(heads.FINE)
    spec, best = heads.fit_outline(defects)
    blurred = {name: value for name, value in spec.parameters.items() if name not in OUTLINE}

    def mean_iou(chosen):
        head = MaskHead(chosen)
        by_kind = [
            [iou(each, head(each.relevance, each.guide)) for each in defects if each.kind is kind]
            for kind in heads.FINE
        ]
        return np.mean([np.mean(row) for row in by_kind])

    assert any(outline.items() <= spec.parameters.items() for outline in heads.OUTLINES[1:])
    assert best == pytest.approx(mean_iou(spec), abs=1e-6)
    assert best > mean_iou(MaskSpec(spec.method, blurred, spec.smoothing)) + 0.05


def test_areas_are_filled():
    defects = detected(heads.LARGE)
    # Relevance of a large area lies at its border, and here and there inside.
    for defect in defects:
        edge = ndimage.morphological_gradient(defect.truth[0].numpy().astype(np.float32), 5)
        defect.relevance.copy_(torch.from_numpy(ndimage.gaussian_filter(edge, 2))[None])
    parameters, best = heads.fit_area(defects, "none")
    assert parameters["area_close"] > 0
    filled = MaskHead(MaskSpec("otsu", parameters, area_classes=("worn",)))
    found = [iou(each, filled(each.relevance, each.guide, torch.tensor([True]))) for each in defects]
    assert best == pytest.approx(np.mean(found), abs=1e-6)
    bare = MaskHead(MaskSpec("otsu", {**parameters, "area_close": 0.0}, area_classes=("worn",)))
    assert best > 1.3 * np.mean([iou(each, bare(each.relevance, each.guide, torch.tensor([True]))) for each in defects])


def of_extents(kind, values):
    """Defects of a kind whose relevance fills so many pixels, row by row."""
    for value in values:
        relevance = torch.zeros(1, 63, 63)
        relevance.view(-1)[: int(value)] = 1
        yield heads.SyntheticDefect(kind, relevance > 0, relevance, relevance)


def test_limits_of_extents_lie_between_fine_defects_and_areas():
    crack, (area,) = heads.FINE[1], heads.LARGE
    fine, large = (
        list(of_extents(kind, range(*span))) for kind, span in ((crack, (400, 500, 10)), (area, (1500, 1600, 10)))
    )
    found = [np.array([float(local_extent(each.relevance)) for each in kind]) for kind in (fine, large)]
    limits = heads.extents(fine, large)
    assert found[0].max() < limits[0] < found[1].min()
    assert limits[0] == pytest.approx(np.sqrt(np.median(found[0]) * np.median(found[1])))
    assert limits[1] == pytest.approx(np.quantile(found[1], 0.1))
    MaskHead(MaskSpec(parameters={"area_extent": limits[1]}))
    # Neither an outlier nor what has no relevance moves the limit far.
    strays = [*of_extents(crack, [1590, 0, 0]), *of_extents(area, [0, 0])]
    assert heads.extents([*fine, *strays[:3]], [*large, *strays[3:]])[0] == pytest.approx(limits[0], rel=0.02)


def test_no_limit_where_nothing_tells_areas_from_cracks():
    crack, (area,) = heads.FINE[1], heads.LARGE
    fine, large = (list(of_extents(kind, range(400, 900, 50))) for kind in (crack, area))
    assert heads.extents(fine, large) == (np.inf, np.inf)
    few = list(of_extents(area, [1500, 1600]))
    assert heads.extents(list(of_extents(crack, [400, 500, 450])), few) == (np.inf, np.inf)
    assert heads.extents(list(of_extents(crack, [9])), []) == (np.inf, heads.EXTENT_WINDOW**2 / 2)
    silent = list(of_extents(crack, [0, 0]))
    assert heads.extents(silent, large) == (np.inf, heads.EXTENT_WINDOW**2 / 2)


def test_kinds_take_turns_and_are_drawn_again_alike():
    frames = [(torch.from_numpy(draw("ok", seed, (96, 128))[0])[None], 0) for seed in range(3)]
    first, second = (list(heads.synthetic_defects(Scripted(CARD), frames, 7)) for _ in range(2))
    assert {defect.kind for defect in first} == {*heads.FINE, *heads.LARGE}
    assert all(torch.equal(a.truth, b.truth) and a.kind is b.kind for a, b in zip(first, second, strict=True))
    assert all(defect.truth.shape == defect.relevance.shape == (1, 96, 96) for defect in first)


class Scripted:
    """Calls what has dark or bright pixels a defect, and gives relevance there."""

    def __init__(self, card):
        self.card = card

    def explain(self, batch):
        gray = batch.float().mean(3)
        relevance = (gray - gray.median()).abs()
        label = 1 if float(relevance.max()) > 25 else 0
        return torch.eye(len(self.card.classes))[[label]], relevance.clamp(min=20) - 20

    def decision(self, logits):
        return logits.argmax(1)

    def decided_defect(self, label):
        return torch.tensor([self.card.classes[index] in self.card.defects for index in label])

    def eval(self):
        return self


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """OK surfaces; pits of six pixels; worn areas of half the surface."""
    root = tmp_path_factory.mktemp("line")
    for name in CLASSES:
        (root / name).mkdir()
    for seed in range(6):
        random = np.random.default_rng(seed)
        ok, pit, worn = (random.normal(120, 2, (128, 128)) for _ in range(3))
        cv2.circle(pit, tuple(random.integers(20, 100, 2).tolist()), 3, 40, -1)
        worn[:, : 40 + seed] -= 60
        for name, image in zip(CLASSES, (ok, pit, worn), strict=True):
            cv2.imwrite(str(root / name / f"{seed}.png"), image.clip(0, 255).astype(np.uint8))
    return open_dataset(root)


def calibrated_with(dataset, monkeypatch, named=(), **options):
    monkeypatch.setattr("lrp_edge.training.calibration.Deployable", lambda model, card, size: Scripted(card))
    card = CARD.replace(mask=MaskSpec(area_classes=named))
    return calibrated(SimpleNamespace(cpu=lambda: SimpleNamespace(eval=lambda: None)), card, dataset, 0.01, **options)


def test_area_classes_are_found_from_labels(dataset, monkeypatch):
    spec = calibrated_with(dataset, monkeypatch)
    assert spec.area_classes == ("worn",)
    assert "area classes by labels" in spec.found
    assert {"area_fraction", "area_close", "floor"} <= spec.parameters.keys()


def test_a_person_s_word_holds(dataset, monkeypatch):
    spec = calibrated_with(dataset, monkeypatch, named=("pit",))
    assert spec.area_classes == ("pit",)
    assert "area classes as named" in spec.found


def test_without_area_classes_the_frame_tells(dataset, monkeypatch):
    fine_only = dataset.subset(np.flatnonzero(np.asarray(dataset.labels) != 2))
    spec = calibrated_with(fine_only, monkeypatch)
    assert spec.area_classes == ()
    assert spec.parameters["area_extent"] >= 1
    assert "areas by the frame" in spec.found
    none = calibrated_with(fine_only, monkeypatch, find_areas=False)
    assert not {"area_extent", "area_fraction"} & none.parameters.keys()
