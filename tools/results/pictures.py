"""Pictures of the page. None of them shows a pixel of the data's images: those may not be passed on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lrp_edge.datasets import open_dataset, read_mask
from lrp_edge.evaluation import open_predictor
from tools.results.plan import LRP, NETWORKS, UNET, Run
from tools.results.tables import groups

#: No date and no version: the same figures give the same bytes.
_PLAIN = {"metadata": {"Software": None}, "dpi": 90}
RANKS = ("best", "median", "worst")


def draw_sizes(runs: dict[str, Any], split: str, path: Path) -> None:
    """Draw the IoU of each defect image over the area of its defects, a panel for each network."""
    panels = [group for group in groups(runs, split) if group.is_trained]
    figure = Figure(figsize=(4 * len(panels), 4), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axis, group in zip(axes, panels, strict=True):
        for label in group.runs[0]["defects"]:
            shown = [size for run in group.runs for size in run["sizes"] if size["label"] == label]
            axis.scatter([s["area"] for s in shown], [s["iou"] for s in shown], 8, alpha=0.6, label=label[3:])
        axis.set(title=_title(group), xscale="log", xlabel="defective pixels of the image")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("IoU of its mask")
    figure.legend(*axes[-1].get_legend_handles_labels(), loc="outside upper center", ncols=5)
    figure.savefig(path, **_PLAIN)


def draw_learning(runs: dict[str, Any], split: str, path: Path) -> None:
    """Plot validation metrics over the minutes of training: a panel for each network, a line a seed."""
    panels = [group for group in groups(runs, split) if group.is_trained]
    figure = Figure(figsize=(4 * len(panels), 3), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, group in zip(axes, panels, strict=True):
        name = "val_iou" if group.mask == UNET else "val_auroc"
        for run in group.runs:
            minutes = run["training_seconds"] / 60 / run["epochs"]
            points = [(entry["epoch"] * minutes, entry[name]) for entry in run["validation"]]
            axis.plot(*zip(*points, strict=True), marker="o")
        label = "pixel IoU" if group.mask == UNET else "class AUROC"
        axis.set(title=_title(group), ylim=(0, 1), xlabel="minutes of training", ylabel=f"validation {label}")
        axis.grid(alpha=0.3)
    figure.savefig(path, **_PLAIN)


def _title(group: Any) -> str:
    return f"{group.mask}, {group.network.supervision}\n{group.network.title}"


def draw_masks(data: Path, split: str, path: Path) -> None:
    """Draw masks of trained networks on test images: of each class the best, the median and the worst.

    The images are chosen by the IoU of the first network's LRP mask, and the masks of the others are of the same ones.
    What is drawn is the mask as an area and the truth as an outline, on white.

    Raises
    ------
    SystemExit
        If no classifier was measured on the split with the first seed.
    """
    if not can_draw(split):
        raise SystemExit(f"no classifier of the {split} split was measured yet: python -m tools.results runs DATA")
    runs = _measured(split)
    chosen = next(run for run in runs if LRP in NETWORKS[run.network].masks.values())
    cases = json.loads((chosen.folder / "lrp-test.json").read_text())["cases"]
    rows = list(ranked(cases))
    dataset = open_dataset(data)
    samples = dict(zip(dataset.names, dataset.samples, strict=True))
    figure = Figure(figsize=(1.2 * len(rows), 1.5 * len(runs)), layout="constrained")
    axes = figure.subplots(len(runs), len(rows), squeeze=False)
    for run, line in zip(runs, axes, strict=True):
        predictor = open_predictor(run.checkpoint)
        for axis, (rank, case) in zip(line, rows, strict=True):
            sample = samples[case["name"]]
            mask = predictor(sample.read(predictor.card.input.order)).mask > 0
            title = f"{case['label'][3:]}, {rank}\n" if run == chosen else ""
            _draw_mask(axis, mask, read_mask(sample, mask.shape), title)
        network = NETWORKS[run.network]
        line[0].set_ylabel(f"{network.masks['lrp']}, {network.supervision}\n{network.title}", fontsize=7)
    figure.savefig(path, **_PLAIN)


def can_draw(split: str) -> bool:
    """Whether a classifier was measured on a split, with the first seed."""
    return any(LRP in NETWORKS[run.network].masks.values() for run in _measured(split))


def _measured(split: str) -> list[Run]:
    return [run for name in NETWORKS if ((run := Run(split, name, 0)).folder / "lrp-test.json").exists()]


def ranked(cases: Sequence[Any]) -> list[tuple[str, Any]]:
    """Return the best, the median and the worst case of each class by IoU, and what it is."""
    found = []
    measured = sorted((case for case in cases if case["iou"] is not None), key=lambda case: -case["iou"])
    for label in sorted({case["label"] for case in measured}):
        own = [case for case in measured if case["label"] == label]
        found += list(zip(RANKS, (own[0], own[len(own) // 2], own[-1]), strict=True))
    return found


def _draw_mask(axis: Any, mask: NDArray[np.bool_], truth: NDArray[np.bool_], title: str) -> None:
    shown = np.ones((*mask.shape, 3))
    shown[mask] = (0.98, 0.65, 0.35)
    axis.imshow(shown)
    if truth.any() and not truth.all():
        axis.contour(truth, [0.5], colors="tab:blue", linewidths=0.8)
    iou = (mask & truth).sum() / max((mask | truth).sum(), 1)
    axis.set_title(f"{title}{iou:.2f}", fontsize=7)
    axis.set(xticks=[], yticks=[])
