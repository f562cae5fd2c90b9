"""``lrp-edge evaluate``: a model against labels and pixel truth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lrp_edge.cli.options import Data, Json, Masks, Part, SplitFile, command, write_json

if TYPE_CHECKING:
    from lrp_edge.evaluation import Evaluation


def register(app: typer.Typer) -> None:
    """Add the verb."""
    command(app, "evaluate", evaluate)


def evaluate(
    model: Annotated[Path, typer.Argument(help="A checkpoint, or a file that lrp-edge export wrote.")],
    data: Data,
    method: Annotated[
        Literal["lrp", "gradcam", "inverted-gray"], typer.Option(help="How a checkpoint's masks are made.")
    ] = "lrp",
    split: SplitFile = None,
    part: Part = "test",
    masks: Masks = None,
    false_alarm_rate: Annotated[
        float, typer.Option(min=0, max=1, help="Share of OK images at which recall is stated.")
    ] = 0.05,
    sanity: Annotated[
        bool, typer.Option("--sanity", help="Also shuffle a checkpoint's weights, and explain another defect.")
    ] = False,
    report: Annotated[Path | None, typer.Option(help="Folder for a page with curves and cases.")] = None,
    json_file: Json = None,
    markdown: Annotated[Path | None, typer.Option(help="Write the tables here.")] = None,
) -> None:
    """Measure classes and masks of a model."""
    from rich.progress import Progress

    from lrp_edge.datasets import open_dataset, read_split
    from lrp_edge.errors import LrpEdgeError
    from lrp_edge.evaluation import evaluate as measure
    from lrp_edge.evaluation import open_predictor
    from lrp_edge.files import write_text

    if sanity and (model.suffix != ".safetensors" or method != "lrp"):
        raise LrpEdgeError("--sanity shuffles the weights of a classifier: give its checkpoint, and --method lrp")
    predictor = open_predictor(model, method)
    dataset = open_dataset(data, masks=masks)
    with Progress(transient=True) as bar:
        task = bar.add_task("images", total=None)
        result = measure(
            predictor,
            dataset,
            split=split,
            part=part,
            false_alarm_rate=false_alarm_rate,
            progress=lambda: bar.advance(task),
        )
        if sanity:
            from lrp_edge.evaluation.sanity import check_sanity

            chosen = read_split(split, dataset)._asdict()[part] if split else dataset
            result.sanity = check_sanity(model, chosen)
    if json_file != "-":
        _print(result)
    if report is not None:
        from lrp_edge.evaluation.report import write_report

        page = write_report(report, result, predictor, dataset, f"{data.name}: {method}", model.name)
        if json_file != "-":
            typer.echo(f"next: open {page}")
    write_json(json_file, result.to_json())
    if markdown is not None:
        write_text(markdown, result.to_markdown())


def _print(result: Evaluation) -> None:
    from dataclasses import asdict

    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.print(
        f"{result.images} images: class AUROC {result.auroc:.3f}, accuracy {result.accuracy:.3f}, "
        f"OK/defect {result.defect_accuracy:.3f}, recall {result.recall_at_rate:.3f} at "
        f"{result.false_alarm_rate:.0%} false alarms, {result.milliseconds:.1f} ms an image"
    )
    classes = Table("class", "recall", *result.classes, title="true class by row, decided class by column")
    for name, row in zip(result.classes, result.confusion, strict=True):
        classes.add_row(name, f"{result.recall[name]:.2f}", *map(str, row))
    console.print(classes)
    if result.pixels:
        parts = {name: asdict(part) for name, part in result.pixels.items()}
        pixels = Table("", *parts, title="masks against pixel truth")
        for figure in next(iter(parts.values())):
            values = [part[figure] for part in parts.values()]
            said = [str(value) if isinstance(value, int) else f"{value:.3f}" for value in values]
            pixels.add_row(figure.replace("_", " "), *said)
        console.print(pixels)
        console.print(
            "severity, rank correlation of truth and mask: "
            + ", ".join(f"{name} {value:.2f}" for name, value in result.severity.items())
        )
    if result.sanity:
        console.print("sanity: " + ", ".join(f"{name} {value:.3f}" for name, value in result.sanity.items()))
