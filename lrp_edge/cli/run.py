"""``lrp-edge run``: frames through a model into overlays, masks and results.jsonl."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("run")(run)


def run(
    model: Annotated[Path, typer.Argument(help="A file of lrp-edge export or lrp-edge compile.")],
    source: Annotated[str, typer.Option(help="Image, folder, glob or video.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the results.")],
    provider: Annotated[
        str,
        typer.Option(
            help="cpu, cuda, tensorrt, nv_tensorrt_rtx or openvino, for an ONNX file [default: cuda, else cpu]."
        ),
    ] = "",
    batch: Annotated[int, typer.Option(min=1, help="Frames in one call.")] = 1,
    skip_bad: Annotated[bool, typer.Option(help="Go on after a frame that cannot be read.")] = False,
    overlays: Annotated[bool, typer.Option(help="Draw overlays.")] = True,
    overwrite: Annotated[bool, typer.Option(help="Replace results that are there.")] = False,
) -> None:
    """Run a model over frames; write overlays, masks and results.jsonl."""
    from rich.progress import Progress

    from lrp_edge.runtime.run import run as run_model
    from lrp_edge.runtime.segmenter import Segmenter
    from lrp_edge.runtime.sources import open_source

    with Segmenter(model, provider=provider or None) as segmenter, Progress(transient=True) as bar:
        frames = open_source(source, segmenter.card.input.order)
        task = bar.add_task("frames", total=frames.length)
        summary = run_model(
            segmenter,
            frames,
            output,
            batch=batch,
            skip_bad=skip_bad,
            overlays=overlays,
            overwrite=overwrite,
            progress=lambda done: bar.advance(task, done),
        )
    for problem in summary.skipped:
        typer.echo(f"skipped: {problem}", err=True)
    for line in summary.lines():
        typer.echo(line)
    typer.echo(f"results in {output}")
    if summary.interrupted:
        raise typer.Exit(130)
