"""Clicks: points that an annotator set on defects, one or more for an image; less work than an outline.

A click says where a defect is, not how far it reaches. The file is a CSV table with columns ``path``, ``x`` and
``y``, in pixels from the upper left corner.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lrp_edge.datasets.samples import Dataset, read_mask
from lrp_edge.errors import LrpEdgeError, needs_extra
from lrp_edge.files import write_text
from lrp_edge.pictures import read_header

#: Points [n, 2] as (row, column) in pixels, by the name of the image.
Clicks = Mapping[str, NDArray[np.float64]]

#: A region of the pixel truth smaller than this is left unclicked: an annotator would not see it.
SMALLEST_REGION = 15
#: How deep in a region the click lies, as a share of its greatest depth: annotators aim at the middle, and miss.
DEPTH = 0.6


def read_clicks(path: str | os.PathLike[str], dataset: Dataset) -> Clicks:
    """Read clicks on images of a dataset; those on other images are left out.

    Raises
    ------
    LrpEdgeError
        If the file cannot be read, lacks a column, or has no click on an image of the dataset.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            rows = [(row["path"], float(row["y"]), float(row["x"])) for row in csv.DictReader(file)]
    except (OSError, UnicodeDecodeError, KeyError, TypeError, ValueError, csv.Error) as error:
        # Python's message names a missing column only, and for text that is not a number the function that got it.
        reasons = {
            KeyError: f"it lacks the column {error}",
            TypeError: "a row is too short",
            ValueError: "an x or y is not a number",
        }
        raise LrpEdgeError(
            f"{path}: the clicks cannot be read ({reasons.get(type(error), error)}); expected CSV with columns path, "
            "x and y"
        ) from error
    known = set(dataset.names)
    found: dict[str, list[tuple[float, float]]] = {}
    for name, row, column in rows:
        if name in known:
            found.setdefault(name, []).append((row, column))
    if not found:
        raise LrpEdgeError(
            f"{path}: none of its {len(rows)} clicks is on an image of the data; names are paths from its root, "
            f"e.g. {next(iter(known), '')}"
        )
    return {name: np.array(points) for name, points in found.items()}


def write_clicks(path: str | os.PathLike[str], clicks: Clicks) -> None:
    """Write clicks as a table.

    Raises
    ------
    LrpEdgeError
        If the file cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "x", "y"])
    writer.writerows([name, f"{x:g}", f"{y:g}"] for name, points in clicks.items() for y, x in points)
    write_text(path, text.getvalue())


def simulate_clicks(dataset: Dataset, seed: int = 0) -> Clicks:
    """Set one click on each region of the pixel truth, as an annotator would: well inside, not at its middle.

    This is for experiments, where pixel truth stands in for the annotator; it is the one place where it is
    turned into a label.

    Parameters
    ----------
    dataset : Dataset
        Its samples without a mask get no click.
    seed : int
        The same seed gives the same clicks.
    """
    with needs_extra("train"):
        import cv2
    generator = np.random.default_rng(seed)
    clicks = {}
    for name, sample in zip(dataset.names, dataset.samples, strict=True):
        if sample.mask is None:
            continue
        truth = read_mask(sample, read_header(sample.path, sample.pictures).size)
        _, regions, statistics, _ = cv2.connectedComponentsWithStats(truth.astype(np.uint8))
        points = []
        for region in np.flatnonzero(statistics[1:, cv2.CC_STAT_AREA] >= SMALLEST_REGION) + 1:
            depth = cv2.distanceTransform((regions == region).astype(np.uint8), cv2.DIST_L2, 3)
            inside = np.argwhere(depth >= DEPTH * depth.max())
            points.append(inside[generator.integers(len(inside))])
        if points:
            clicks[name] = np.array(points, np.float64)
    return clicks
