"""``lrp-edge run``: frames through a model to overlays, masks and one line a frame."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from lrp_edge.runtime import Segmenter, Summary


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("run")(run)


def run(
    model: Annotated[Path, typer.Argument(help="A file that lrp-edge export wrote.")],
    source: Annotated[
        str,
        typer.Option(
            help="Image, folder (searched for images), quoted glob such as 'Imgs/*.jpg', or video file."
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for overlays, masks and results.jsonl.")
    ],
    provider: Annotated[
        Literal["cpu", "cuda"] | None, typer.Option(help="Where to run [default: the best there is].")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of the engine [default: all cores].")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Frames in one call of the engine.")] = 1,
    overlays: Annotated[bool, typer.Option(help="Draw overlays.")] = True,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out, and count, frames that cannot be read or taken.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the results in the folder.")
    ] = False,
    progress: Annotated[bool, typer.Option(help="Show a progress bar on a terminal.")] = True,
) -> None:
    """Run a model over frames."""
    import sys

    from lrp_edge.errors import LrpEdgeError
    from lrp_edge.runtime import ResultFolder, Segmenter, open_source
    from lrp_edge.runtime import run as run_loop
    from lrp_edge.runtime.loop import refuse_faults

    if Path(source).is_dir() and Path(source).resolve() in (output.resolve(), *output.resolve().parents):
        raise LrpEdgeError(
            f"{output} lies inside the source {source}, where its pictures would be taken for frames: choose another "
            f"folder with -o"
        )
    segmenter = Segmenter(model, provider=provider, threads=threads)
    frames = open_source(source, segmenter.card.input.order)
    if not skip_bad:
        refuse_faults(frames)
    hidden = not (progress and sys.stderr.isatty())
    with (
        ResultFolder(output, segmenter.card.input.order, overlays=overlays, overwrite=overwrite) as folder,
        typer.progressbar(length=frames.length or 0, label="frames", file=sys.stderr, hidden=hidden) as bar,
    ):
        summary = run_loop(segmenter, frames, [folder], batch=batch, skip_bad=skip_bad, advance=bar.update)
    typer.echo(_report(summary, segmenter, folder.results))
    if summary.signal:
        raise typer.Exit(128 + summary.signal)


def _report(summary: Summary, segmenter: Segmenter, results: Path) -> str:
    counts = [f"{name} {summary.classes[name]}" for name in segmenter.card.defects if summary.classes[name]]
    lines = [
        "stopped by a signal; what was done is written" if summary.signal else "",
        f"{summary.frames} frames in {summary.seconds:.1f} s, {summary.fps:.1f} frames/s on {segmenter.provider}",
        f"engine latency p50 {summary.latency(50):.2f} ms, p99 {summary.latency(99):.2f} ms"
        if summary.frames
        else "",
        f"defects {summary.defects}" + (f": {', '.join(counts)}" if counts else ""),
        f"skipped {summary.skipped}: their lines in {results} say why" if summary.skipped else "",
        f"results: {results}" if summary.frames or summary.skipped else "nothing written",
    ]
    return "\n".join(line for line in lines if line)
