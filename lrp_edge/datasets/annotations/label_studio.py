"""Label Studio: a JSON file of tasks, with choices, polygons, ellipses and brushes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrp_edge.datasets.annotations.images import Annotated, name_of, of_format
from lrp_edge.datasets.outlines import Shape, ellipse, painted, polygon
from lrp_edge.errors import LrpEdgeError
from lrp_edge.pictures import ENDINGS
from lrp_edge.pictures.folders import Left


def is_label_studio(content: Any) -> bool:
    """Whether a JSON file is an export of Label Studio's tasks."""
    return isinstance(content, list) and bool(content) and isinstance(content[0], dict) and "data" in content[0]


def read_label_studio(path: Path, content: Any, left: Left) -> list[Annotated]:
    """Read annotated images; tasks that nobody has annotated yet are left out.

    Raises
    ------
    LrpEdgeError
        If something in the file is not as Label Studio has it.
    """
    with of_format(path, "an export of Label Studio"):
        return list(_images(content, left))


def _images(tasks: Any, left: Left) -> Iterator[Annotated]:
    for task in tasks:
        done = [each for each in task.get("annotations") or () if not each.get("was_cancelled")]
        if not done:
            left["tasks that are not annotated"] += 1
            continue
        # Of several annotators the last one's counts, as in Label Studio's own exports to masks.
        results = done[-1]["result"]
        sizes = {(each["original_height"], each["original_width"]) for each in results if "original_height" in each}
        if len(sizes) > 1:
            raise LrpEdgeError(f"an image of {len(sizes)} sizes")
        size = next(iter(sizes), (0, 0))
        chosen = [name for each in results if each["type"] == "choices" for name in each["value"]["choices"]]
        drawn = [each for each in results if each["type"] in _DRAWN]
        shapes = tuple(_DRAWN[each["type"]](each, _label(each), size) for each in drawn)
        yield Annotated(_name(task["data"]), size, shapes, str(chosen[0]) if chosen else "")


def _name(data: Any) -> str:
    """Return the image's name: the one value of a task that names a picture."""
    for value in data.values():
        name = name_of(str(value))
        if Path(name).suffix.lower() in ENDINGS:
            return name
    raise LrpEdgeError(f"no picture in the task's data {list(data)}")


def _label(result: Any) -> str:
    names = result["value"].get(result["type"]) or []
    if not names:
        raise LrpEdgeError(f"a shape of {result['type']} without a label")
    return str(names[0])


def _polygon(result: Any, label: str, size: tuple[int, int]) -> Shape:
    points = np.array(result["value"]["points"], float) * (size[1] / 100, size[0] / 100)
    return polygon(label, [points.ravel().tolist()], size)


def _ellipse(result: Any, label: str, size: tuple[int, int]) -> Shape:
    value, down, across = result["value"], size[0] / 100, size[1] / 100
    centre, radii = (value["x"] * across, value["y"] * down), (value["radiusX"] * across, value["radiusY"] * down)
    return ellipse(label, centre, radii, size, value.get("rotation", 0.0))


def _box(result: Any, label: str, size: tuple[int, int]) -> Shape:
    value = result["value"]
    return Shape(label, area=value["width"] * value["height"] / 1e4 * size[0] * size[1])


def _brush(result: Any, label: str, size: tuple[int, int]) -> Shape:
    # Four channels a pixel, of which the last says how opaque the brush was.
    values = unpacked(result["value"]["rle"])
    return painted(label, values.reshape(*size, 4)[..., 3] > 127)


def _point(result: Any, label: str, size: tuple[int, int]) -> Shape:
    return Shape(label)


_DRAWN = {
    "polygonlabels": _polygon,
    "ellipselabels": _ellipse,
    "rectanglelabels": _box,
    "brushlabels": _brush,
    "keypointlabels": _point,
}


def unpacked(data: list[int]) -> NDArray[np.uint8]:
    """Unpack the run lengths of a brush, in the format of the package rle-pack that Label Studio uses.

    A stream of bits, the highest of each byte first: the number of values (32 bits), the bits of a value less 1 (5),
    four widths of counts less 1 (4 each); then, until all values are there, a bit that says whether one value repeats
    or single ones follow, 2 bits that choose a width, the count less 1 in that width, and the value or the values.
    """
    bits = np.unpackbits(np.asarray(data, np.uint8))
    at = 0

    def take(width: int) -> int:
        nonlocal at
        if at + width > len(bits):
            raise LrpEdgeError("a brush whose run lengths end too early")
        value = int("".join(map(str, bits[at : at + width])), 2)
        at += width
        return value

    count, word, widths = take(32), take(5) + 1, [take(4) + 1 for _ in range(4)]
    if count > _MOST_VALUES:
        raise LrpEdgeError(f"a brush of {count} values")
    values, filled = np.zeros(count, np.uint8), 0
    while filled < count:
        repeats, length = take(1), take(widths[take(2)]) + 1
        if repeats:
            values[filled : filled + length] = take(word)
        else:
            for index in range(filled, min(filled + length, count)):
                values[index] = take(word)
        filled += length
    return values


#: Values of the largest brush that is unpacked: four for each of 128 million pixels.
_MOST_VALUES = 4 * 128_000_000
