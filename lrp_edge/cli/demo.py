"""``lrp-edge demo``: the main job end to end, on a line that the computer draws."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import typer

from lrp_edge.cli.options import command
from lrp_edge.options import Common, OptionGroup, like, option


def register(app: typer.Typer) -> None:
    """Add the verb."""
    command(app, "demo", demo)


@dataclass(frozen=True)
class DemoOptions(OptionGroup):
    """The line that is drawn."""

    output: Path = option(Path("demo-line"), "Folder for everything.", short="-o", metavar="FOLDER")
    count: int = like(Common, "count", 48, least=1, former="--frames")
    seed: int = like(Common, "seed")


def demo(options: DemoOptions) -> None:
    """Export, prove, compile and run the shipped model over a drawn line; leave a page to look at."""
    from lrp_edge.demo import demo as run_demo

    run_demo(options.output, frames=options.count, seed=options.seed, say=typer.echo)
