"""``lrp-edge compile``: ONNX → TensorRT-RTX engine, on a machine with or without a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lrp_edge.cli.options import parse_size


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("compile")(compile_)


def compile_(
    model: Annotated[Path, typer.Argument(help="A file that lrp-edge export wrote.")],
    target: Annotated[
        str,
        typer.Option("--for", help="rtx, or rtx:GPUS with compute capabilities by comma, e.g. rtx:sm86,sm89."),
    ] = "rtx",
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder for the engine [default: the model's].")
    ] = None,
    smallest: Annotated[str, typer.Option(help="Smallest frame HxW, for a dynamic model.")] = "64x64",
    usual: Annotated[str, typer.Option(help="Usual frame HxW.")] = "512x512",
    largest: Annotated[str, typer.Option(help="Largest frame HxW.")] = "1024x1024",
) -> None:
    """Compile an exported model with TensorRT-RTX; no GPU is needed."""
    from lrp_edge.export.tensorrt import DEFAULT_GPUS, to_engine

    product, _, gpus = target.partition(":")
    if product != "rtx":
        raise typer.BadParameter(f"{product!r}; expected rtx or rtx:sm86,sm89", param_hint="--for")
    engine = to_engine(
        model,
        output,
        gpus=tuple(gpus.lower().split(",")) if gpus else DEFAULT_GPUS,
        smallest=parse_size(smallest),
        usual=parse_size(usual),
        largest=parse_size(largest),
    )
    typer.echo(f"{engine}  {engine.stat().st_size / 1e6:.1f} MB")
