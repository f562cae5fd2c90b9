"""``lrp-edge train``: folders of OK and defect images to a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from lrp_edge.cli.options import command

if TYPE_CHECKING:
    from lrp_edge.training import Figures, TrainingResult


def register(app: typer.Typer) -> None:
    """Add the verb."""
    command(app, "train", train)


def train(
    context: typer.Context,
    data: Annotated[Path, typer.Argument(help="A folder for each class, magnetic tiles, or a table (CSV).")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for checkpoint, card, split and figures.")],
    config: Annotated[
        Path | None, typer.Option(help="TOML file of these options, as a run leaves; flags come before it.")
    ] = None,
    split: Annotated[Path | None, typer.Option(help="split.json of a run or of lrp-edge data split.")] = None,
    ok_class: Annotated[str | None, typer.Option(help="Class without defect; by default known by its name.")] = None,
    masks: Annotated[Path | None, typer.Option(help="Folder with pixel truth, for --model unet alone.")] = None,
    model: Annotated[str, typer.Option(help="vgg, module:factory, or unet: the baseline with masks.")] = "vgg",
    variant: Annotated[Literal["A", "B", "D", "E"], typer.Option(help="VGG-11, 13, 16 or 19.")] = "A",
    width: Annotated[float, typer.Option(help="Factor on the channels of each convolution.")] = 0.25,
    stem: Annotated[int, typer.Option(min=1, max=2, help="Stride of the first convolution.")] = 1,
    pools: Annotated[int, typer.Option(min=1, max=5, help="Poolings kept; the stride is stem · 2^pools.")] = 3,
    pooling: Annotated[Literal["gem", "average", "max", "lse"], typer.Option(help="Global pooling.")] = "lse",
    power: Annotated[float, typer.Option(min=1, help="Power of the generalised mean (gem).")] = 3.0,
    dropout: Annotated[float, typer.Option(min=0, max=0.99, help="Dropout before the linear layer.")] = 0.1,
    weights: Annotated[str, typer.Option(help="Local file of weights to start from.")] = "",
    clicks: Annotated[str, typer.Option(help="File of clicks on defects: windows are cut around them.")] = "",
    epochs: Annotated[int, typer.Option(min=1, help="Passes of as many windows as images.")] = 70,
    patch: Annotated[int, typer.Option(min=32, help="Side of a window in pixels, at native resolution.")] = 128,
    batch: Annotated[int, typer.Option(min=2, help="Windows in one step.")] = 24,
    lr: Annotated[float, typer.Option(help="Peak learning rate.")] = 1.5e-3,
    weight_decay: Annotated[float, typer.Option(min=0, help="Weight decay.")] = 1e-2,
    label_smoothing: Annotated[float, typer.Option(min=0, max=0.99, help="Label smoothing.")] = 0.0,
    balance: Annotated[float, typer.Option(min=0, max=1, help="0: images as they occur; 1: classes alike.")] = 0.5,
    guided: Annotated[float, typer.Option(min=0, max=1, help="Share of windows chosen by evidence.")] = 0.8,
    look_every: Annotated[int, typer.Option(min=1, help="Epochs between two looks for evidence.")] = 6,
    look_from: Annotated[int, typer.Option(min=0, help="First epoch with a look for evidence.")] = 6,
    mark_epochs: Annotated[int, typer.Option(min=0, help="First epochs, mostly with drawn marks.")] = 12,
    mark_share: Annotated[float, typer.Option(min=0, max=0.99, help="Share of drawn marks after them.")] = 0.15,
    mark_surface: Annotated[
        Literal["data", "synthetic"], typer.Option(help="Draw marks on OK images or on drawn surfaces.")
    ] = "data",
    ema: Annotated[float, typer.Option(min=0, max=0.99999, help="Decay of the running average; 0: none.")] = 0.995,
    patience: Annotated[int, typer.Option(min=0, help="Stop after so many validations without gain; 0: never.")] = 0,
    val_every: Annotated[int, typer.Option(min=1, help="Epochs from one validation to the next.")] = 10,
    standardise: Annotated[bool, typer.Option(help="Bring each frame to mean 0 and deviation 1.")] = True,
    channels: Annotated[Literal["auto", "gray", "color"], typer.Option(help="Channels of the network.")] = "auto",
    val: Annotated[float, typer.Option(min=0, max=0.9, help="Share of images for validation.")] = 0.1,
    test: Annotated[float, typer.Option(min=0, max=0.9, help="Share of images for the test.")] = 0.3,
    precision: Annotated[
        Literal["auto", "fp32", "bf16", "fp16"], typer.Option(help="Numeric type of the training.")
    ] = "auto",
    devices: Annotated[int, typer.Option(min=0, help="Devices to train on; 0: all.")] = 1,
    false_alarms: Annotated[
        float, typer.Option(min=0, max=0.99, help="Share of the pixels of OK images that may be masked.")
    ] = 0.001,
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0,
    workers: Annotated[int, typer.Option(min=0, help="Processes that read images.")] = 0,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out files that are no images.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the model in the folder.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on after an interruption.")] = False,
    progress: Annotated[bool, typer.Option(help="Show a progress bar.")] = True,
) -> None:
    """Train a classifier from folders of OK and defect images."""
    given: dict[str, Any] = dict(locals())
    import dataclasses

    from lrp_edge.datasets import open_dataset
    from lrp_edge.training import Options
    from lrp_edge.training import train as run
    from lrp_edge.training.options import options_from, read_config

    file = output / "config.toml" if resume and config is None else config
    values = read_config(file) if file else {}
    for field in dataclasses.fields(Options):
        source = context.get_parameter_source(field.name)
        if field.name not in values or (source is not None and source.name != "DEFAULT"):
            values[field.name] = given[field.name]
    result = run(
        open_dataset(data, masks=masks, skip_bad=skip_bad),
        output,
        options_from(values, str(file or "command line")),
        split_file=output / "split.json" if resume else split,
        ok_class=ok_class,
        overwrite=overwrite,
        resume=resume,
        progress=progress,
    )
    typer.echo(_report(result))


def _report(result: TrainingResult) -> str:
    parts = {"validation": result.val, "test": result.test}
    lines = [_row(name, figures) for name, figures in parts.items() if figures]
    lines.append(f"trained in {result.seconds:.0f} s: {result.checkpoint}")
    if result.card.architecture["family"] == "vgg":
        lines.append(f"next: lrp-edge export {result.checkpoint} -o {result.checkpoint.parent / 'export'}")
    return "\n".join(lines)


def _row(name: str, figures: Figures) -> str:
    auroc = "none, one kind only" if figures.auroc is None else f"{figures.auroc:.4f}"
    recall = ", ".join(f"{cls} {'-' if value is None else f'{value:.3f}'}" for cls, value in figures.recall.items())
    return (
        f"{name} ({figures.images} images): accuracy {figures.accuracy:.4f}, "
        f"AUROC OK against defect {auroc}, recall {recall}"
    )
