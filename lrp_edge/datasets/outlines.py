"""What labelling tools draw on an image, and the pixels that it marks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrp_edge.errors import LrpEdgeError, needs_extra

#: Corners of the polygon that stands for an ellipse.
_CORNERS = 72
#: Corners further out than so many times the image's longer side are no annotation of it.
_FAR = 10
_MOST_PIXELS = 1 << 30


@dataclass(frozen=True)
class Shape:
    """A thing that is drawn on an image.

    Attributes
    ----------
    label : str
        Its class.
    runs : bytes
        Its pixels, as COCO's compressed run lengths; empty for what has no outline: a box, a line, a point.
    area : float
        In pixels; of a box that which it covers.
    """

    label: str
    runs: bytes = b""
    area: float = 0.0


@dataclass(frozen=True)
class Outlines:
    """Pixel truth of an image in run lengths, in place of a file.

    Attributes
    ----------
    size : (height, width)
        Of the image, in pixels.
    runs : tuple of bytes
        COCO's compressed run lengths of each shape.
    source : str
        Where it is from, for errors.
    """

    size: tuple[int, int]
    runs: tuple[bytes, ...]
    source: str

    def marks(self) -> NDArray[np.bool_]:
        """Return what any of the shapes marks, bool [H, W]."""
        merged = _coco().merge([{"size": list(self.size), "counts": runs} for runs in self.runs])
        return np.asarray(_coco().decode(merged), bool)

    def __str__(self) -> str:
        return self.source


def polygon(label: str, rings: Iterable[Sequence[float]], size: tuple[int, int]) -> Shape:
    """Make a shape of polygons, each x, y, x, y, … in pixels; those of fewer than three corners have no area.

    Raises
    ------
    LrpEdgeError
        If a corner is far out of the image, or the image has no possible size.
    """
    _check_size(size)
    corners = [list(map(float, ring[: len(ring) // 2 * 2])) for ring in rings if len(ring) >= 6]
    for ring in corners:
        # The library trusts what it is given.
        if not all(abs(value) <= _FAR * max(size) for value in ring):
            raise LrpEdgeError(f"a corner far out of an image of {size[0]}x{size[1]}")
    return _shape(label, _coco().merge(_coco().frPyObjects(corners, *size))) if corners else Shape(label)


def ellipse(
    label: str, centre: tuple[float, float], radii: tuple[float, float], size: tuple[int, int], turned: float = 0.0
) -> Shape:
    """Make a shape of an ellipse by x, y of its centre and its radii in pixels, turned clockwise by degrees."""
    angles, turn = np.linspace(0, 2 * np.pi, _CORNERS, endpoint=False), np.deg2rad(turned)
    x, y = radii[0] * np.cos(angles), radii[1] * np.sin(angles)
    corners = np.stack([x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)], 1) + centre
    return polygon(label, [corners.ravel().tolist()], size)


def painted(label: str, marked: NDArray[np.bool_]) -> Shape:
    """Make a shape of its pixels, bool [H, W]."""
    return _shape(label, _coco().encode(np.asfortranarray(marked.astype(np.uint8))))


def counted(label: str, counts: str | Sequence[int], size: tuple[int, int]) -> Shape:
    """Make a shape of COCO's run lengths, compressed or not.

    Raises
    ------
    LrpEdgeError
        If they are not as many pixels as the image has, or the image has no possible size.
    """
    _check_size(size)
    runs = _uncompressed(counts) if isinstance(counts, str) else [int(count) for count in counts]
    if sum(runs) != size[0] * size[1] or min(runs) < 0:
        raise LrpEdgeError(f"run lengths of {sum(runs)} pixels for an image of {size[0]}x{size[1]}")
    return _shape(label, _coco().frPyObjects({"size": list(size), "counts": runs}, *size))


def _uncompressed(text: str) -> list[int]:
    """Unpack COCO's run lengths, of which the library that packs them does not look where they end.

    Each is given by 5 bits a character, the low ones first; from the fourth on as the difference to the one before the
    last.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise LrpEdgeError("run lengths that are no text of COCO's")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        value -= 1 << shift if bits & 16 else 0
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value = shift = 0
    return runs


def _check_size(size: tuple[int, int]) -> None:
    if min(size) < 1 or size[0] * size[1] > _MOST_PIXELS:
        raise LrpEdgeError(f"an image of {size[0]}x{size[1]}")


def _shape(label: str, runs: dict[str, Any]) -> Shape:
    area = float(_coco().area(runs))
    return Shape(label, runs["counts"] if area else b"", area)


def _coco() -> Any:
    with needs_extra("train"):
        from pycocotools import mask
    return mask
