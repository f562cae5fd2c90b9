"""The experiments behind docs/results.md, from folders of images to the page, on a drawn line with the tiles' names."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import ModuleType

import cv2
import pytest

from lrp_edge import synthetic
from lrp_edge.evaluation import evaluate
from tools import results as results_program

DOCS = Path(__file__).parents[1] / "docs"
NAMES = {"ok": "MT_Free", "blowhole": "MT_Blowhole", "crack": "MT_Crack"}
COMMON = """
epochs = 4
look_from = 1
look_every = 2
val_every = 2
mark_epochs = 1
batch = 8
patch = 64
lr = 5e-3
ema = 0.8
"""
CONFIGS = {
    "image": "width = 0.08\n",
    "patch": 'width = 0.08\nclicks = "runs/results/clicks.csv"\n',
    "pixel": 'width = 0.08\nmodel = "unet"\nstem = 2\n',
}


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    store = tmp_path / "docs" / "results"
    store.mkdir(parents=True)
    shutil.copy(DOCS / "results" / "page.md", store)
    for name, text in CONFIGS.items():
        (store / f"{name}.toml").write_text(text + COMMON)
    monkeypatch.setattr(results_program, "HERE", store.parent)
    monkeypatch.setattr(results_program, "STORE", store)
    monkeypatch.setattr(results_program, "SEEDS", (0,))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    return results_program


def write_tiles(root: Path, count: int) -> Path:
    """Draw parts in the layout of the magnetic tiles."""
    for kind, name in NAMES.items():
        folder = root / name / "Imgs"
        folder.mkdir(parents=True)
        for seed in range(count):
            image, mask = synthetic.draw(kind, seed, (80, 96))
            cv2.imwrite(str(folder / f"exp1_num_{seed}.jpg"), image)
            cv2.imwrite(str(folder / f"exp1_num_{seed}.png"), mask)
    return root


def test_the_page_states_what_was_measured(results: ModuleType, tmp_path: Path) -> None:
    data = write_tiles(tmp_path / "tiles", 12)
    results.run_all(data, 2, ["random"])
    page = results.page()
    stored = {path.stem: json.loads(path.read_text()) for path in results.STORE.glob("*.json")}
    assert len(stored) == sum(map(len, results.NETWORKS.values()))
    for name, content in stored.items():
        assert name.startswith(f"random-{content['supervision']}-")
        assert "cases" not in content
    checkpoint = results.RUNS / "random-image-0" / "model.safetensors"
    again = evaluate(checkpoint, data, split=results.RUNS / "random.json")
    kinds = [*NAMES.values(), "all defects", "all images"][1:]
    row = " | ".join(f"{again.pixels[kind].iou:.3f}" for kind in kinds)
    assert f"| LRP | image | IoU | {row} |" in page
    assert f"| VGG-A | image | {again.auroc:.3f} |" in page
    assert f"trained at commit {results.head()}" in page
    for picture in ("sizes.png", "learning.png"):
        assert f"(results/{picture})" in page
        assert cv2.imread(str(results.STORE / picture)) is not None
    before = {path: path.stat().st_mtime_ns for path in results.STORE.glob("*.json")}
    results.run_all(data, 1, ["random"])
    assert before == {path: path.stat().st_mtime_ns for path in results.STORE.glob("*.json")}
