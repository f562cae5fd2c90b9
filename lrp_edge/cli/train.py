"""``lrp-edge train``: folders of OK and defect images to a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from lrp_edge.learning import Figures
    from lrp_edge.training import TrainingResult


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("train")(train)


def train(
    data: Annotated[Path, typer.Argument(help="Folder with a folder of images for each class.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for checkpoint, card, split and metrics.")],
    ok_class: Annotated[str | None, typer.Option(help="Class without defect; by default known by its name.")] = None,
    variant: Annotated[Literal["A", "B", "D", "E"], typer.Option(help="VGG-11, 13, 16 or 19.")] = "A",
    width: Annotated[float, typer.Option(help="Factor on the channels of each convolution.")] = 0.25,
    pools: Annotated[int, typer.Option(min=1, max=5, help="Poolings kept; the features' stride is 2^pools.")] = 5,
    pooling: Annotated[Literal["gem", "average", "max"], typer.Option(help="Global pooling.")] = "gem",
    power: Annotated[float, typer.Option(min=1, help="Power of the generalised mean (gem).")] = 3.0,
    dropout: Annotated[float, typer.Option(min=0, max=0.99, help="Dropout before the linear layer.")] = 0.1,
    mark_epochs: Annotated[int, typer.Option(min=0, help="Passes of the first lesson, drawn marks.")] = 18,
    mark_patch: Annotated[int, typer.Option(min=32, help="Side of its windows in pixels.")] = 128,
    epochs: Annotated[int, typer.Option(min=1, help="Passes of as many windows as images.")] = 30,
    patch: Annotated[int, typer.Option(min=32, help="Side of a window in pixels, at native resolution.")] = 192,
    batch: Annotated[int, typer.Option(min=2, help="Windows in one step.")] = 16,
    lr: Annotated[float, typer.Option(help="Peak learning rate.")] = 2e-3,
    weight_decay: Annotated[float, typer.Option(min=0, help="Weight decay.")] = 1e-2,
    label_smoothing: Annotated[float, typer.Option(min=0, max=0.99, help="Label smoothing.")] = 0.05,
    guided: Annotated[float, typer.Option(min=0, max=1, help="Share of windows chosen by evidence.")] = 0.5,
    look_every: Annotated[int, typer.Option(min=1, help="Epochs between two looks for evidence.")] = 3,
    look_from: Annotated[int, typer.Option(min=0, help="First epoch with a look for evidence.")] = 4,
    balance: Annotated[float, typer.Option(min=0, max=1, help="0: images as they occur; 1: classes alike.")] = 0.5,
    channels: Annotated[Literal["auto", "gray", "color"], typer.Option(help="Channels of the network.")] = "auto",
    val: Annotated[float, typer.Option(min=0, max=0.9, help="Share of images for validation.")] = 0.1,
    test: Annotated[float, typer.Option(min=0, max=0.9, help="Share of images for the test.")] = 0.3,
    precision: Annotated[Literal["auto", "fp32", "bf16"], typer.Option(help="Numeric type of the training.")] = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0,
    workers: Annotated[int, typer.Option(min=0, help="Processes that read images.")] = 0,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out files that are no images.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the model in the folder.")] = False,
    progress: Annotated[bool, typer.Option(help="Show a progress bar.")] = True,
) -> None:
    """Train a classifier from folders of OK and defect images."""
    given: dict[str, Any] = dict(locals())
    import dataclasses

    from lrp_edge.training import Options
    from lrp_edge.training import train as run

    options = Options(**{field.name: given[field.name] for field in dataclasses.fields(Options)})
    result = run(data, output, options, ok_class=ok_class, skip_bad=skip_bad, overwrite=overwrite, progress=progress)
    typer.echo(_report(result))


def _report(result: TrainingResult) -> str:
    parts = {"validation": result.val, "test": result.test}
    lines = [_row(name, figures) for name, figures in parts.items() if figures]
    return "\n".join(
        [
            *lines,
            f"trained in {result.seconds:.0f} s: {result.checkpoint}",
            f"next: lrp-edge export {result.checkpoint} -o {result.checkpoint.parent / 'export'}",
        ]
    )


def _row(name: str, figures: Figures) -> str:
    auroc = "none, one kind only" if figures.auroc is None else f"{figures.auroc:.4f}"
    recall = ", ".join(f"{cls} {'-' if value is None else f'{value:.3f}'}" for cls, value in figures.recall.items())
    return (
        f"{name} ({figures.images} images): accuracy {figures.accuracy:.4f}, "
        f"AUROC OK against defect {auroc}, recall {recall}"
    )
