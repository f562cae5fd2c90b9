"""``lrp-edge compile``: ONNX → engine of TensorRT-RTX, on any machine, or of TensorRT, on the device itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from lrp_edge.cli.options import command, parse_size


def register(app: typer.Typer) -> None:
    """Add the verb."""
    command(app, "compile", compile_)


def compile_(
    model: Annotated[Path, typer.Argument(help="A file that lrp-edge export wrote.")],
    target: Annotated[
        str,
        typer.Option(
            "--for",
            help="rtx, or rtx:GPUS with compute capabilities by comma, e.g. rtx:sm86,sm89: builds on any machine. "
            "tensorrt: builds on the device itself. Compile sm75 (Turing) by itself: its engine has a form of its own.",
        ),
    ] = "rtx",
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder for the engine (default: the model's).")
    ] = None,
    batch: Annotated[
        str,
        typer.Option(
            help="Frames in one call: MOST, or LEAST,USUAL,MOST (default: 1,1 and the model's).",
            rich_help_panel="Shapes",
        ),
    ] = "",
    smallest: Annotated[
        str, typer.Option(help="Smallest frame HxW, for a dynamic model (default: 64x64).", rich_help_panel="Shapes")
    ] = "",
    usual: Annotated[str, typer.Option(help="Usual frame HxW (default: 512x512).", rich_help_panel="Shapes")] = "",
    largest: Annotated[
        str, typer.Option(help="Largest frame HxW (default: 1024x1024).", rich_help_panel="Shapes")
    ] = "",
    workspace: Annotated[
        int | None,
        typer.Option(min=1, help="Most GPU memory for intermediate results, in MiB.", rich_help_panel="Build"),
    ] = None,
    version_compatible: Annotated[
        bool,
        typer.Option("--version-compatible", help="Let newer versions of TensorRT load it.", rich_help_panel="Build"),
    ] = False,
    hardware_compatible: Annotated[
        str,
        typer.Option(
            help="With TensorRT, let other GPUs run it: ampere_plus or same_compute_capability.",
            rich_help_panel="Build",
        ),
    ] = "",
    optimization_level: Annotated[
        int | None,
        typer.Option(min=0, max=5, help="From 0, fast to build, to 5, fast to run.", rich_help_panel="Build"),
    ] = None,
    cache: Annotated[
        bool,
        typer.Option(
            help="Use engines built before. LRP_EDGE_CACHE: their folder; LRP_EDGE_CACHE_MB: its size (default: 8192).",
            rich_help_panel="Build",
        ),
    ] = True,
) -> None:
    """Compile an exported model with TensorRT-RTX, which needs no GPU for it, or with TensorRT."""
    compile_for(
        target,
        model,
        output=output,
        batch=_parse_batch(batch) if batch else None,
        smallest=parse_size(smallest) if smallest else None,
        usual=parse_size(usual) if usual else None,
        largest=parse_size(largest) if largest else None,
        workspace_mb=workspace,
        version_compatible=version_compatible,
        hardware_compatible=hardware_compatible.lower().replace("-", "_") or None,
        optimization_level=optimization_level,
        cache=cache,
    )


def compile_for(target: str, model: Path, **options: Any) -> None:
    """Compile for a target as ``--for`` takes it, e.g. ``"rtx:sm86,sm89"``, and say what was made."""
    from lrp_edge.export.tensorrt.engine import to_engine

    product, colon, names = target.partition(":")
    gpus = [name.strip().lower() for name in names.split(",")] if colon else None
    with _progress_bars() as progress:
        engine = to_engine(model, product=product, gpus=gpus, progress=progress, say=typer.echo, **options)
    typer.echo(f"{engine}  {engine.stat().st_size / 1e6:.1f} MB, its card next to it as .json")
    typer.echo(f"next: lrp-edge run {engine} --source FRAMES -o OUT")


def _parse_batch(text: str) -> tuple[int, int, int]:
    counts = [int(part) if part.strip().isdecimal() else 0 for part in text.split(",")]
    if len(counts) not in (1, 3) or 0 in counts:
        raise typer.BadParameter(
            f"{text!r}; expected MOST, or LEAST,USUAL,MOST frames, e.g. 8 or 1,4,8", param_hint="--batch"
        )
    return (1, 1, counts[0]) if len(counts) == 1 else (counts[0], counts[1], counts[2])


@contextmanager
def _progress_bars() -> Iterator[Callable[[str, int, int], None]]:
    """Give a bar on stderr to each phase of a build while it lasts."""
    from rich.console import Console
    from rich.progress import Progress, TaskID

    bars: dict[str, TaskID] = {}
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:

        def show(phase: str, done: int, steps: int) -> None:
            if done == 0:
                bars[phase] = progress.add_task(phase, total=steps)
            elif phase in bars and done < steps:
                progress.update(bars[phase], completed=done)
            elif phase in bars:
                progress.remove_task(bars.pop(phase))

        yield show
