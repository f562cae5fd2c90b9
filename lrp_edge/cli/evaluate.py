"""``lrp-edge evaluate``: an exported file against labels and pixel truth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from lrp_edge.evaluation import Evaluation


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("evaluate")(evaluate)


def evaluate(
    model: Annotated[Path, typer.Argument(help="A file that lrp-edge export wrote.")],
    data: Annotated[Path, typer.Argument(help="Folder with a folder of images for each class.")],
    split: Annotated[Path | None, typer.Option(help="split.json of a training run.")] = None,
    part: Annotated[str, typer.Option(help="Part of the split: train, val or test.")] = "test",
    masks: Annotated[Path | None, typer.Option(help="Folder with pixel truth under the images' names.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all figures here.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write the tables here.")] = None,
) -> None:
    """Measure classes and masks of an exported model."""
    from rich.progress import Progress

    from lrp_edge.datasets import open_dataset
    from lrp_edge.evaluation import evaluate as measure

    dataset = open_dataset(data)
    with Progress(transient=True) as bar:
        task = bar.add_task("images", total=None)
        result = measure(model, dataset, split=split, part=part, masks=masks, progress=lambda: bar.advance(task))
    _print(result)
    for path, text in ((json_file, result.to_json()), (markdown, result.to_markdown())):
        if path is not None:
            path.write_text(text)


def _print(result: Evaluation) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.print(
        f"{result.images} images: class AUROC {result.auroc:.3f}, accuracy {result.accuracy:.3f}, "
        f"OK/defect {result.defect_accuracy:.3f}, engine {result.milliseconds:.1f} ms"
    )
    classes = Table("class", "recall", *result.classes, title="true class by row, decided class by column")
    for name, row in zip(result.classes, result.confusion, strict=True):
        classes.add_row(name, f"{result.recall[name]:.2f}", *map(str, row))
    console.print(classes)
    if not result.pixels:
        return
    pixels = Table("defect", "images", "pixel AUROC", "per image", "IoU", "F1", "precision", "recall")
    for name, part in result.pixels.items():
        values = (part.auroc, part.auroc_per_image, part.iou, part.f1, part.precision, part.recall)
        pixels.add_row(name, str(part.images), *(f"{value:.3f}" for value in values))
    console.print(pixels)
