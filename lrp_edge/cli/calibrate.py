"""``lrp-edge calibrate``: calibrate a checkpoint's mask head again from OK images alone, without training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import typer

from lrp_edge.cli.options import Checkpoint, Data, command
from lrp_edge.options import Common, OptionGroup, like, option
from lrp_edge.training.options import Options


def register(app: typer.Typer) -> None:
    """Add the verb."""
    command(app, "calibrate", calibrate)


@dataclass(frozen=True)
class CalibrateOptions(OptionGroup):
    """How to calibrate a mask head again."""

    output: Path | None = option(None, "File for the new checkpoint.", usual="in place", short="-o", metavar="FILE")
    split: Path | None = like(Common, "split")
    false_alarms: float = like(Options, "false_alarms")
    seed: int = like(Options, "seed")


def calibrate(checkpoint: Checkpoint, data: Data, options: CalibrateOptions) -> None:
    """Choose smoothing, method, spread and floor of the mask from OK images that were not trained on.

    With --split, those of its validation part are taken.
    """
    from lrp_edge.card import MaskSpec
    from lrp_edge.checkpoint import load_checkpoint, save_checkpoint
    from lrp_edge.datasets import open_dataset, read_split
    from lrp_edge.errors import LrpEdgeError
    from lrp_edge.training.calibration import calibrated
    from lrp_edge.training.usability import shown

    network, card = load_checkpoint(checkpoint)
    if card.architecture.get("family") == "unet":
        raise LrpEdgeError(f"{checkpoint} is a U-Net, which has no mask head; give a classifier")
    dataset = open_dataset(data)
    part = read_split(options.split, dataset).val if options.split else dataset
    mask = calibrated(network, card.replace(mask=MaskSpec()), part, options.false_alarms, options.seed)
    card, said = (
        card.replace(mask=mask),
        ["usability is what it was: there are no images of defects to measure it on"],
    )
    if any(sample.label in card.defects for sample in part.samples):
        images = "validation images" if options.split else "images"
        card, usability = shown(network, card, part, images, options.seed)
        said = usability.lines()
    output = options.output or checkpoint
    save_checkpoint(output, network, card)
    parameters = ", ".join(f"{name} {value:.3g}" for name, value in mask.parameters.items())
    typer.echo(f"{output}: {mask.method} after {mask.smoothing}, {parameters}\n{mask.found}")
    typer.echo("\n".join(said))
