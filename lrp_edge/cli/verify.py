"""``lrp-edge verify``: whether files still compute what they were exported from."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lrp_edge.cli.options import command, kept, write_json
from lrp_edge.export.verify.options import Limits, VerifyOptions
from lrp_edge.options import Common, OptionGroup, like

if TYPE_CHECKING:
    from lrp_edge.export.verify.report import Result, Verification


def register(app: typer.Typer) -> None:
    """Add the verb."""
    command(app, "verify", verify)


@dataclass(frozen=True)
class ReportOptions(OptionGroup):
    """Where the figures go."""

    json: str | None = like(Common, "json")


def verify(
    files: Annotated[list[Path], typer.Argument(help="Files of lrp-edge export or lrp-edge compile.")],
    options: VerifyOptions,
    limits: Limits,
    report: ReportOptions,
) -> None:
    """Compare files with what they were exported from, on the same frames; exit with 1 if one is not what it was."""
    from lrp_edge.export.verify import verify as compare
    from lrp_edge.files import claim_folder

    json_file = report.json
    if json_file not in (None, "-"):
        claim_folder(Path(json_file).parent)
    with _progress_bar() as progress:
        found = compare(files, tolerance=dataclasses.asdict(limits), progress=progress, **vars(options))
    write_json(json_file, json.dumps(found.as_dict(), indent=2, allow_nan=False) + "\n")
    if json_file != "-":
        _print(found)
    for line in found.faults():
        typer.echo(f"fault: {line}", file=sys.stderr if json_file == "-" else kept())
    if found.faults():
        raise typer.Exit(1)


@contextmanager
def _progress_bar() -> Iterator[Callable[[str, int, int], None]]:
    """Show a bar on stderr for what is being run."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("reading", total=None)
        yield lambda what, done, total: bar.update(task, description=what, completed=done, total=total)


def _print(found: Verification) -> None:
    for _, results in groupby(found.results, lambda result: result.file):
        _print_file(list(results), found)
    not_run: dict[tuple[str, str], list[str]] = {}
    for entry in found.unavailable:
        if not entry.started:
            not_run.setdefault((entry.backend, entry.reason), []).append(str(entry.file))
    for (backend, reason), files in not_run.items():
        typer.echo(f"not run on {backend}: {', '.join(files)}: {reason}")
    for line in found.notes:
        typer.echo(line)
    if any(not result.beyond for result in found.results):
        typer.echo("holds speaks of parity alone: how good the model is, lrp-edge evaluate measures")


_Row = tuple[str, str, "Callable[[Result], str]"]


def _rows_of_shapes(results: list[Result]) -> Iterator[_Row]:
    """Yield what other shapes of calls do to the task: the labels, and the masks."""
    limits = results[0].tolerance
    for shape in dict.fromkeys(shape for result in results for shape in result.shapes):
        for name, limit, figure in (("labels alike, share", limits.labels, "label_agreement"),
                                    ("masks: mean IoU", limits.iou, "mask_iou_mean")):  # fmt: skip
            yield f"{shape}: {name}", f">= {limit:g}", partial(_figure, shape, figure)


def _figure(shape: str, figure: str, result: Result) -> str:
    return f"{getattr(result.shapes[shape], figure):.4f}" if shape in result.shapes else "-"


def _print_file(results: list[Result], found: Verification) -> None:
    """Print a column for each backend, a row for each figure."""
    from rich.console import Console
    from rich.table import Table

    first = results[0]
    title = (
        f"{first.file}, {first.precision}, against {first.reference}; {first.parity.frames} frames of {found.source}, "
        f"{first.parity.masks} with a mask"
    )
    table = Table("", "expected", *(result.backend for result in results), title=title)
    limits = first.tolerance
    rows: list[_Row] = [
        ("labels alike, share", f">= {limits.labels:g}", lambda one: f"{one.parity.label_agreement:.4f}"),
        ("scores: greatest difference", f"<= {limits.scores:g}", lambda one: f"{one.parity.scores_max:.1e}"),
        ("scores: mean difference", "", lambda one: f"{one.parity.scores_mean:.1e}"),
        ("relevance: L2 difference", f"<= {limits.relevance:g}", lambda one: f"{one.parity.relevance_l2:.1e}"),
        ("relevance: greatest difference", "", lambda one: f"{one.parity.relevance_max:.1e}"),
        ("relevance: rank correlation", "", lambda one: f"{one.parity.relevance_rank:.4f}"),
        ("masks: mean IoU", f">= {limits.iou:g}", lambda one: f"{one.parity.mask_iou_mean:.4f}"),
        ("masks: worst IoU", "", lambda one: f"{one.parity.mask_iou_worst:.4f}"),
        *_rows_of_shapes(results),
        ("seconds", "", lambda one: f"{one.seconds:.2f}"),
        ("parity", "", lambda one: "beyond" if one.beyond else "holds"),
    ]
    for name, expected, figure in rows:
        table.add_row(name, expected, *map(figure, results))
    Console().print(table)
    for result in results:
        drawn = f", drawn in {result.picture}" if result.picture else ""
        typer.echo(f"worst frame on {result.backend}: {result.worst}, IoU {result.parity.mask_iou_worst:.4f}{drawn}")
