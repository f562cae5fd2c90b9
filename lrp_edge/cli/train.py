"""``lrp-edge train``: folders of OK and defect images to a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lrp_edge.cli.options import Data, command
from lrp_edge.options import Common, DataOptions, OptionGroup, like, option
from lrp_edge.training.options import Options, options_from, read_config

if TYPE_CHECKING:
    from lrp_edge.training import Figures, TrainingResult


def register(app: typer.Typer) -> None:
    """Add the verb."""
    command(app, "train", train)


@dataclass(frozen=True)
class TrainOptions(OptionGroup):
    """Which data to train on, and where to."""

    output: Path = option(
        help="Folder for checkpoint, card, split and figures.", flag="--output", short="-o", metavar="FOLDER"
    )
    config: Path | None = option(
        None, "TOML file of these options, as a run leaves; flags come before it.", metavar="FILE"
    )
    split: Path | None = like(Common, "split")
    ok_class: str | None = like(Common, "ok_class")
    overwrite: bool = option(False, "Replace the model in the folder.")
    resume: bool = option(False, "Go on after an interruption.")
    progress: bool = option(True, "Show a progress bar.")


def train(options: TrainOptions, images: DataOptions, given: Annotated[dict[str, Any], Options], data: Data) -> None:
    """Train a classifier from folders of OK and defect images; masks are read for a U-Net alone."""
    from lrp_edge.datasets import open_dataset
    from lrp_edge.training.run import train as run

    output = options.output
    file = output / "config.toml" if options.resume and options.config is None else options.config
    values = read_config(file) if file else {}
    result = run(
        open_dataset(data, **vars(images)),
        output,
        options_from(values | given, str(file or "command line")),
        split_file=output / "split.json" if options.resume else options.split,
        ok_class=options.ok_class,
        overwrite=options.overwrite,
        resume=options.resume,
        progress=options.progress,
    )
    typer.echo(_report(result))


def _report(result: TrainingResult) -> str:
    parts = {"validation": result.val, "test": result.test}
    lines = [_row(name, figures) for name, figures in parts.items() if figures]
    if result.card.decision:
        from lrp_edge.decision import describe

        lines.append(describe(result.card.decision))
    lines.append(f"trained in {result.seconds:.0f} s: {result.checkpoint}")
    known = result.card.architecture
    if known["family"] != "unet":
        factory = f"{known['factory']} --weights " if "factory" in known else ""
        lines.append(f"next: lrp-edge export {factory}{result.checkpoint} -o {result.checkpoint.parent / 'export'}")
    if result.usability:
        *figures, verdict = result.usability.lines()
        lines = [*figures, *lines, verdict]
    return "\n".join(lines)


def _row(name: str, figures: Figures) -> str:
    auroc = "none, one kind only" if figures.auroc is None else f"{figures.auroc:.4f}"
    recall = ", ".join(f"{cls} {'-' if value is None else f'{value:.3f}'}" for cls, value in figures.recall.items())
    return (
        f"{name} ({figures.images} images): accuracy {figures.accuracy:.4f}, "
        f"AUROC OK against defect {auroc}, recall {recall}"
    )
