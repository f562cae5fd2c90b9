"""``lrp-edge demo``: the main job end to end, on a line that the computer draws."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lrp_edge.cli.options import command


def register(app: typer.Typer) -> None:
    """Add the verb."""
    command(app, "demo", demo)


def demo(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for everything.")] = Path("demo-line"),
    count: Annotated[int, typer.Option(min=1, help="Parts on the line.")] = 48,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same line.")] = 0,
    frames: Annotated[int | None, typer.Option(min=1, hidden=True)] = None,
) -> None:
    """Export, prove, compile and run the shipped model over a drawn line; leave a page to look at."""
    from lrp_edge.demo import demo as run_demo

    run_demo(output, frames=frames or count, seed=seed, say=typer.echo)
