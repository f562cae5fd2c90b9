"""``lrp-edge verify``: whether files still compute what they were exported from."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lrp_edge.cli.options import Json, Weights, command, kept, real_frames, write_json

if TYPE_CHECKING:
    from lrp_edge.export.verify.report import Result, Verification

_Limit = Annotated[
    float | None, typer.Option(min=0, help="In place of the limit for the file's precision.", rich_help_panel="Limits")
]


def register(app: typer.Typer) -> None:
    """Add the verb."""
    command(app, "verify", verify)


def verify(
    files: Annotated[list[Path], typer.Argument(help="Files of lrp-edge export or lrp-edge compile.")],
    against: Annotated[
        str,
        typer.Option(
            help="What to compare with: a checkpoint or module:factory, by PyTorch in float64, or an .onnx file in "
            "fp32 (default: the checkpoint that the file was exported from, if it lies next to it)."
        ),
    ] = "",
    weights: Weights = None,
    frames: Annotated[str, real_frames("noise")] = "",
    most: Annotated[int, typer.Option(min=1, help="Take so many of them, evenly.", rich_help_panel="Frames")] = 64,
    backend: Annotated[
        list[str] | None,
        typer.Option(
            help="types (each node rounded to its own type, as on a GPU), cpu, openvino, cuda, tensorrt, "
            "nv_tensorrt_rtx, or rtx for an engine; several times for several (default: all that fit and answer)."
        ),
    ] = None,
    tolerance_labels: _Limit = None,
    tolerance_scores: _Limit = None,
    tolerance_relevance: _Limit = None,
    tolerance_iou: _Limit = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Draw the worst frame of each file and backend there.")
    ] = None,
    json_file: Json = None,
) -> None:
    """Compare files with what they were exported from, on the same frames; exit with 1 if one is not what it was."""
    from lrp_edge.export.verify import verify as compare
    from lrp_edge.files import claim_folder

    if json_file not in (None, "-"):
        claim_folder(Path(json_file).parent)
    limits = {
        "labels": tolerance_labels,
        "scores": tolerance_scores,
        "relevance": tolerance_relevance,
        "iou": tolerance_iou,
    }
    with _progress_bar() as progress:
        found = compare(
            files,
            against=against or None,
            weights=weights,
            frames=frames or None,
            most=most,
            backends=backend or None,
            tolerance={name: limit for name, limit in limits.items() if limit is not None},
            output=output,
            progress=progress,
        )
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
    rows: list[tuple[str, str, Callable[[Result], str]]] = [
        ("labels alike, share", f">= {limits.labels:g}", lambda one: f"{one.parity.label_agreement:.4f}"),
        ("scores: greatest difference", f"<= {limits.scores:g}", lambda one: f"{one.parity.scores_max:.1e}"),
        ("scores: mean difference", "", lambda one: f"{one.parity.scores_mean:.1e}"),
        ("relevance: L2 difference", f"<= {limits.relevance:g}", lambda one: f"{one.parity.relevance_l2:.1e}"),
        ("relevance: greatest difference", "", lambda one: f"{one.parity.relevance_max:.1e}"),
        ("relevance: rank correlation", "", lambda one: f"{one.parity.relevance_rank:.4f}"),
        ("masks: mean IoU", f">= {limits.iou:g}", lambda one: f"{one.parity.mask_iou_mean:.4f}"),
        ("masks: worst IoU", "", lambda one: f"{one.parity.mask_iou_worst:.4f}"),
        ("seconds", "", lambda one: f"{one.seconds:.2f}"),
        ("verdict", "", lambda one: "beyond" if one.beyond else "holds"),
    ]
    for name, expected, figure in rows:
        table.add_row(name, expected, *map(figure, results))
    Console().print(table)
    for result in results:
        drawn = f", drawn in {result.picture}" if result.picture else ""
        typer.echo(f"worst frame on {result.backend}: {result.worst}, IoU {result.parity.mask_iou_worst:.4f}{drawn}")
