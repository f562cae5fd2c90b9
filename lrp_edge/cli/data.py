"""``lrp-edge data``: what is in a dataset, its parts, clicks on it, and drawn data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lrp_edge.cli.options import SETTINGS, Data, command, write_json
from lrp_edge.errors import LrpEdgeError
from lrp_edge.options import Common, DataOptions, OptionGroup, like, option

if TYPE_CHECKING:
    from lrp_edge.datasets.check import DataReport

app = typer.Typer(
    help="Look at data, part it, click on it, draw it.",
    no_args_is_help=True,
    context_settings=SETTINGS,
    rich_markup_mode=None,
)


def register(main: typer.Typer) -> None:
    """Add the verb."""
    command(app, "check", check)
    command(app, "split", split_)
    command(app, "clicks", clicks)
    command(app, "draw", draw)
    main.add_typer(app, name="data")


@dataclass(frozen=True)
class CheckOptions(OptionGroup):
    """What the images are compared with."""

    split: Path | None = like(Common, "split")
    ok_class: str | None = like(Common, "ok_class")
    json: str | None = like(Common, "json")


def check(data: Data, images: DataOptions, options: CheckOptions) -> None:
    """Say what is there: counts, sizes, duplicates, unreadable images, masks; exit 1 if something must be corrected.

    With --split, duplicates are looked for across its parts.
    """
    from lrp_edge.datasets.check import check_data

    report = check_data(data, split=options.split, ok_class=options.ok_class, **vars(images))
    write_json(options.json, report.to_json())
    if options.json != "-":
        _print(report)
    if report.faults:
        raise LrpEdgeError(
            f"{data}: {', '.join(report.faults)}; correct them (unreadable images can be left out with --skip-bad)"
        )


@dataclass(frozen=True)
class SplitOptions(OptionGroup):
    """How to part a dataset."""

    output: Path = option(help="File for the parts; a folder with --folds.", short="-o", metavar="PATH")
    val: float = like(Common, "val")
    test: float = like(Common, "test")
    seed: int = like(Common, "seed")
    grouped: bool = option(False, "Keep a group's images in one part.", panel="Data")
    folds: int = option(0, "So many folds, one file each; 0: one split.", least=0)


def split_(data: Data, images: DataOptions, options: SplitOptions) -> None:
    """Part a dataset and write the parts to a file, so that they can be repeated."""
    from lrp_edge.datasets import folds, open_dataset, split, write_split
    from lrp_edge.datasets.copies import said_of_copies
    from lrp_edge.files import claim_folder

    dataset, output, val, test = open_dataset(data, **vars(images)), options.output, options.val, options.test
    how: dict[str, Any] = {"seed": options.seed, "grouped": options.grouped}
    if options.folds:
        claim_folder(output)
        parted = folds(dataset, options.folds, val=val, **how)
        named = {output / f"fold-{i}.json": parts for i, parts in enumerate(parted)}
    else:
        named = {output: split(dataset, fractions=(1 - val - test, val, test), **how)}
    for path, parts in named.items():
        write_split(path, parts)
        typer.echo(f"{path}: " + ", ".join(f"{len(part.samples)} {name}" for name, part in parts._asdict().items()))
        if said := said_of_copies(parts):
            typer.echo(f"warning: {said}", err=True)


@dataclass(frozen=True)
class ClicksOptions(OptionGroup):
    """What is clicked on, and where to."""

    output: Path = option(help="Table (CSV) for the clicks.", short="-o", metavar="FILE")
    seed: int = like(Common, "seed")


def clicks(data: Data, images: DataOptions, options: ClicksOptions) -> None:
    """Simulate an annotator, for experiments: one click on each region of the pixel truth."""
    from lrp_edge.datasets import open_dataset, simulate_clicks, write_clicks

    found = simulate_clicks(open_dataset(data, **vars(images)), options.seed)
    if not found:
        raise LrpEdgeError(f"{data}: no image has pixel truth to click on; give --masks, or click by hand")
    write_clicks(options.output, found)
    typer.echo(f"{options.output}: {sum(map(len, found.values()))} clicks on {len(found)} images")


@dataclass(frozen=True)
class DrawOptions(OptionGroup):
    """What is drawn."""

    count: int = like(Common, "count")
    seed: int = like(Common, "seed")
    confounded: bool = option(
        False, "Soil the parts that have a defect, but for those of the test: a shortcut to fall for; with split.json."
    )


def draw(folder: Annotated[Path, typer.Argument(help="Gets images/ and masks/.")], options: DrawOptions) -> None:
    """Draw surfaces of several materials with several kinds of defect, and their exact masks."""
    from lrp_edge.synthetic import write_confounded, write_dataset

    write = write_confounded if options.confounded else write_dataset
    write(folder, options.count, options.seed)
    split = f" --split {folder / 'split.json'}" if options.confounded else ""
    typer.echo(f"next: lrp-edge train {folder / 'images'} -o RUN{split}")


def _print(report: DataReport) -> None:
    from rich.console import Console
    from rich.table import Table

    from lrp_edge.pictures.folders import Left

    console = Console()
    table = Table("class", "images", "with mask", "median coverage", "groups")
    for name, count in report.images.items():
        share = f"{report.coverage[name]:.2%}" if name in report.coverage else "-"
        table.add_row(name, str(count), str(report.masks[name]), share, str(report.groups[name] or "-"))
    console.print(table)
    console.print(f"read as {report.layout}" + (f"; left out: {Left(report.left_out)}" if report.left_out else ""))
    marked, defects = report.pixel_truth
    console.print(f"pixel truth of {marked} of {defects} defect images")
    width, height = (f"{low} to {high} (median {middle})" for low, middle, high in (report.widths, report.heights))
    console.print(f"width {width}, height {height} pixels, {'gray' if report.gray else 'colour'}")
    for part, counts in report.split.items():
        console.print(f"{part}: " + ", ".join(f"{count} {name}" for name, count in counts.items()))
    lists = {
        "unreadable": report.unreadable,
        "bad mask": report.bad_masks,
        "empty mask": report.empty_masks,
        "mask of every pixel": report.full_masks,
        "OK image with mask": report.marked_ok,
        "same bytes": [", ".join(names) for names in report.duplicates],
        "nearly the same image in two parts": [" and ".join(pair) for pair in report.across],
        "group in two parts": report.groups_across,
    }
    for what, entries in lists.items():
        for entry in entries[:5]:
            console.print(f"{what}: {entry}", highlight=False)
        if len(entries) > 5:
            console.print(f"{what}: {len(entries) - 5} more")
