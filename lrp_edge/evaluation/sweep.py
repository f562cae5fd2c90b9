"""Composites × mask heads × smoothing on one checkpoint, relevance computed once for each composite."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from lrp_edge.card import MaskSpec
from lrp_edge.datasets import Dataset, read_mask
from lrp_edge.errors import LrpEdgeError, needs_extra
from lrp_edge.evaluation.options import SweepOptions
from lrp_edge.evaluation.pixels import ratio
from lrp_edge.options import accepted

with needs_extra("evaluate"):
    from sklearn.metrics import roc_auc_score
with needs_extra("export"):
    import torch

    from lrp_edge.checkpoint import load_checkpoint
    from lrp_edge.export.deployable import Deployable
    from lrp_edge.relevance.masks import HEADS, MaskHead


@dataclass(frozen=True)
class Row:
    """One combination: its IoU, F1, precision and recall pooled over defect images, and the pixel AUROC per image."""

    composite: str
    mask: str
    smoothing: str
    iou: float
    f1: float
    precision: float
    recall: float
    auroc_per_image: float


def sweep(
    checkpoint: str | Path,
    dataset: Dataset,
    *,
    composites: Sequence[str] = SweepOptions.composites,
    masks: Sequence[str] = SweepOptions.heads,
    smoothings: Sequence[str] = SweepOptions.smoothings,
    explained: str | None = None,
    progress: Callable[[], None] = lambda: None,
) -> list[Row]:
    """Measure all combinations on the defect images that have pixel truth.

    Parameters
    ----------
    checkpoint : path
        A classifier.
    dataset : Dataset
        Images with pixel truth. Choose on validation images, not on those that results are stated for.
    composites, masks, smoothings : sequence of str
        What is combined. A mask head is a name, or the name and its parameters, ``"fixed:fraction=0.2"``;
        ``"card"`` is the head of the checkpoint's card, with its own threshold.
    explained : str, optional
        Explained class; by default the card's.
    progress : callable
        Called after each image of each composite.

    Returns
    -------
    list of Row
        Best IoU first.

    Raises
    ------
    LrpEdgeError
        If a name is unknown, the checkpoint cannot be read, or no defect image has pixel truth.
    """
    accepted(SweepOptions, composites=composites, heads=masks, smoothings=smoothings, explained=explained)
    network, card = load_checkpoint(checkpoint)
    chosen = [sample for sample in dataset.samples if sample.label in card.defects and sample.mask]
    if not chosen:
        raise LrpEdgeError("a sweep needs defect images with pixel truth, and there is none; give --masks")
    heads = {(mask, smooth): MaskHead(_spec(mask, smooth, card.mask)) for mask, smooth in product(masks, smoothings)}
    rows = []
    for composite in composites:
        own = card.replace(composite=composite, composite_parameters={})
        deployable = Deployable(network, own, (128, 128), explained=explained).eval()
        counts = {key: np.zeros(3, np.int64) for key in heads}
        aurocs: dict[str, list[float]] = {smooth: [] for smooth in smoothings}
        for sample in chosen:
            frame = torch.from_numpy(sample.read(card.input.order)[None])
            with torch.no_grad():
                logits, relevance = deployable.explain(frame)
                guide, areas = frame.float().mean(3), deployable.is_area[logits.argmax(1)]
                truth = read_mask(sample, tuple(relevance.shape[1:]))  # type: ignore[arg-type]
                for smooth in smoothings:
                    values = heads[masks[0], smooth].smooth(relevance, guide)[0].numpy()
                    if truth.any() and not truth.all():
                        aurocs[smooth].append(float(roc_auc_score(truth.ravel(), values.ravel())))
                for key, head in heads.items():
                    found = head(relevance, guide, areas)[0].numpy()
                    counts[key] += [(found & truth).sum(), (found & ~truth).sum(), (~found & truth).sum()]
            progress()
        rows += [_row(composite, *key, count, aurocs[key[1]]) for key, count in counts.items()]
    return sorted(rows, key=lambda row: -row.iou)


def _spec(mask: str, smoothing: str, own: MaskSpec) -> MaskSpec:
    if mask == "card":
        return replace(own, smoothing=smoothing)
    name, _, given = mask.partition(":")
    if name not in HEADS:
        raise LrpEdgeError(f"no mask head {name!r}; expected some of {', '.join(HEADS)}, or card")
    try:
        pairs = [part.split("=") for part in given.split(",") if part]
        return MaskSpec(name, {key: float(value) for key, value in pairs}, smoothing)
    except ValueError:
        raise LrpEdgeError(f"mask head {mask!r}; expected NAME or NAME:PARAMETER=NUMBER") from None


def _row(composite: str, mask: str, smoothing: str, count: Any, aurocs: list[float]) -> Row:
    inside, alarms, missed = (int(value) for value in count)
    return Row(
        composite,
        mask,
        smoothing,
        ratio(inside, inside + alarms + missed),
        ratio(2 * inside, 2 * inside + alarms + missed),
        ratio(inside, inside + alarms),
        ratio(inside, inside + missed),
        float(np.mean(aurocs)) if aurocs else float("nan"),
    )


def as_csv(rows: Sequence[Row]) -> str:
    """Return the rows as a table with a header."""
    names = list(asdict(rows[0]))
    lines = [
        ",".join(f"{value:.5f}" if isinstance(value, float) else value for value in asdict(r).values()) for r in rows
    ]
    return "\n".join([",".join(names), *lines]) + "\n"


def draw_heat_map(rows: Sequence[Row], path: Path) -> None:
    """Draw IoU, composites by row, mask head and smoothing by column, as a PNG."""
    with needs_extra("evaluate"):
        from matplotlib.figure import Figure
    composites = list(dict.fromkeys(row.composite for row in rows))
    columns = sorted({(row.mask, row.smoothing) for row in rows})
    values = np.zeros((len(composites), len(columns)))
    for row in rows:
        values[composites.index(row.composite), columns.index((row.mask, row.smoothing))] = row.iou
    figure = Figure(figsize=(2.5 + 0.6 * len(columns), 1.8 + 0.5 * len(composites)), layout="constrained")
    axes = figure.subplots()
    picture = axes.imshow(values, cmap="viridis", vmin=0, aspect="auto")
    axes.set_xticks(range(len(columns)), [f"{mask} · {smooth}" for mask, smooth in columns], rotation=45, ha="right")
    axes.set_yticks(range(len(composites)), composites)
    for (i, j), value in np.ndenumerate(values):
        colour = "white" if value < values.max() / 2 else "black"
        axes.text(j, i, f"{value:.2f}", ha="center", va="center", color=colour)
    figure.colorbar(picture, label="pooled IoU")
    figure.savefig(path, format="png", dpi=120)
