"""``lrp-edge compile``: ONNX → engine of TensorRT-RTX, on any machine, or of TensorRT, on the device itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from lrp_edge.cli.options import command
from lrp_edge.export.options import CompileOptions
from lrp_edge.options import OptionGroup, option


def register(app: typer.Typer) -> None:
    """Add the verb."""
    command(app, "compile", compile_)


@dataclass(frozen=True)
class TargetOptions(OptionGroup):
    """What an engine is for."""

    target: str = option(
        "rtx",
        "rtx, or rtx:GPUS with compute capabilities by comma, e.g. rtx:sm86,sm89: builds on any machine. tensorrt: "
        "builds on the device itself. Compile sm75 (Turing) by itself: its engine has a form of its own.",
        flag="--for",
        metavar="TARGET",
    )
    output: Path | None = option(None, "Folder for the engine.", usual="the model's", short="-o", metavar="FOLDER")


def compile_(
    model: Annotated[Path, typer.Argument(help="A file that lrp-edge export wrote.")],
    target: TargetOptions,
    options: CompileOptions,
) -> None:
    """Compile an exported model with TensorRT-RTX, which needs no GPU for it, or with TensorRT."""
    compile_for(target.target, model, output=target.output, **dataclasses.asdict(options))


def compile_for(target: str, model: Path, **options: Any) -> None:
    """Compile for a target as ``--for`` takes it, e.g. ``"rtx:sm86,sm89"``, and say what was made."""
    from lrp_edge.export.tensorrt.engine import to_engine

    product, colon, names = target.partition(":")
    gpus = [name.strip().lower() for name in names.split(",")] if colon else None
    with _progress_bars() as progress:
        engine = to_engine(model, product=product, gpus=gpus, progress=progress, say=typer.echo, **options)
    typer.echo(f"{engine}  {engine.stat().st_size / 1e6:.1f} MB, its card next to it as .json")
    typer.echo(f"next: lrp-edge run {engine} --source FRAMES -o OUT")


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
