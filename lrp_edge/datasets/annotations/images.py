"""Annotated images become samples: one label an image, and its outlines as pixel truth."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from lrp_edge.datasets.outlines import Outlines, Shape
from lrp_edge.datasets.samples import OK, Sample
from lrp_edge.errors import LrpEdgeError, first_line
from lrp_edge.pictures.folders import Left, pictures_in


@dataclass(frozen=True)
class Annotated:
    """An image and what is drawn on it.

    Attributes
    ----------
    name : str
        The image as the annotations call it.
    size : (height, width)
        In pixels.
    shapes : tuple of Shape
        What is drawn.
    label : str
        Its class where the image as a whole has one; empty otherwise.
    part : str
        The part of a split, if that is known.
    """

    name: str
    size: tuple[int, int]
    shapes: tuple[Shape, ...] = ()
    label: str = ""
    part: str = ""


def name_of(address: str) -> str:
    """Return the path of a picture in an address of Label Studio's server or of a store; other names as they are."""
    if "://" not in address and not address.startswith("/data/"):
        return address
    parts = urlsplit(address)
    path = unquote((parse_qs(parts.query).get("d") or [parts.path])[0])
    # An upload gets eight digits in front of its name.
    return re.sub(r"^.*/upload/\d+/[0-9a-f]{8}-", "", path)


class Pictures:
    """The pictures of a folder, found by what annotations call them."""

    def __init__(self, root: Path, left: Left) -> None:
        self.root, self.paths = root, pictures_in(root, left)
        self._by_name: dict[str, list[Path]] = {}
        for path in self.paths:
            self._by_name.setdefault(path.name, []).append(path)

    def find(self, name: str, beside: Path) -> Path | None:
        """Return an image by its path from the annotations, from the folder, or by its name where only one has it.

        Raises
        ------
        LrpEdgeError
            If several images may be meant.
        """
        inner = PurePosixPath(name_of(name).replace("\\", "/"))
        for folder in (beside, self.root, self.root / "images"):
            path = Path(os.path.normpath(folder / inner))
            # A path that leads out of the folder is a name alone.
            if os.path.isfile(path) and Path(os.path.abspath(path)).is_relative_to(os.path.abspath(self.root)):
                return path
        found = self._by_name.get(inner.name, [])
        if len(found) > 1:
            raise LrpEdgeError(
                f"{name} may be {found[0]} or {found[1]}; expected paths from the folder of the annotations"
            )
        return found[0] if found else None


def samples_of(annotated: Iterable[Annotated], pictures: Pictures, file: Path, left: Left) -> list[Sample]:
    """Give each annotated image one label and its pixel truth.

    Parameters
    ----------
    annotated : iterable of Annotated
        Images; one on which nothing is drawn is OK.
    pictures : Pictures
        Where they are.
    file : Path
        The annotations.
    left : Left
        Counts images that are not there, and what could not be told: of several classes on one image the one that
        covers most is its label, and an image with a box or a line has no pixel truth.
    """
    found = []
    for image in annotated:
        path = pictures.find(image.name, file.parent)
        if path is None:
            left["annotated images that are not there"] += 1
            continue
        areas: dict[str, float] = {}
        for shape in image.shapes:
            areas[shape.label] = areas.get(shape.label, 0.0) + shape.area
        if len(areas) > 1 and not image.label:
            left["classes of images with several"] += len(areas) - 1
        label = image.label or max(areas, key=lambda name: areas[name], default=OK)
        runs = tuple(shape.runs for shape in image.shapes if shape.runs)
        whole = len(runs) == len(image.shapes)
        if not whole:
            left["outlines of images with a box, line or point"] += 1
        truth = Outlines(image.size, runs, f"{file}: {image.name}") if runs and whole else None
        found.append(Sample(path, label, truth, part=image.part))
    return sorted(found, key=lambda sample: sample.path)


def read_json(path: Path) -> Any:
    """Read a JSON file; None where it is none."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None


@contextmanager
def of_format(path: Path, what: str) -> Iterator[None]:
    """Say in one line what in a file is not as its format has it.

    Raises
    ------
    LrpEdgeError
        In place of any error of the block.
    """
    try:
        yield
    except (LrpEdgeError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        name = f"{type(error).__name__}: " if isinstance(error, LookupError) else ""
        raise LrpEdgeError(f"{path}: not {what} as expected ({name}{first_line(error)}); export it again") from error
