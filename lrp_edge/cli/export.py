"""``lrp-edge export``: a checkpoint or a classifier of one's own → model.onnx with the card inside."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from lrp_edge.cli.options import command
from lrp_edge.export.options import ExportOptions
from lrp_edge.options import OptionGroup, PictureOptions, option


def register(app: typer.Typer) -> None:
    """Add the verb."""
    command(app, "export", export)


@dataclass(frozen=True)
class TargetOptions(OptionGroup):
    """Where to, and what besides."""

    output: Path = option(help="Folder for model.onnx and model.json.", short="-o", metavar="FOLDER")
    engine: str = option("", "Compile it too, as lrp-edge compile --for: rtx, rtx:GPUS.", metavar="TARGET")


def export(
    model: Annotated[
        str, typer.Argument(help="A checkpoint, timm:NAME, torchvision:NAME, or module:factory of a torch.nn.Module.")
    ],
    target: TargetOptions,
    options: ExportOptions,
) -> None:
    """Export a classifier as one ONNX file that answers with class, scores, mask and relevance."""
    from lrp_edge.export.onnx_file import to_onnx
    from lrp_edge.export.origin import load_model
    from lrp_edge.export.verify.frames import read_frames

    network, own, origin = load_model(model, options.weights, len(options.classes) if options.classes else None)
    card = options.card(own)
    pictures = PictureOptions(options.bits, options.max_megapixels)
    most = 48 if card.precision == "int8" else 16
    file = to_onnx(
        network,
        target.output,
        card=card.replace(provenance={}),
        origin=origin,
        frames=read_frames(options.frames, card, most, pictures) if options.frames else (),
        calibration=read_frames(options.ok_frames, card, options=pictures) if options.ok_frames else (),
        false_alarm_rate=options.false_alarm_rate,
        name=options.name,
    )
    _report(file)
    if own is not None and own.usable and (own.mask, own.composite) != (card.mask, card.composite):
        typer.echo(
            f"usability was measured with the checkpoint's own mask; for this one: lrp-edge evaluate {file} DATA"
        )
    if target.engine:
        from lrp_edge.cli.compile import compile_for

        compile_for(target.engine, file)


def _report(file: Path) -> None:
    from lrp_edge.export.read import card_of

    card = card_of(file)
    parity = card.parity
    typer.echo(f"{file}  {file.stat().st_size / 1e6:.1f} MB")
    typer.echo(
        f"against {parity['reference']} on {parity['frames']} frames: labels {parity['label_agreement']:.0%} alike, "
        f"scores within {parity['scores_max']:.1e}, relevance within {parity['relevance_max']:.1e} of its maximum, "
        f"IoU of masks {parity['mask_iou_mean']:.4f}"
    )
    typer.echo(f"next: lrp-edge run {file} --source FRAMES -o OUT")
    if card.unusable:
        typer.echo(f"not usable: {'; '.join(card.unusable)}")
