"""Each layout of data goes all the way: found, trained on for an epoch, and measured with pixel figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from lrp_edge.datasets import open_dataset
from lrp_edge.evaluation import evaluate
from lrp_edge.training import Options, train
from tests.support.layouts import LAYOUTS

pytestmark = pytest.mark.usefixtures("few_drawn_defects")
QUICK = Options(model="vgg", epochs=1, width=0.05, pools=2, patch=32, batch=4, mark_epochs=0, val_every=1)


@pytest.mark.parametrize("name", LAYOUTS)
def test_an_epoch_and_its_figures(name: str, tmp_path: Path) -> None:
    LAYOUTS[name][1](tmp_path / "data", 6)
    dataset = open_dataset(tmp_path / "data")
    result = train(dataset, tmp_path / "run", QUICK, progress=False)
    found = evaluate(result.checkpoint, dataset, split=tmp_path / "run" / "split.json", part="test")
    assert result.test is not None
    assert found.images == result.test.images > 2
    if name == "YOLO":
        # It has no pixel truth.
        assert not found.pixels
    else:
        assert {"all defects", "all images"} < found.pixels.keys()
        assert 0 <= found.pixels["all defects"].iou <= 1
