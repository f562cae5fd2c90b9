"""``lrp-edge sweep``: composites × mask heads × smoothing, as a sorted table and a heat map."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lrp_edge.card import COMPOSITES, EXPLAINED, MASK_HEADS, SMOOTHINGS
from lrp_edge.cli.options import Checkpoint, Data, Masks, Part, SplitFile, command


def register(app: typer.Typer) -> None:
    """Add the verb."""
    command(app, "sweep", sweep)


def sweep(
    checkpoint: Checkpoint,
    data: Data,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for sweep.csv and sweep.png.")],
    composites: Annotated[
        str, typer.Option(help=f"Composites by comma, of {', '.join(COMPOSITES)}.")
    ] = "Segmentation,EpsilonPlusFlat,EpsilonPlus,EpsilonAlpha2Beta1Flat",
    heads: Annotated[
        str,
        typer.Option(
            help=f"Mask heads by semicolon: NAME or NAME:PARAMETER=NUMBER of {', '.join(MASK_HEADS)}, or card."
        ),
    ] = "card;fixed;otsu;isodata;gmm",
    smoothings: Annotated[
        str, typer.Option(help=f"Smoothings by comma, of {', '.join(SMOOTHINGS)}.")
    ] = "none,gaussian:2,guided:9,guided:17",
    explain: Annotated[
        str | None,
        typer.Option(help=f"What is explained: {', '.join(EXPLAINED)} or a class name (default: the card's)."),
    ] = None,
    split: SplitFile = None,
    part: Part = "val",
    masks: Masks = None,
    truth: Annotated[Path | None, typer.Option(hidden=True)] = None,
) -> None:
    """Measure all combinations of composite, mask head and smoothing; relevance is computed once a composite.

    Choose on the part val, and state results on the part test.
    """
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

    from lrp_edge.datasets import open_dataset, read_split
    from lrp_edge.errors import LrpEdgeError
    from lrp_edge.evaluation.sweep import as_csv, draw_heat_map
    from lrp_edge.evaluation.sweep import sweep as measure
    from lrp_edge.files import claim_folder, whole, write_text

    masks = masks or truth
    if masks and not masks.is_dir():
        raise LrpEdgeError(f"{masks}: no such folder of pixel truth; mask heads are given with --heads")
    folder = claim_folder(output)
    dataset = open_dataset(data, masks=masks)
    chosen = read_split(split, dataset)._asdict()[part] if split else dataset
    with Progress(transient=True) as bar:
        task = bar.add_task("images", total=None)
        rows = measure(
            checkpoint,
            chosen,
            composites=composites.split(","),
            masks=heads.split(";"),
            smoothings=smoothings.split(","),
            explained=explain,
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
