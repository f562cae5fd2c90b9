"""``lrp-edge run``: frames of a source through a model into results, for a folder or for months."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lrp_edge.cli.options import MODEL, command, merged
from lrp_edge.errors import LrpEdgeError
from lrp_edge.options import OptionGroup, option
from lrp_edge.runtime.config import Line, OutputTable, read_config

if TYPE_CHECKING:
    from lrp_edge.runtime.pipeline import Pipeline
    from lrp_edge.runtime.sources import Source


def register(app: typer.Typer) -> None:
    """Add the verb."""
    command(app, "run", run, level=logging.INFO)


@dataclass(frozen=True)
class RunOptions(OptionGroup, panel=OutputTable.panel):
    """What is asked of the command line alone."""

    config: Path | None = option(
        None, "TOML file with any of these options; those given here go first.", metavar="FILE", panel="Options"
    )
    overwrite: bool = option(False, "Replace results that are there.")
    append: bool = option(False, "Go on with results that are there.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.overwrite and self.append:
            raise LrpEdgeError("give --overwrite or --append, not both")


def run(
    options: RunOptions,
    given: Annotated[dict[str, Any], Line],
    model: Annotated[Path | None, MODEL] = None,
) -> None:
    """Run a model over frames or a camera; write, show and send what it finds."""
    if model:
        given["model"] = model
    if options.overwrite or options.append:
        given.setdefault("output", {})["existing"] = "overwrite" if options.overwrite else "append"
    from lrp_edge.runtime.line import build
    from lrp_edge.runtime.line import run as run_line

    line = build(merged(read_config(options.config) if options.config else {}, given))
    with _signals() as stop, _display() as display:
        pipeline = run_line(
            line, stopped=stop, begun=display.begin, progress=display.advance, tick=display.tick, say=typer.echo
        )
    for text in pipeline.summary():
        typer.echo(text)
    if line.output.folder:
        typer.echo(f"results in {line.output.folder}")
    if stop.signal == signal.SIGINT:
        raise typer.Exit(130)


#: Seconds within which a signal is the same one again: ``timeout`` and others send it to a process and to its group.
SAME = 0.5


class _Stop(threading.Event):
    """Set by SIGINT and SIGTERM; another one, later than :data:`SAME`, ends the process at once."""

    signal: int | None = None
    at = 0.0

    def handle(self, number: int, frame: Any) -> None:
        """Take a signal."""
        if self.signal is not None and time.monotonic() - self.at > SAME:
            raise KeyboardInterrupt
        if self.signal is None:
            self.signal, self.at = number, time.monotonic()
        self.set()


@contextmanager
def _signals() -> Iterator[_Stop]:
    stop = _Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, stop.handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _display() -> Iterator[_Display]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("frames"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        yield _Display(bar)


class _Display:
    """A bar with rate, latency and losses while a line runs, where there is a terminal."""

    def __init__(self, bar: Any) -> None:
        self._bar, self._task = bar, None

    def begin(self, source: Source, pipeline: Pipeline) -> None:
        """Show the bar."""
        self._task = self._bar.add_task("frames", total=source.length, note="")

    def advance(self, done: int) -> None:
        """Move it."""
        self._bar.advance(self._task, done)

    def tick(self, pipeline: Pipeline) -> None:
        """Bring its figures up to date."""
        if not self._bar.disable:
            status = pipeline.status()
            note = f"{status['fps']:.1f} fps, p99 {status['latency_ms']['total']['p99']:.0f} ms"
            self._bar.update(self._task, note=f"{note}, {status['counters']['dropped']} dropped")
