"""``lrp-edge calibrate``: set a checkpoint's mask head anew, from OK images alone, without training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lrp_edge.cli.options import Checkpoint, Data, Declared, SplitFile, command
from lrp_edge.training.options import Options


def register(app: typer.Typer) -> None:
    """Add the verb."""
    command(app, "calibrate", calibrate)


def calibrate(
    checkpoint: Checkpoint,
    data: Data,
    false_alarms: Annotated[float, Declared(Options, "false_alarms")],
    area_classes: Annotated[str, Declared(Options, "area_classes")],
    seed: Annotated[int, Declared(Options, "seed")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File for the new checkpoint (default: in place).")
    ] = None,
    split: SplitFile = None,
) -> None:
    """Choose smoothing, threshold, outline, areas and floor of the mask from images that were not trained on.

    With --split, those of its validation part are taken. No pixel truth is read.
    """
    from lrp_edge.card import MaskSpec
    from lrp_edge.checkpoint import load_checkpoint, save_checkpoint
    from lrp_edge.datasets import open_dataset, read_split
    from lrp_edge.errors import LrpEdgeError
    from lrp_edge.training.calibration import calibrated

    network, card = load_checkpoint(checkpoint)
    if card.architecture.get("family") == "unet":
        raise LrpEdgeError(f"{checkpoint} is a U-Net, which has no mask head; give a classifier")
    dataset = open_dataset(data)
    part = read_split(split, dataset).val if split else dataset
    options = Options(area_classes=area_classes)
    bare = card.replace(mask=MaskSpec(area_classes=options.named_areas))
    mask = calibrated(network, bare, part, false_alarms, seed, find_areas=area_classes == "auto")
    save_checkpoint(output or checkpoint, network, card.replace(mask=mask))
    parameters = ", ".join(f"{name} {value:.3g}" for name, value in mask.parameters.items())
    typer.echo(f"{output or checkpoint}: {mask.method} after {mask.smoothing}, {parameters}\n{mask.found}")
