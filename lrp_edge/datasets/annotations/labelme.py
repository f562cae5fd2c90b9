"""LabelMe: a JSON file beside each image that something is drawn on."""

from __future__ import annotations

import base64
import math
from pathlib import Path
from typing import Any

import numpy as np

from lrp_edge.datasets.annotations.images import Annotated, of_format, read_json
from lrp_edge.datasets.outlines import Outlines, Shape, ellipse, painted, polygon
from lrp_edge.errors import LrpEdgeError
from lrp_edge.pictures.marks import marks_of


def is_labelme(content: Any) -> bool:
    """Whether a JSON file is one of LabelMe's."""
    return isinstance(content, dict) and isinstance(content.get("shapes"), list) and "imageHeight" in content


def read_labelme(path: Path) -> Annotated | None:
    """Read what is drawn on one image; None where the file is not LabelMe's.

    Raises
    ------
    LrpEdgeError
        If something in it is not as LabelMe has it.
    """
    content = read_json(path)
    if not is_labelme(content):
        return None
    with of_format(path, "LabelMe"):
        size = int(content["imageHeight"]), int(content["imageWidth"])
        shapes = tuple(_shape(each, size) for each in content["shapes"])
        flags = [name for name, on in (content.get("flags") or {}).items() if on]
        label = flags[0] if len(flags) == 1 and not shapes else ""
        return Annotated(str(content["imagePath"]), size, shapes, label)


def outlines_beside(image: Path) -> Outlines | None:
    """Return what LabelMe's file beside an image outlines; None without one, or where it has boxes or lines.

    Raises
    ------
    LrpEdgeError
        As for :func:`read_labelme`.
    """
    path = image.with_suffix(".json")
    drawn = read_labelme(path) if path.is_file() else None
    if drawn is None or not drawn.shapes or not all(shape.runs for shape in drawn.shapes):
        return None
    return Outlines(drawn.size, tuple(shape.runs for shape in drawn.shapes), str(path))


def _shape(drawn: Any, size: tuple[int, int]) -> Shape:
    label, kind, points = str(drawn["label"]), drawn.get("shape_type") or "polygon", drawn["points"]
    if kind == "polygon":
        return polygon(label, [[value for point in points for value in point]], size)
    if kind == "circle":
        (x, y), edge = points
        radius = math.dist((x, y), edge)
        return ellipse(label, (x, y), (radius, radius), size)
    if kind == "mask":
        return painted(label, _pasted(drawn, size))
    if kind == "rectangle":
        (left, top), (right, bottom) = points
        return Shape(label, area=abs(right - left) * abs(bottom - top))
    if kind in ("line", "linestrip", "point", "points"):
        return Shape(label)
    raise LrpEdgeError(f"shape_type {kind!r} is not known")


def _pasted(drawn: Any, size: tuple[int, int]) -> Any:
    """Return a mask at its place in the image, bool [H, W]; its box includes its last row and column."""
    (left, top), _ = ((round(x), round(y)) for x, y in drawn["points"])
    mask = marks_of(base64.b64decode(drawn["mask"]), "its mask")
    whole = np.zeros(size, bool)
    target = whole[top : top + mask.shape[0], left : left + mask.shape[1]]
    target[:] = mask[: target.shape[0], : target.shape[1]]
    return whole
