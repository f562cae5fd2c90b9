"""COCO: one file of images, categories, and polygons or run lengths."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lrp_edge.datasets.annotations.images import Annotated, of_format
from lrp_edge.datasets.outlines import Shape, counted, polygon


def is_coco(content: Any) -> bool:
    """Whether a JSON file is one of COCO's."""
    return isinstance(content, dict) and all(isinstance(content.get(key), list) for key in ("images", "annotations"))


def read_coco(path: Path, content: Any, part: str = "") -> list[Annotated]:
    """Read annotated images.

    Raises
    ------
    LrpEdgeError
        If something in the file is not as COCO has it.
    """
    with of_format(path, "COCO"):
        return list(_images(content, part))


def _images(content: Any, part: str) -> Iterator[Annotated]:
    names = {each["id"]: str(each["name"]) for each in content.get("categories", [])}
    drawn = defaultdict(list)
    for each in content["annotations"]:
        drawn[each["image_id"]].append(each)
    for image in content["images"]:
        # Label Studio knows no size of an image on which nothing is drawn.
        size = int(image["height"] or 0), int(image["width"] or 0)
        shapes = tuple(_shape(each, names[each["category_id"]], size) for each in drawn[image["id"]])
        yield Annotated(str(image["file_name"]), size, shapes, part=part)


def _shape(annotation: Any, label: str, size: tuple[int, int]) -> Shape:
    drawn = annotation.get("segmentation")
    if isinstance(drawn, dict):
        return counted(label, drawn["counts"], size)
    shape = polygon(label, drawn or [], size)
    if shape.runs:
        return shape
    *_, width, height = annotation.get("bbox") or (0, 0, 0, 0)
    return Shape(label, area=float(width) * float(height))
