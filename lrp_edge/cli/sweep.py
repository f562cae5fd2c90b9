"""``lrp-edge sweep``: composites × mask heads × smoothing, as a sorted table and a heat map."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import typer

from lrp_edge.cli.options import Checkpoint, Data, command
from lrp_edge.evaluation.options import SweepOptions
from lrp_edge.options import Common, DataOptions, OptionGroup, like, option


def register(app: typer.Typer) -> None:
    """Add the verb."""
    command(app, "sweep", sweep)


@dataclass(frozen=True)
class ImageOptions(OptionGroup):
    """Which images to sweep over, and where to."""

    output: Path = option(help="Folder for sweep.csv and sweep.png.", short="-o", metavar="FOLDER")
    split: Path | None = like(Common, "split")
    part: Literal["train", "val", "test"] = like(Common, "part", "val")


@dataclass(frozen=True)
class SweepData(DataOptions, panel="Data"):
    """How the images are read."""

    masks: Path | None = like(DataOptions, "masks", former="--truth")


def sweep(checkpoint: Checkpoint, data: Data, images: SweepData, where: ImageOptions, options: SweepOptions) -> None:
    """Measure all combinations of composite, mask head and smoothing; relevance is computed once a composite.

    Choose on the part val, and state results on the part test.
    """
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

    from lrp_edge.datasets import open_dataset, read_split
    from lrp_edge.evaluation.sweep import as_csv, draw_heat_map
    from lrp_edge.evaluation.sweep import sweep as measure
    from lrp_edge.files import claim_folder, whole, write_text

    folder = claim_folder(where.output)
    dataset = open_dataset(data, **vars(images))
    chosen = read_split(where.split, dataset)._asdict()[where.part] if where.split else dataset
    with Progress(transient=True) as bar:
        task = bar.add_task("images", total=None)
        rows = measure(
            checkpoint,
            chosen,
            composites=options.composites,
            masks=options.heads,
            smoothings=options.smoothings,
            explained=options.explained,
            progress=lambda: bar.advance(task),
        )
    write_text(folder / "sweep.csv", as_csv(rows))
    with whole(folder / "sweep.png") as partial:
        draw_heat_map(rows, partial)
    table = Table("composite", "mask", "smoothing", "IoU", "F1", "precision", "recall", "pixel AUROC per image")
    for row in rows[:20]:
        values = (row.iou, row.f1, row.precision, row.recall, row.auroc_per_image)
        table.add_row(row.composite, row.mask, row.smoothing, *(f"{value:.3f}" for value in values))
    Console().print(table)
    typer.echo(f"{folder / 'sweep.csv'}, {folder / 'sweep.png'}: {len(rows)} combinations, best IoU first")
