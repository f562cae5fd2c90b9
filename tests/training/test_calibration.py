"""The decision of a classifier: its own answers to OK images, put in order."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from scipy.special import logit

from lrp_edge.card import DecisionSpec, InputSpec, ModelCard
from lrp_edge.classifiers import build
from lrp_edge.datasets import open_dataset
from lrp_edge.decision import MARGIN
from lrp_edge.training.calibration import decided
from tests.support.images import write_folder

CARD = ModelCard(
    ("hole", "ok"),
    ("hole",),
    InputSpec("GRAY", (0.5,), (0.2,), network_order="GRAY"),
    architecture={"family": "vgg", "channels": 1, "classes": 2, "width": 0.05, "pools": 3},
)


def network(bias: float = 0.0) -> torch.nn.Module:
    torch.manual_seed(0)
    model = build(CARD.architecture).eval()
    with torch.no_grad():
        model.head.weight.mul_(100)
        model.head.bias[0] += bias
    return model


def test_the_threshold_is_that_of_the_network_s_own_answers(tmp_path: Path) -> None:
    data = open_dataset(write_folder(tmp_path / "data", {"ok": 50, "hole": 4}))
    model, found = network(), []
    for path in sorted((tmp_path / "data" / "ok").iterdir()):
        gray = torch.from_numpy(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)).float()
        with torch.no_grad():
            found.append(float(model(((gray / 255 - 0.5) / 0.2)[None, None]).softmax(1)[0, 0]))
    spec = decided(model, CARD, data, 0.04)
    assert np.ptp(found) > 0
    assert logit(spec.threshold) == pytest.approx(logit(sorted(found)[-2]) + MARGIN, abs=1e-4)
    assert (spec.images, spec.promised, spec.seen) == (50, 0.04, 0.02)
    assert spec.found == "split-conformal, from 50 OK images that were not trained on"


def test_too_few_images_get_the_least_rate_that_they_allow(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = open_dataset(write_folder(tmp_path / "data", {"ok": 6, "hole": 2}))
    spec = decided(network(), CARD, data, 0.02)
    assert (spec.images, spec.promised, spec.seen) == (6, 0.143, 0)
    assert capsys.readouterr().err == (
        "lrp-edge: warning: a false-alarm rate of 0.02 needs 49 OK images for validation, and 6 allow 0.143 at least, "
        "which is taken: give more with --val, or set it on others with lrp-edge calibrate\n"
    )


@pytest.mark.parametrize(("ok", "bias", "why"), [(0, 0, "there are no OK images"), (60, 80, "60 of 60 OK images have")])
def test_without_a_threshold_that_keeps_the_rate_it_is_one_half(
    ok: int, bias: float, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = open_dataset(write_folder(tmp_path / "data", {"ok": max(ok, 1), "hole": 2}))
    part = data if ok else data.subset(np.flatnonzero(data.labels == data.classes.index("hole")))
    spec = decided(network(bias), CARD, part, 0.02)
    assert spec == DecisionSpec(found=spec.found)
    assert spec.found.startswith(f"not calibrated: {why}")
    assert capsys.readouterr().err.startswith("lrp-edge: warning: the decision is not calibrated, its threshold is 0.5")
