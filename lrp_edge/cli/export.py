"""``lrp-edge export``: a checkpoint or a classifier of one's own → model.onnx with the card inside."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lrp_edge.card import CHANNEL_ORDERS, COMPOSITES, EXPLAINED, MASK_HEADS, PRECISIONS, SMOOTHINGS
from lrp_edge.cli.options import OkClass, Weights, command, either, parse_numbers, parse_pairs, parse_size, real_frames

if TYPE_CHECKING:
    from lrp_edge.card import ModelCard


def register(app: typer.Typer) -> None:
    """Add the verb."""
    command(app, "export", export)


def export(
    model: Annotated[str, typer.Argument(help="A checkpoint, or module:factory of a torch.nn.Module.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for model.onnx and model.json.")],
    name: Annotated[str, typer.Option(help="Name of the files.")] = "model",
    engine: Annotated[str, typer.Option(help="Compile it too, as lrp-edge compile --for: rtx, rtx:GPUS.")] = "",
    classes: Annotated[
        str,
        typer.Option(
            help="Class names by comma, in the order of the outputs (default: the checkpoint's).",
            rich_help_panel="Model",
        ),
    ] = "",
    ok_class: OkClass = None,
    weights: Weights = None,
    size: Annotated[str, typer.Option(help="Size of the frames, HxW or dynamic.", rich_help_panel="Frames")] = "",
    resize: Annotated[
        str, typer.Option(help="Run the network at HxW, whatever the frames' size.", rich_help_panel="Frames")
    ] = "",
    max_batch: Annotated[
        int | None, typer.Option(min=1, help="Most frames in one call.", rich_help_panel="Frames")
    ] = None,
    order: Annotated[
        str, typer.Option(help=f"Channel order of the frames: {either(CHANNEL_ORDERS)}.", rich_help_panel="Frames")
    ] = "",
    network_order: Annotated[
        str, typer.Option(help="Channel order that the network was trained with.", rich_help_panel="Frames")
    ] = "",
    mean: Annotated[
        str, typer.Option(help="Mean by channel, by comma, of pixels from 0 to 1.", rich_help_panel="Frames")
    ] = "",
    std: Annotated[str, typer.Option(help="Standard deviation by channel, by comma.", rich_help_panel="Frames")] = "",
    composite: Annotated[
        str,
        typer.Option(
            help=f"Relevance composite: {either(COMPOSITES)} (default: the checkpoint's, else Segmentation).",
            rich_help_panel="Relevance and mask",
        ),
    ] = "",
    composite_parameter: Annotated[
        list[str] | None,
        typer.Option("--set", help="Parameter of the composite, NAME=NUMBER.", rich_help_panel="Relevance and mask"),
    ] = None,
    explain: Annotated[
        str,
        typer.Option(
            help=f"What is explained: {', '.join(EXPLAINED)} or a class name.", rich_help_panel="Relevance and mask"
        ),
    ] = "",
    mask: Annotated[
        str,
        typer.Option(
            help=f"Mask head: {either(MASK_HEADS)} (default: the checkpoint's, else otsu).",
            rich_help_panel="Relevance and mask",
        ),
    ] = "",
    mask_parameter: Annotated[
        list[str] | None,
        typer.Option(help="Parameter of the mask head, NAME=NUMBER.", rich_help_panel="Relevance and mask"),
    ] = None,
    smoothing: Annotated[
        str,
        typer.Option(
            help=f"Smoothing of the relevance: {either(SMOOTHINGS)}, in pixels.", rich_help_panel="Relevance and mask"
        ),
    ] = "",
    close: Annotated[
        int | None,
        typer.Option(help="Side of the mask's closing, odd pixels; 0 for none.", rich_help_panel="Relevance and mask"),
    ] = None,
    open_: Annotated[
        int | None,
        typer.Option(
            "--open", help="Side of the mask's opening, odd pixels; 0 for none.", rich_help_panel="Relevance and mask"
        ),
    ] = None,
    area_classes: Annotated[
        str,
        typer.Option(
            help="Classes whose defects are large areas, by comma: their masks are filled; none for none.",
            rich_help_panel="Relevance and mask",
        ),
    ] = "",
    relevance_stride: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Read relevance at the network's stage of this stride; 1: at the pixels.",
            rich_help_panel="Relevance and mask",
        ),
    ] = None,
    ok_frames: Annotated[
        str,
        typer.Option(help="Defect-free frames, for --mask calibrated.", rich_help_panel="Relevance and mask"),
    ] = "",
    false_alarms: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="Share of them that may exceed the threshold.", rich_help_panel="Relevance and mask"
        ),
    ] = 0.05,
    precision: Annotated[
        str,
        typer.Option(
            help=f"Numeric type: {either(PRECISIONS)}; int8 is calibrated on --frames (default: fp32).",
            rich_help_panel="Arithmetic",
        ),
    ] = "",
    gate: Annotated[
        bool | None,
        typer.Option(
            "--gate/--no-gate", help="Compute relevance and mask for defects only.", rich_help_panel="Arithmetic"
        ),
    ] = None,
    frames: Annotated[str, real_frames("noise; at most 16 are used, for int8 48")] = "",
) -> None:
    """Export a classifier as one ONNX file that answers with class, scores, mask and relevance."""
    from lrp_edge.export.deployable import load_model
    from lrp_edge.export.onnx_file import to_onnx
    from lrp_edge.export.verify.frames import read_frames

    network, own, origin = load_model(model, weights)
    card = _card(own, classes, ok_class)
    card = _with_input(card, size, resize, max_batch, order, network_order, mean, std)
    card = _with_relevance(card, composite, composite_parameter or [], explain, relevance_stride)
    card = _with_mask(card, mask, mask_parameter or [], smoothing, close, open_, area_classes)
    card = _with_arithmetic(card, precision, gate)
    file = to_onnx(
        network,
        output,
        card=card.replace(provenance={}),
        origin=origin,
        frames=read_frames(frames, card, 48 if card.precision == "int8" else 16) if frames else (),
        calibration=read_frames(ok_frames, card) if ok_frames else (),
        false_alarms=false_alarms,
        name=name,
    )
    _report(file)
    if engine:
        from lrp_edge.cli.compile import compile_for

        compile_for(engine, file)


def _card(own: ModelCard | None, classes: str, ok_class: str | None) -> ModelCard:
    from lrp_edge.card import ModelCard, defect_names

    if own is None and not classes:
        raise typer.BadParameter("a module:factory needs --classes, e.g. --classes ok,scratch", param_hint="--classes")
    names = tuple(part.strip() for part in classes.split(",")) if classes else (own.classes if own else ())
    if own is None:
        return ModelCard(names, defect_names(names, ok_class))
    if not classes and not ok_class:
        return own
    return own.replace(classes=names, defects=defect_names(names, ok_class))


def _with_input(
    card: ModelCard,
    size: str,
    resize: str,
    max_batch: int | None,
    order: str,
    network_order: str,
    mean: str,
    std: str,
) -> ModelCard:
    import dataclasses

    changes: dict[str, object] = {}
    if size:
        changes["size"] = None if size == "dynamic" else parse_size(size)
    if resize:
        changes["resize"] = parse_size(resize)
    if max_batch is not None:
        changes["max_batch"] = max_batch
    for key, text in (("order", order), ("network_order", network_order)):
        if text:
            changes[key] = text.upper()
    for key, text in (("mean", mean), ("std", std)):
        if text:
            changes[key] = parse_numbers(text)
    if network_order.upper() == "GRAY":
        changes = {"mean": (0.0,), "std": (1.0,), **changes}
    return card.replace(input=dataclasses.replace(card.input, **changes))  # type: ignore[arg-type]


def _with_relevance(
    card: ModelCard, composite: str, parameters: list[str], explain: str, stride: int | None
) -> ModelCard:
    changes: dict[str, object] = {}
    if composite:
        changes = {"composite": composite, "composite_parameters": {}}
    if parameters:
        changes["composite_parameters"] = parse_pairs(parameters)
    if explain:
        changes["explained"] = explain
    if stride is not None:
        changes["relevance_stride"] = stride
    return card.replace(**changes)


def _with_mask(
    card: ModelCard,
    method: str,
    parameters: list[str],
    smoothing: str,
    close: int | None,
    open_: int | None,
    area_classes: str,
) -> ModelCard:
    import dataclasses

    changes: dict[str, object] = {}
    if method and method != card.mask.method:
        changes = {"method": method, "parameters": {}, "found": "per frame, in the graph"}
    if parameters:
        changes |= {"parameters": parse_pairs(parameters), "found": "given"}
    if smoothing:
        changes["smoothing"] = smoothing
    if area_classes:
        names = tuple(name.strip() for name in area_classes.split(","))
        changes["area_classes"] = () if names == ("none",) else names
    for key, side in (("close", close), ("open", open_)):
        if side is not None:
            changes[key] = side
    return card.replace(mask=dataclasses.replace(card.mask, **changes))  # type: ignore[arg-type]


def _with_arithmetic(card: ModelCard, precision: str, gate: bool | None) -> ModelCard:
    if precision and precision not in PRECISIONS:
        raise typer.BadParameter(f"{precision!r}; expected one of {', '.join(PRECISIONS)}", param_hint="--precision")
    card = card.replace(precision=precision or card.precision)
    return card if gate is None else card.replace(gate=gate)


def _report(file: Path) -> None:
    from lrp_edge.export.graph import card_of

    parity = card_of(file).parity
    typer.echo(f"{file}  {file.stat().st_size / 1e6:.1f} MB")
    typer.echo(
        f"against {parity['reference']} on {parity['frames']} frames: labels {parity['label_agreement']:.0%} alike, "
        f"scores within {parity['scores_max']:.1e}, relevance within {parity['relevance_max']:.1e} of its maximum, "
        f"IoU of masks {parity['mask_iou_mean']:.4f}"
    )
    typer.echo(f"next: lrp-edge run {file} --source FRAMES -o OUT")
