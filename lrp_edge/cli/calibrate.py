"""``lrp-edge calibrate``: set a model's decision and mask head again, from OK images alone, without training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from lrp_edge.cli.options import command
from lrp_edge.errors import LrpEdgeError
from lrp_edge.options import Common, DataOptions, OptionGroup, PictureOptions, like, option
from lrp_edge.runtime.config import Line, TilesTable
from lrp_edge.training.options import Options


def register(app: typer.Typer) -> None:
    """Add the verb."""
    command(app, "calibrate", calibrate)


@dataclass(frozen=True)
class CalibrateOptions(OptionGroup):
    """How to calibrate a model again."""

    output: Path | None = option(None, "File for the new model.", usual="in place", short="-o", metavar="FILE")
    false_alarm_rate: float = like(Options, "false_alarm_rate")


@dataclass(frozen=True)
class ClassifierOptions(OptionGroup, panel="Classifier"):
    """What concerns a classifier that ``lrp-edge train`` left."""

    split: Path | None = like(Common, "split", panel="Classifier")
    false_alarms: float = like(Options, "false_alarms", panel="Classifier")
    area_classes: str = like(Options, "area_classes", panel="Classifier")
    seed: int = like(Options, "seed", panel="Classifier")


@dataclass(frozen=True)
class FileOptions(OptionGroup, panel="Exported file"):
    """What concerns an exported file."""

    ok_frames: str = option("", "OK frames: folder, glob or video.", metavar="FRAMES")
    tile: tuple[int, int] | None = like(TilesTable, "size", panel="Exported file")
    overlap: float = like(TilesTable, "overlap", panel="Exported file")
    vote: Literal["any", "majority", "mean"] = like(TilesTable, "vote", panel="Exported file")
    provider: str | None = like(Line, "provider", panel="Exported file")


def calibrate(
    model: Annotated[Path, typer.Argument(help="A classifier that lrp-edge train left, or an exported .onnx file.")],
    options: CalibrateOptions,
    classifier: ClassifierOptions,
    file: FileOptions,
    images: DataOptions,
    data: Annotated[
        Path | None, typer.Argument(help="Of a classifier: a folder for each class, magnetic tiles, or a table (CSV).")
    ] = None,
) -> None:
    """Set a model's threshold by a budget of false alarms, from OK images that were not trained on.

    Of a classifier smoothing, threshold, outline, areas and floor of the mask are chosen again too, without pixel
    truth; with --split, from the images of its validation part. An exported file needs no training extra: a device sets
    it from its line's own good parts.
    """
    if model.suffix in (".onnx", ".engine"):
        if data is not None or not file.ok_frames:
            raise LrpEdgeError(f"{model} is an exported file; give its OK frames with --ok-frames FOLDER")
        _exported(model, options, file, PictureOptions(images.bits, images.max_megapixels))
    else:
        if data is None or file.ok_frames:
            raise LrpEdgeError(f"{model} is a classifier; give its data behind it: lrp-edge calibrate {model} DATA")
        _classifier(model, data, images, options, classifier)


def _exported(model: Path, options: CalibrateOptions, file: FileOptions, pictures: PictureOptions) -> None:
    from lrp_edge.decision import describe
    from lrp_edge.runtime.calibrate import calibrate_file, engines_of

    tiles = TilesTable(size=file.tile, overlap=file.overlap, vote=file.vote)
    rate, output = options.false_alarm_rate, options.output
    card = calibrate_file(
        model, file.ok_frames, rate, output=output, tiles=tiles, provider=file.provider, pictures=pictures
    )
    assert card.decision is not None
    typer.echo(f"{output or model}: {describe(card.decision)}")
    for rebuild in engines_of(model) if output in (None, model) else ():
        typer.echo(f"an engine next to it still has the former threshold; build it again: {rebuild}")


def _classifier(
    checkpoint: Path, data: Path, images: DataOptions, options: CalibrateOptions, chosen: ClassifierOptions
) -> None:
    from lrp_edge.card import MaskSpec
    from lrp_edge.checkpoint import load_checkpoint, save_checkpoint
    from lrp_edge.datasets import open_dataset, read_split
    from lrp_edge.decision import describe
    from lrp_edge.training.calibration import calibrated, decided
    from lrp_edge.training.usability import shown

    network, card = load_checkpoint(checkpoint)
    if card.architecture.get("family") == "unet":
        raise LrpEdgeError(f"{checkpoint} is a U-Net, which has no mask head; give a classifier")
    dataset = open_dataset(data, **vars(images))
    part = read_split(chosen.split, dataset).val if chosen.split else dataset
    if not set(part.labels) & set(card.ok_indices):
        where = f"the validation part of {chosen.split}" if chosen.split else str(data)
        raise LrpEdgeError(f"{where} has no OK images to calibrate on; give some, or another --split")
    decision = decided(network, card, part, options.false_alarm_rate)
    named = Options(area_classes=chosen.area_classes).named_areas
    card = card.replace(decision=decision, mask=MaskSpec(area_classes=named))
    find_areas = chosen.area_classes == "auto"
    mask = calibrated(network, card, part, chosen.false_alarms, chosen.seed, find_areas=find_areas)
    card, said = card.replace(mask=mask), ["usability is what it was: there are no images of defects to measure it on"]
    if any(sample.label in card.defects for sample in part.samples):
        what = "validation images" if chosen.split else "images"
        card, usability = shown(network, card, part, what, chosen.seed)
        said = usability.lines()
    output = options.output or checkpoint
    save_checkpoint(output, network, card)
    parameters = ", ".join(f"{name} {value:.3g}" for name, value in mask.parameters.items())
    typer.echo(f"{output}: {describe(decision)}")
    typer.echo(f"mask: {mask.method} after {mask.smoothing}, {parameters}\n{mask.found}")
    typer.echo("\n".join(said))
