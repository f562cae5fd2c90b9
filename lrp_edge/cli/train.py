"""``lrp-edge train``: folders of OK and defect images to a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lrp_edge.cli.options import Data, Masks, OkClass, SplitFile, command
from lrp_edge.training.options import Options, options_from, read_config

if TYPE_CHECKING:
    from lrp_edge.training import Figures, TrainingResult


def register(app: typer.Typer) -> None:
    """Add the verb."""
    command(app, "train", train, Options)


def train(
    given: dict[str, Any],
    data: Data,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for checkpoint, card, split and figures.")],
    config: Annotated[
        Path | None, typer.Option(help="TOML file of these options, as a run leaves; flags come before it.")
    ] = None,
    split: SplitFile = None,
    ok_class: OkClass = None,
    masks: Masks = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out files that are no images.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the model in the folder.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on after an interruption.")] = False,
    progress: Annotated[bool, typer.Option(help="Show a progress bar, in a terminal.")] = True,
) -> None:
    """Train a classifier from folders of OK and defect images; masks are read for --model unet alone."""
    from lrp_edge.datasets import open_dataset
    from lrp_edge.training.run import train as run

    file = output / "config.toml" if resume and config is None else config
    values = read_config(file) if file else {}
    result = run(
        open_dataset(data, masks=masks, skip_bad=skip_bad),
        output,
        options_from(values | given, str(file or "command line")),
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
    known = result.card.architecture
    if known["family"] != "unet":
        factory = f"{known['factory']} --weights " if "factory" in known else ""
        lines.append(f"next: lrp-edge export {factory}{result.checkpoint} -o {result.checkpoint.parent / 'export'}")
    return "\n".join(lines)


def _row(name: str, figures: Figures) -> str:
    auroc = "none, one kind only" if figures.auroc is None else f"{figures.auroc:.4f}"
    recall = ", ".join(f"{cls} {'-' if value is None else f'{value:.3f}'}" for cls, value in figures.recall.items())
    return (
        f"{name} ({figures.images} images): accuracy {figures.accuracy:.4f}, "
        f"AUROC OK against defect {auroc}, recall {recall}"
    )
