"""``lrp-edge export``: a checkpoint or a classifier of one's own → model.onnx with the card inside."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lrp_edge.cli.options import command, parse_numbers, parse_pairs, parse_size

if TYPE_CHECKING:
    from lrp_edge.card import ModelCard


def register(app: typer.Typer) -> None:
    """Add the verb."""
    command(app, "export", export)


def export(
    model: Annotated[str, typer.Argument(help="A checkpoint, or module:factory of a torch.nn.Module.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for model.onnx and model.json.")],
    classes: Annotated[
        str,
        typer.Option(help="Class names by comma, in the order of the outputs [default: the checkpoint's]."),
    ] = "",
    ok_class: Annotated[str, typer.Option(help="The class that is no defect [default: by its name].")] = "",
    weights: Annotated[Path | None, typer.Option(help="Weights for module:factory (state dict).")] = None,
    composite: Annotated[str, typer.Option(help="Relevance composite [default: Segmentation].")] = "",
    composite_parameter: Annotated[
        list[str] | None, typer.Option("--set", help="Parameter of the composite, NAME=NUMBER.")
    ] = None,
    mask: Annotated[
        str,
        typer.Option(help="Mask head: fixed, quantile, otsu, isodata, gmm or calibrated [default: otsu]."),
    ] = "",
    mask_parameter: Annotated[list[str] | None, typer.Option(help="Parameter of the mask head, NAME=NUMBER.")] = None,
    smoothing: Annotated[str, typer.Option(help="none, box:K, gaussian:SIGMA or median:3.")] = "",
    close: Annotated[int | None, typer.Option(help="Side of the mask's closing, odd pixels; 0 for none.")] = None,
    open_: Annotated[
        int | None, typer.Option("--open", help="Side of the mask's opening, odd pixels; 0 for none.")
    ] = None,
    explain: Annotated[str, typer.Option(help="predicted, contrast, defect or a class name.")] = "",
    size: Annotated[str, typer.Option(help="Size of the frames, HxW or dynamic.")] = "",
    resize: Annotated[str, typer.Option(help="Run the network at HxW, whatever the frames' size.")] = "",
    max_batch: Annotated[int | None, typer.Option(min=1, help="Most frames in one call.")] = None,
    order: Annotated[str, typer.Option(help="Channel order of the frames: BGR, RGB or GRAY.")] = "",
    network_order: Annotated[str, typer.Option(help="Channel order that the network was trained with.")] = "",
    mean: Annotated[str, typer.Option(help="Mean by channel, by comma, of pixels from 0 to 1.")] = "",
    std: Annotated[str, typer.Option(help="Standard deviation by channel, by comma.")] = "",
    precision: Annotated[
        str, typer.Option(help="fp32, fp16, bf16 or int8, which is calibrated on --frames [default: fp32].")
    ] = "",
    gate: Annotated[
        bool | None, typer.Option("--gate/--no-gate", help="Compute relevance and mask for defects only.")
    ] = None,
    frames: Annotated[
        str,
        typer.Option(help="Real frames to prove the file on: file, folder or glob; at most 16 are used, for int8 48."),
    ] = "",
    ok_frames: Annotated[str, typer.Option(help="Defect-free frames, for --mask calibrated.")] = "",
    false_alarms: Annotated[
        float, typer.Option(min=0, max=1, help="Share of them that may exceed the threshold.")
    ] = 0.05,
    name: Annotated[str, typer.Option(help="Name of the files.")] = "model",
    engine: Annotated[str, typer.Option(help="Compile it too, as lrp-edge compile --for: rtx, rtx:GPUS.")] = "",
) -> None:
    """Export a classifier as one ONNX file that answers with class, scores, mask and relevance."""
    from lrp_edge.export.onnx_file import to_onnx
    from lrp_edge.export.sources import load_model
    from lrp_edge.export.verify.frames import read_frames

    network, own, origin = load_model(model, weights)
    card = _card(own, classes, ok_class)
    card = _with_input(card, size, resize, max_batch, order, network_order, mean, std)
    card = _with_relevance(card, composite, composite_parameter or [], explain)
    card = _with_mask(card, mask, mask_parameter or [], smoothing, close, open_)
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


def _card(own: ModelCard | None, classes: str, ok_class: str) -> ModelCard:
    from lrp_edge.card import ModelCard, defect_names

    if own is None and not classes:
        raise typer.BadParameter("a module:factory needs --classes, e.g. --classes ok,scratch", param_hint="--classes")
    names = tuple(part.strip() for part in classes.split(",")) if classes else (own.classes if own else ())
    if own is None:
        return ModelCard(names, defect_names(names, ok_class or None))
    if not classes and not ok_class:
        return own
    return own.replace(classes=names, defects=defect_names(names, ok_class or None))


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


def _with_relevance(card: ModelCard, composite: str, parameters: list[str], explain: str) -> ModelCard:
    changes: dict[str, object] = {}
    if composite:
        changes = {"composite": composite, "composite_parameters": {}}
    if parameters:
        changes["composite_parameters"] = parse_pairs(parameters)
    if explain:
        changes["explained"] = explain
    return card.replace(**changes)


def _with_mask(
    card: ModelCard, method: str, parameters: list[str], smoothing: str, close: int | None, open_: int | None
) -> ModelCard:
    import dataclasses

    changes: dict[str, object] = {}
    if method and method != card.mask.method:
        changes = {"method": method, "parameters": {}, "found": "per frame, in the graph"}
    if parameters:
        changes |= {"parameters": parse_pairs(parameters), "found": "given"}
    if smoothing:
        changes["smoothing"] = smoothing
    for key, side in (("close", close), ("open", open_)):
        if side is not None:
            changes[key] = side
    return card.replace(mask=dataclasses.replace(card.mask, **changes))  # type: ignore[arg-type]


def _with_arithmetic(card: ModelCard, precision: str, gate: bool | None) -> ModelCard:
    from lrp_edge.card import PRECISIONS

    if precision and precision not in PRECISIONS:
        raise typer.BadParameter(f"{precision!r}; expected one of {', '.join(PRECISIONS)}", param_hint="--precision")
    card = card.replace(precision=precision or card.precision)
    return card if gate is None else card.replace(gate=gate)


def _report(file: Path) -> None:
    from lrp_edge.export.reading import card_of

    parity = card_of(file).parity
    typer.echo(f"{file}  {file.stat().st_size / 1e6:.1f} MB")
    typer.echo(
        f"against {parity['reference']} on {parity['frames']} frames: labels {parity['label_agreement']:.0%} alike, "
        f"scores within {parity['scores_max']:.1e}, relevance within {parity['relevance_max']:.1e} of its maximum, "
        f"IoU of masks {parity['mask_iou_mean']:.4f}"
    )
    typer.echo(f"next: lrp-edge run {file} --source FRAMES -o OUT")
