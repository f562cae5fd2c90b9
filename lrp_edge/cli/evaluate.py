"""``lrp-edge evaluate``: a model against labels and pixel truth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lrp_edge.cli.options import Data, command, write_json
from lrp_edge.evaluation.options import EvaluateOptions
from lrp_edge.options import Common, DataOptions, OptionGroup, like, option

if TYPE_CHECKING:
    from lrp_edge.evaluation import Evaluation


def register(app: typer.Typer) -> None:
    """Add the verb."""
    command(app, "evaluate", evaluate)


@dataclass(frozen=True)
class ReportOptions(OptionGroup):
    """What is made of the figures."""

    sanity: bool = option(False, "Also shuffle a checkpoint's weights, and explain another defect.")
    report: Path | None = option(None, "Folder for a page with curves and cases.", metavar="FOLDER")
    json: str | None = like(Common, "json")
    markdown: Path | None = option(None, "Write the tables here.", metavar="FILE")


def evaluate(
    model: Annotated[Path, typer.Argument(help="A checkpoint, or a file that lrp-edge export wrote.")],
    data: Data,
    images: DataOptions,
    options: EvaluateOptions,
    output: ReportOptions,
) -> None:
    """Measure classes and masks of a model."""
    from rich.progress import Progress

    from lrp_edge.datasets import open_dataset, read_split
    from lrp_edge.errors import LrpEdgeError
    from lrp_edge.evaluation import evaluate as measure
    from lrp_edge.evaluation import open_predictor
    from lrp_edge.files import write_text

    if output.sanity and (model.suffix != ".safetensors" or options.method != "lrp"):
        raise LrpEdgeError("--sanity shuffles the weights of a classifier: give its checkpoint, and --method lrp")
    predictor = open_predictor(model, options.method)
    dataset = open_dataset(data, **vars(images))
    with Progress(transient=True) as bar:
        task = bar.add_task("images", total=None)
        result = measure(predictor, dataset, progress=lambda: bar.advance(task), **vars(options))
        if output.sanity:
            from lrp_edge.evaluation.sanity import check_sanity

            chosen = read_split(options.split, dataset)._asdict()[options.part] if options.split else dataset
            result.sanity = check_sanity(model, chosen)
    if output.json != "-":
        _print(result)
    if output.report is not None:
        from lrp_edge.evaluation.report import write_report

        page = write_report(output.report, result, predictor, dataset, f"{data.name}: {options.method}", model.name)
        if output.json != "-":
            typer.echo(f"next: open {page}")
    write_json(output.json, result.to_json())
    if output.markdown is not None:
        write_text(output.markdown, result.to_markdown())


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
    for line in result.usability.lines() if result.usability else ():
        console.print(line, highlight=False)
