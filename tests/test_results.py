"""The experiments behind docs/results.md, from folders of images to the page, on a drawn line with the tiles' names."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from lrp_edge import synthetic
from lrp_edge.cli import app
from lrp_edge.evaluation import evaluate
from lrp_edge.training.options import options_from, read_config
from tools.results import page as page_program
from tools.results import pictures, plan, runs, tables
from tools.results.plan import NETWORKS, Run

DOCS = Path(__file__).parents[1] / "docs"
NAMES = {"ok": "MT_Free", "blowhole": "MT_Blowhole", "crack": "MT_Crack"}
WINDOWS = """
epochs = 2
look_from = 1
val_every = 2
mark_epochs = 1
batch = 8
patch = 64
lr = 5e-3
ema = 0.8
"""
STARTED = 'weights = "none"\nwidth = 0.1\nepochs = 2\nval_every = 1\n'
CONFIGS = {
    "image": f'model = "vgg"\nwidth = 0.08\n{WINDOWS}',
    "pixel-pretrained": f'model = "unet:efficientnet_lite0"\npatch = 64\n{STARTED}',
    "pixel": f'model = "unet"\nwidth = 0.08\nstem = 2\n{WINDOWS}',
}


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """Run what is said to the command line in this process; return it."""
    store = tmp_path / "docs" / "results"
    store.mkdir(parents=True)
    shutil.copy(DOCS / "results" / "page.md", store)
    for name, text in CONFIGS.items():
        (store / f"{name}.toml").write_text(text)
    words: list[tuple[str, ...]] = []

    def lrp_edge(*arguments: object) -> None:
        words.append(tuple(map(str, arguments)))
        CliRunner().invoke(app, words[-1], catch_exceptions=False)

    monkeypatch.setattr(runs, "lrp_edge", lrp_edge)
    monkeypatch.setattr(plan, "DOCS", store.parent)
    monkeypatch.setattr(plan, "SEEDS", (0,))
    monkeypatch.chdir(tmp_path)
    return words


@pytest.fixture(autouse=True)
def one_thread() -> Sequence[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


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


def test_each_network_has_its_configuration() -> None:
    assert {path.stem for path in (DOCS / "results").glob("*.toml")} == set(NETWORKS)
    for name, network in NETWORKS.items():
        assert options_from(read_config(DOCS / "results" / f"{name}.toml"), name).supervision == network.supervision


def test_the_page_states_what_was_measured(said: list[tuple[str, ...]], tmp_path: Path) -> None:
    data, store = write_tiles(tmp_path / "tiles", 12), plan.DOCS / "results"
    for only in ("random-image-0", "random-pixel*"):
        runs.run_all(data, 1, ["random"], only)
    assert [pictures.can_draw(split) for split in plan.SPLITS] == [True, False]
    with pytest.raises(SystemExit, match="no classifier of the grouped split was measured yet"):
        pictures.draw_masks(data, "grouped", store / "none.png")
    pictures.draw_masks(data, "random", store / "masks-random.png")
    text = page_program.page()
    figures = {path.stem: json.loads(path.read_text()) for path in store.glob("*.json")}
    assert len(figures) == sum(len(NETWORKS[name].masks) for name in CONFIGS)
    for name, content in figures.items():
        network = next(key for key in sorted(NETWORKS, key=len, reverse=True) if name.startswith(f"random-{key}-"))
        assert content["supervision"] == NETWORKS[network].supervision
        assert "cases" not in content
        # Of so few OK images no budget can be promised.
        assert content["budgets"] == {rate: {"recall": None, "false_alarms": None} for rate in ("0.05", "0.02")}
    again = evaluate(Run("random", "image", 0).checkpoint, data, split=plan.RUNS / "random.json")
    kinds = [*NAMES.values(), "all defects", "all images"][1:]
    for title, key in (("IoU", "iou"), ("F1 within 2 px", "f1_near"), ("boundary F1", "boundary_f1")):
        row = " | ".join(f"{getattr(again.pixels[kind], key):.3f}" for kind in kinds)
        assert f"| LRP | VGG-A, from scratch | image | {title} | {row} |" in text
    assert f"| VGG-A, from scratch | image | {again.auroc:.3f} |" in text
    assert f"trained at commit {runs.head()}" in text
    for picture in ("sizes.png", "learning.png", "masks-random.png"):
        assert f"(results/{picture})" in text
        assert cv2.imread(str(store / picture)) is not None

    before = {path: path.stat().st_mtime_ns for path in store.glob("*.json")}
    said.clear()
    for only in ("random-image-0", "random-pixel*"):
        runs.run_all(data, 1, ["random"], only)
    assert not said
    assert before == {path: path.stat().st_mtime_ns for path in store.glob("*.json")}

    # What was measured before a figure was stated is measured anew, without another training.
    run = Run("random", "image", 0)
    for path in (run.stored("lrp"), run.folder / "lrp-test.json"):
        content = json.loads(path.read_text())
        del content["tolerance"]
        path.write_text(json.dumps(content))
    assert runs.state(run) == "to be measured"
    runs.run_all(data, 1, ["random"], "random-image-0")
    assert [words[0] for words in said] == ["evaluate"]
    anew, before_it = json.loads(run.stored("lrp").read_text()), figures["random-image-lrp-0"]
    assert anew | {"milliseconds": 0} == before_it | {"milliseconds": 0}


def test_an_interrupted_training_is_resumed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said: list[tuple[object, ...]] = []
    monkeypatch.setattr(runs, "lrp_edge", lambda *words: said.append(words))
    monkeypatch.setattr(plan, "DOCS", tmp_path / "docs")
    monkeypatch.chdir(tmp_path)
    run = Run("random", "image", 0)
    assert runs.state(run) == "to be trained, about 20 min on one core"
    run.folder.mkdir(parents=True)
    (run.folder / "resume.ckpt").touch()
    assert runs.state(run).startswith("begun, ")
    with pytest.raises(FileNotFoundError):
        runs.run_one(tmp_path, run)
    assert said[0][0] == "train"
    assert said[0][-1] == "--resume"


def test_runs_are_chosen_by_name() -> None:
    assert [run.name for run in plan.planned(["grouped"], "*-pixel*-1")] == [
        "grouped-pixel-pretrained-1",
        "grouped-pixel-1",
    ]
    assert len({run.name for run in plan.planned()}) == 2 * 3 * len(NETWORKS)
    assert [run.seed for run in plan.planned(["random"], "random-image-[0-9]")] == [0, 1, 2]


def case(label: str, score: float, iou: float | None = None) -> dict[str, object]:
    return {"label": label, "score": score, "iou": iou}


def test_budgets_are_kept_on_new_ok_images() -> None:
    """The share of false alarms is at most the budget on average, and the most that so many images can promise."""
    draw, rates = np.random.default_rng(0), []
    for _ in range(400):
        calm = [case("ok", score) for score in draw.random(99)]
        test = [case("ok", score) for score in draw.random(200)] + [
            case("crack", score) for score in draw.random(50) + 0.5
        ]
        found = runs.budgets([*calm, case("crack", 2.0)], test, ["crack"])
        rates.append([found[key]["false_alarms"] for key in ("0.05", "0.02")])
        assert found["0.05"]["recall"] >= found["0.02"]["recall"] > 0  # type: ignore[operator]
    np.testing.assert_allclose(np.mean(rates, axis=0), [0.05, 0.02], atol=0.004)
    few = runs.budgets([case("ok", 0.1)] * 19, [case("ok", 0.2), case("crack", 0.3)], ["crack"])
    assert few == {"0.05": {"recall": 1.0, "false_alarms": 1.0}, "0.02": {"recall": None, "false_alarms": None}}


def test_the_best_the_median_and_the_worst() -> None:
    cases = [case("b", 0, iou) for iou in (0.1, 0.9, 0.5)] + [case("a", 0, 0.2), case("ok", 0)]
    found = [(rank, each["label"], each["iou"]) for rank, each in pictures.ranked(cases)]
    assert found == [
        ("best", "a", 0.2), ("median", "a", 0.2), ("worst", "a", 0.2),
        ("best", "b", 0.9), ("median", "b", 0.5), ("worst", "b", 0.1),
    ]  # fmt: skip


def stored(iou: float, auroc: float) -> dict[str, object]:
    pixels = {kind: {"iou": iou, "auroc_per_image": auroc} for kind in ("MT_Blowhole", "MT_Crack", "all defects")}
    return {"auroc": auroc, "pixels": pixels, "budgets": {"0.05": {"recall": 0.97, "false_alarms": 0.04}}}


def test_masks_are_compared_with_the_better_unet(tmp_path: Path) -> None:
    found = {
        "random-image-pretrained-lrp-0": stored(0.5, 0.995),
        "random-image-pretrained-lrp-1": stored(0.3, 0.985),
        "random-pixel-lrp-0": stored(0.2, 0.9),
        "random-pixel-pretrained-lrp-0": stored(0.5, 0.9),
    }
    ratios = list(tables.ratio_table(found, "random"))
    row = "| LRP | EfficientNet-Lite0, pretrained | image | {} | {} |"
    for base, share in (
        ("U-Net, pretrained encoder", "0.80"),
        ("U-Net, from scratch", "2.00"),
        ("the better U-Net", "0.80"),
    ):
        assert row.format(base, " | ".join([share] * 3)) in ratios
    claims = "\n".join(tables.claim_table(found, "random"))
    for asked, value, met in (
        ("class AUROC ≥ 0.99", "0.990 ± 0.007", "yes"),
        ("recall at a budget of 5% ≥ 0.95", "0.970 ± 0.000", "yes"),
        ("MT_Crack: IoU ≥ 0.8 × the better U-Net's", "0.80 ×", "yes"),
        ("MT_Blowhole: IoU ≥ 1.0 × the better U-Net's", "0.80 ×", "no"),
        ("MT_Blowhole: IoU ≥ 1.5 × that of the U-Net from scratch", "2.00 ×", "yes"),
    ):
        assert f"| {asked} | EfficientNet-Lite0, pretrained | image | {value} | {met} |" in claims
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{page_program.START}old\n{page_program.END}after\n")
    page_program.write_readme(readme, found)
    text = readme.read_text()
    assert "| EfficientNet-Lite0, pretrained, random split | 2 | 0.990 ± 0.007 | 0.400 ± 0.141 (0.80 ×) |" in text
    assert (text.startswith("before\n"), text.endswith("after\n"), "old" in text) == (True, True, False)
    readme.write_text("no place")
    with pytest.raises(SystemExit, match="0 places for the figures"):
        page_program.write_readme(readme, found)


def test_the_page_in_the_project_is_that_of_its_figures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shutil.copytree(DOCS / "results", tmp_path / "docs" / "results")
    monkeypatch.setattr(plan, "DOCS", tmp_path / "docs")
    assert page_program.page() == (DOCS / "results.md").read_text()
    shutil.copy(DOCS.parent / "README.md", tmp_path)
    page_program.write_readme(tmp_path / "README.md", page_program.stored())
    assert (tmp_path / "README.md").read_text() == (DOCS.parent / "README.md").read_text()
