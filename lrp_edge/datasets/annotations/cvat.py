"""CVAT for images: one XML file."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from lrp_edge.datasets.annotations.images import Annotated, of_format
from lrp_edge.datasets.outlines import Shape, ellipse, painted, polygon
from lrp_edge.datasets.samples import PARTS
from lrp_edge.errors import LrpEdgeError


def read_cvat(path: Path) -> list[Annotated]:
    """Read annotated images.

    Raises
    ------
    LrpEdgeError
        If the file is not XML as CVAT writes it.
    """
    data = path.read_bytes()
    if b"<!" in data.replace(b"<!--", b""):
        raise LrpEdgeError(f"{path} declares a document type or entities, as no export of CVAT does; export it again")
    try:
        root = ElementTree.fromstring(data)
    except ElementTree.ParseError as error:
        raise LrpEdgeError(f"{path} is no XML ({error}); export it again as 'CVAT for images'") from error
    with of_format(path, "CVAT for images"):
        if root.tag != "annotations":
            raise LrpEdgeError(f"its root is {root.tag}")
        return list(_images(root))


def _images(root: ElementTree.Element) -> Iterator[Annotated]:
    for image in root.iter("image"):
        size = int(image.attrib["height"]), int(image.attrib["width"])
        shapes = tuple(_SHAPES[each.tag](each.attrib, size) for each in image if each.tag in _SHAPES)
        tags = [each.attrib["label"] for each in image.iter("tag")]
        subset = image.attrib.get("subset", "").lower()
        yield Annotated(image.attrib["name"], size, shapes, tags[0] if tags else "", PARTS.get(subset, ""))


def _points(text: str) -> list[float]:
    return [float(value) for pair in text.split(";") for value in pair.split(",")]


def _box(drawn: Any, size: tuple[int, int]) -> Shape:
    left, top, right, bottom = (float(drawn[name]) for name in ("xtl", "ytl", "xbr", "ybr"))
    return Shape(drawn["label"], area=abs(right - left) * abs(bottom - top))


def _ellipse(drawn: Any, size: tuple[int, int]) -> Shape:
    x, y, across, down = (float(drawn[name]) for name in ("cx", "cy", "rx", "ry"))
    return ellipse(drawn["label"], (x, y), (across, down), size, float(drawn.get("rotation", 0.0)))


def _mask(drawn: Any, size: tuple[int, int]) -> Shape:
    """Unpack run lengths by row within a box, of which the first is not marked."""
    left, top, width, height = (int(float(drawn[name])) for name in ("left", "top", "width", "height"))
    runs = [int(count) for count in drawn["rle"].split(",")]
    if sum(runs) != width * height or min(runs) < 0:
        raise LrpEdgeError(f"run lengths of {sum(runs)} pixels in a box of {height}x{width}")
    inside, ends = np.zeros(width * height, bool), list(accumulate(runs))
    for start, end in zip(ends[::2], ends[1::2], strict=False):
        inside[start:end] = True
    whole = np.zeros(size, bool)
    target = whole[top : top + height, left : left + width]
    target[:] = inside.reshape(height, width)[: target.shape[0], : target.shape[1]]
    return painted(drawn["label"], whole)


_SHAPES: dict[str, Any] = {
    "polygon": lambda drawn, size: polygon(drawn["label"], [_points(drawn["points"])], size),
    "ellipse": _ellipse,
    "mask": _mask,
    "box": _box,
    "polyline": lambda drawn, size: Shape(drawn["label"]),
    "points": lambda drawn, size: Shape(drawn["label"]),
}
