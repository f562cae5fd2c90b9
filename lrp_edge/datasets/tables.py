"""A table of labelled images: CSV with columns path and label, and if wanted mask, group and split."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from pathlib import Path

from lrp_edge.datasets.samples import Sample
from lrp_edge.errors import LrpEdgeError


def read_table(path: Path) -> list[Sample]:
    """Read a table; its paths are relative to it, and spaces around its cells are not part of them.

    Raises
    ------
    LrpEdgeError
        If it cannot be read, a row has no path or no label, names a mask that is not there, or contradicts another.
    """
    found: dict[Path, tuple[int, Sample]] = {}
    for line, row in _rows(path):
        if not row.get("path") or not row.get("label"):
            raise LrpEdgeError(
                f"{path}, line {line}: columns {', '.join(name for name in row if row[name])}; expected at least path "
                "and label, neither empty"
            )
        mask = path.parent / row["mask"] if row.get("mask") else None
        if mask and not mask.is_file():
            raise LrpEdgeError(f"{path}, line {line}: no mask at {mask}; fix the path or leave the column empty")
        image = path.parent / row["path"]
        sample = Sample(image, row["label"], mask, row.get("group", ""), row.get("split", ""))
        first, before = found.setdefault(Path(os.path.normpath(image)), (line, sample))
        if before != sample:
            raise LrpEdgeError(f"{path}, lines {first} and {line}: {image} has two rows that differ; keep one")
    return [sample for _, sample in found.values()]


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the lines of a table and their cells, stripped, by stripped column."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            for row in reader:
                # More cells than columns are a list under None; fewer leave None in the others.
                cells = {str(name).strip().lower(): cell or "" for name, cell in row.items() if name is not None}
                yield reader.line_num, {name: str(cell).strip() for name, cell in cells.items()}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise LrpEdgeError(
            f"{path}: not a readable table ({error}); expected CSV with columns path and label"
        ) from error
