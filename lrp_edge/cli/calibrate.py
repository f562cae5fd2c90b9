"""``lrp-edge calibrate``: set a model's decision and mask head anew, from OK images alone, without training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from lrp_edge.cli.options import Declared, SplitFile, command
from lrp_edge.errors import LrpEdgeError
from lrp_edge.runtime.config import Line, TilesTable
from lrp_edge.training.options import Options


def register(app: typer.Typer) -> None:
    """Add the verb."""
    command(app, "calibrate", calibrate)


def calibrate(
    model: Annotated[Path, typer.Argument(help="A classifier that lrp-edge train left, or an exported .onnx file.")],
    false_alarm_rate: Annotated[float, Declared(Options, "false_alarm_rate")],
    false_alarms: Annotated[float, Declared(Options, "false_alarms")],
    seed: Annotated[int, Declared(Options, "seed")],
    tile: Annotated[Any, Declared(TilesTable, "size")],
    overlap: Annotated[float, Declared(TilesTable, "overlap")],
    vote: Annotated[Any, Declared(TilesTable, "vote")],
    provider: Annotated[Any, Declared(Line, "provider")],
    data: Annotated[
        Path | None, typer.Argument(help="Of a classifier: a folder for each class, magnetic tiles, or a table (CSV).")
    ] = None,
    ok_frames: Annotated[
        str, typer.Option(help="Of an exported file: OK frames, as a folder, glob or video.", metavar="FRAMES")
    ] = "",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File for the new model (default: in place).")
    ] = None,
    split: SplitFile = None,
) -> None:
    """Set a model's threshold by a budget of false alarms, from OK images that were not trained on.

    Of a classifier smoothing, method, spread and floor of the mask are chosen anew too; with --split, from the images
    of its validation part. An exported file needs no training extra: a device sets it from its line's own good parts.
    """
    if model.suffix in (".onnx", ".engine"):
        if data is not None or not ok_frames:
            raise LrpEdgeError(f"{model} is an exported file; give its OK frames with --ok-frames FOLDER")
        tiles = TilesTable(size=tile, overlap=overlap, vote=vote)
        _exported(model, ok_frames, false_alarm_rate, output, tiles, provider)
    else:
        if data is None or ok_frames:
            raise LrpEdgeError(f"{model} is a classifier; give its data behind it: lrp-edge calibrate {model} DATA")
        _classifier(model, data, false_alarm_rate, false_alarms, seed, output, split)


def _exported(
    model: Path, ok_frames: str, rate: float, output: Path | None, tiles: TilesTable, provider: str | None
) -> None:
    from lrp_edge.decision import describe
    from lrp_edge.runtime.calibrate import calibrate_file, engines_of

    card = calibrate_file(model, ok_frames, rate, output=output, tiles=tiles, provider=provider)
    assert card.decision is not None
    typer.echo(f"{output or model}: {describe(card.decision)}")
    for rebuild in engines_of(model) if output in (None, model) else ():
        typer.echo(f"an engine beside it has the threshold before; build it again: {rebuild}")


def _classifier(
    checkpoint: Path, data: Path, rate: float, false_alarms: float, seed: int, output: Path | None, split: Path | None
) -> None:
    from lrp_edge.card import MaskSpec
    from lrp_edge.checkpoint import load_checkpoint, save_checkpoint
    from lrp_edge.datasets import open_dataset, read_split
    from lrp_edge.decision import describe
    from lrp_edge.training.calibration import calibrated, decided

    network, card = load_checkpoint(checkpoint)
    if card.architecture.get("family") == "unet":
        raise LrpEdgeError(f"{checkpoint} is a U-Net, which has no mask head; give a classifier")
    dataset = open_dataset(data)
    part = read_split(split, dataset).val if split else dataset
    if not set(part.labels) & set(card.ok_indices):
        where = f"the validation part of {split}" if split else str(data)
        raise LrpEdgeError(f"{where} has no OK images to calibrate on; give some, or another --split")
    decision = decided(network, card, part, rate)
    mask = calibrated(network, card.replace(decision=decision, mask=MaskSpec()), part, false_alarms, seed)
    save_checkpoint(output or checkpoint, network, card.replace(decision=decision, mask=mask))
    parameters = ", ".join(f"{name} {value:.3g}" for name, value in mask.parameters.items())
    typer.echo(f"{output or checkpoint}: {describe(decision)}")
    typer.echo(f"mask: {mask.method} after {mask.smoothing}, {parameters}\n{mask.found}")
