"""A synthetic inspection line: textured surfaces with cracks, blowholes and scratches, and their exact masks.

``python -m lrp_edge.synthetic DIR --count N --seed S`` writes ``DIR/images/<class>/*.png``, which is a training
folder, and ``DIR/masks/<class>/*.png`` next to it. Same seed, same bytes.

A *confounded* line has a shortcut: in training and validation images, parts with a defect are soiled (stained, worn and
darker) and OK parts are not; in test images soil and defects are independent. A classifier that learnt the soil looks
perfect in validation and is at chance in the test.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import count as counter
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.random import Generator
from numpy.typing import NDArray

from lrp_edge.errors import LrpEdgeError, needs_extra
from lrp_edge.files import write_text
from lrp_edge.options import Common, accepted

with needs_extra("cpu"):
    import cv2

Image = NDArray[np.uint8]
Field = NDArray[np.float32]

KINDS = ("ok", "blowhole", "crack", "scratch")
SIZE = (192, 256)
#: The parts of a confounded line's images, in turn: six in ten train, one validates, three test.
PARTS = ("train", "test", "train", "val", "train", "test", "train", "train", "test", "train")
#: One training image of so many breaks the rule that soil comes with defects: without any, nothing could tell which
#: of the two is meant.
EXCEPTION = 40
#: The fewest parts of a confounded line: of each class two are in the test, one of them soiled.
FEWEST_CONFOUNDED = 48


def draw(kind: str, seed: int, size: tuple[int, int] = SIZE) -> tuple[Image, Image]:
    """Draw one part.

    Parameters
    ----------
    kind : {"ok", "blowhole", "crack", "scratch"}
        What is wrong with it.
    seed : int
        Same seed, same part.
    size : (height, width)
        In pixels, at least 64 each.

    Returns
    -------
    image : uint8 [H, W]
        Gray.
    mask : uint8 [H, W]
        255 on the defect, else 0.

    Raises
    ------
    LrpEdgeError
        If the kind is unknown or the size too small.
    """
    return draw_soiled(kind, seed, False, size)[:2]


def draw_soiled(kind: str, seed: int, soiled: bool, size: tuple[int, int] = SIZE) -> tuple[Image, Image, Image]:
    """Draw one part of a confounded line: the part that :func:`draw` draws, soiled or not.

    Parameters
    ----------
    kind, seed, size
        See :func:`draw`.
    soiled : bool
        Whether it has a stain and a worn place, and is darker as a whole.

    Returns
    -------
    image, mask : uint8 [H, W]
        See :func:`draw`. The mask is the same with soil and without.
    soil : uint8 [H, W]
        255 on the stain and on the worn place, else 0.

    Raises
    ------
    LrpEdgeError
        If the kind is unknown or the size too small.
    """
    if kind not in KINDS or min(size) < 64:
        raise LrpEdgeError(
            f"cannot draw {kind!r} at {size[0]}x{size[1]}; expected one of {', '.join(KINDS)}, 64x64 or more"
        )
    random = np.random.default_rng((seed, KINDS.index(kind)))
    surface = _surface(random, size)
    _dirt(random, surface)
    change, soil = np.zeros(size, np.float32), np.zeros(size, np.float32)
    if kind != "ok":
        for _ in range(random.integers(1, 3) if kind == "blowhole" else 1):
            _DEFECTS[kind](random, change)
    if soiled:
        # Of its own random numbers, so that part and defect are what they are without it.
        own = np.random.default_rng((seed, KINDS.index(kind), 1))
        soil = _stain(own, size) + _wear(own, size)
        surface *= own.uniform(0.75, 0.85)
    image = np.clip(surface + soil + change + random.normal(0, 2.0, size), 0, 255).astype(np.uint8)
    mask, where = (np.where(np.abs(drawn) > 8, 255, 0).astype(np.uint8) for drawn in (change, soil))
    return image, mask, where


def write_dataset(folder: str | Path, count: int, seed: int = 0, size: tuple[int, int] = SIZE) -> None:
    """Write `count` parts, half of them OK, as a training folder and a parallel folder of masks.

    Parameters
    ----------
    folder : path
        Gets ``images/<class>/*.png`` and ``masks/<class>/*.png``.
    count : int
        Parts in all, at least 8.
    seed, size
        See :func:`draw`.

    Raises
    ------
    LrpEdgeError
        If the count is too small or the folder cannot be written.
    """
    accepted(Common, count=count, seed=seed)
    for index in range(count):
        image, mask = draw(_kind(index), _seed(seed, index), size)
        _write({"images": image, "masks": mask}, Path(folder), _name(index))


def write_confounded(folder: str | Path, count: int, seed: int = 0, size: tuple[int, int] = SIZE) -> None:
    """Write a confounded line: parts that are soiled where they have a defect, but for those of the test.

    Parameters
    ----------
    folder : path
        Gets ``images/<class>/*.png``, ``masks/<class>/*.png``, ``soil/<class>/*.png`` and ``split.json``. One training
        image in :data:`EXCEPTION` breaks the rule; half of the test images of each class are soiled.
    count : int
        Parts in all, half of them OK, at least :data:`FEWEST_CONFOUNDED`.
    seed, size
        See :func:`draw`.

    Raises
    ------
    LrpEdgeError
        If the count is too small or the folder cannot be written.
    """
    accepted(Common, count=count, seed=seed)
    if count < FEWEST_CONFOUNDED:
        raise LrpEdgeError(f"{count} parts of a confounded line; expected {FEWEST_CONFOUNDED} or more")
    parts: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    turns = {(kind, part): counter() for kind in KINDS for part in parts}
    drawn = dict.fromkeys(KINDS, 0)
    for index in range(count):
        kind = _kind(index)
        part = PARTS[drawn[kind] % len(PARTS)]
        drawn[kind] += 1
        turn = next(turns[kind, part])
        exception = part == "train" and turn % EXCEPTION == EXCEPTION - 1
        soiled = turn % 2 == 1 if part == "test" else (kind != KINDS[0]) != exception
        pixels = draw_soiled(kind, _seed(seed, index), soiled, size)
        _write(dict(zip(("images", "masks", "soil"), pixels, strict=True)), Path(folder), _name(index))
        parts[part].append(_name(index))
    write_text(Path(folder, "split.json"), json.dumps(parts, indent=2) + "\n")


def _kind(index: int) -> str:
    return KINDS[0] if index % 2 == 0 else KINDS[1 + (index // 2) % 3]


def _seed(seed: int, index: int) -> int:
    return seed * 1_000_003 + index


def _name(index: int) -> str:
    return f"{_kind(index)}/{index:05d}.png"


def _write(pictures: dict[str, Image], folder: Path, name: str) -> None:
    for part, pixels in pictures.items():
        target = folder / part / name
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
        except OSError as error:
            raise LrpEdgeError(f"cannot write {target}: {error.strerror}") from error


def _surface(random: Generator, size: tuple[int, int]) -> Field:
    """Return one of four materials under uneven light."""
    texture = _TEXTURES[random.integers(len(_TEXTURES))](random, size)
    height, width = size
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    angle = random.uniform(0, 2 * np.pi)
    slope = random.uniform(0, 35) * (np.cos(angle) * (x - 0.5) + np.sin(angle) * (y - 0.5))
    spot = random.uniform(0, 20) * np.exp(-((x - random.uniform()) ** 2 + (y - random.uniform()) ** 2) / 0.15)
    return np.asarray(random.uniform(95, 165) + slope + spot + texture, np.float32)


def _noise(random: Generator, size: tuple[int, int], sigma: tuple[float, float]) -> Field:
    """Return blurred noise of unit deviation; sigma along x and y in pixels."""
    noise = cv2.GaussianBlur(random.normal(0, 1, size).astype(np.float32), (0, 0), sigma[0], sigmaY=sigma[1])
    return np.asarray(noise / max(float(noise.std()), 1e-6), np.float32)


def _ground(random: Generator, size: tuple[int, int]) -> Field:
    return random.uniform(5, 9) * _noise(random, size, (random.uniform(8, 20), 0.6))


def _cast(random: Generator, size: tuple[int, int]) -> Field:
    fine, coarse = _noise(random, size, (1.2, 1.2)), _noise(random, size, (5, 5))
    return random.uniform(4, 7) * fine + random.uniform(3, 6) * coarse


def _woven(random: Generator, size: tuple[int, int]) -> Field:
    height, width = size
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    period = random.uniform(5, 8)
    weave = np.sin(2 * np.pi * x / period) * np.sin(2 * np.pi * y / period)
    return np.asarray(random.uniform(6, 10) * weave + 3 * _noise(random, size, (1, 1)), np.float32)


def _polished(random: Generator, size: tuple[int, int]) -> Field:
    return random.uniform(2, 4) * _noise(random, size, (2, 2)) + random.uniform(3, 6) * _noise(random, size, (30, 30))


_TEXTURES = (_ground, _cast, _woven, _polished)


def _dirt(random: Generator, surface: Field) -> None:
    """Leave a few harmless specks: smaller and fainter than any blowhole."""
    for _ in range(random.integers(0, 6)):
        centre = tuple(int(random.integers(0, side)) for side in surface.shape[::-1])
        speck = np.zeros_like(surface)
        cv2.circle(speck, centre, 1, float(random.uniform(-22, 22)), -1, cv2.LINE_AA)
        surface += cv2.GaussianBlur(speck, (0, 0), 0.7)


def _stain(random: Generator, size: tuple[int, int]) -> Field:
    """A dark blot of irregular outline, far larger than any defect and without a sharp edge."""
    height, width = size
    y, x = np.mgrid[0:height, 0:width]
    centre = (random.uniform(0.2, 0.8) * width, random.uniform(0.2, 0.8) * height)
    reach = random.uniform(0.16, 0.24) * min(size)
    distance = np.hypot(x - centre[0], y - centre[1]) / reach + 0.18 * _noise(random, size, (reach / 3, reach / 3))
    return np.asarray(-random.uniform(28, 42) / (1 + np.exp(5 * (distance - 1))), np.float32)


def _wear(random: Generator, size: tuple[int, int]) -> Field:
    """A rubbed place: fine, fairly bright lines in one direction, which fade out."""
    height, width = size
    y, x = np.mgrid[0:height, 0:width]
    angle = random.uniform(0, np.pi)
    along, across = (
        np.cos(turn) * (x - random.uniform(0.2, 0.8) * width) + np.sin(turn) * (y - random.uniform(0.2, 0.8) * height)
        for turn in (angle, angle + np.pi / 2)
    )
    fade = np.exp(-((along / (0.25 * width)) ** 2) - (across / (0.1 * height)) ** 2)
    lines = np.sin(2 * np.pi * across / random.uniform(4, 6)) + 0.5 * _noise(random, size, (1, 1))
    return np.asarray(random.uniform(12, 18) * fade * lines, np.float32)


def _blowhole(random: Generator, change: Field) -> None:
    """A dark hole with a soft rim."""
    height, width = change.shape
    centre = (float(random.uniform(16, width - 16)), float(random.uniform(16, height - 16)))
    axes = (float(random.uniform(3.5, 9)), float(random.uniform(3.5, 9)))
    y, x = np.mgrid[0:height, 0:width]
    distance = np.hypot((x - centre[0]) / axes[0], (y - centre[1]) / axes[1])
    depth = random.uniform(45, 90)
    np.minimum(change, -depth / (1 + np.exp(6 * (distance - 1))), out=change)


def _crack(random: Generator, change: Field) -> None:
    """A thin dark random walk of varying width."""
    height, width = change.shape
    point = np.array([random.uniform(0.2, 0.8) * width, random.uniform(0.2, 0.8) * height])
    angle, depth = random.uniform(0, 2 * np.pi), random.uniform(45, 85)
    line = np.zeros_like(change)
    for _ in range(random.integers(14, 30)):
        angle += random.normal(0, 0.45)
        end = point + random.uniform(3, 6) * np.array([np.cos(angle), np.sin(angle)])
        cv2.line(line, _pixel(point), _pixel(end), float(depth), int(random.integers(1, 4)), cv2.LINE_AA)
        point = end
    np.minimum(change, -cv2.GaussianBlur(line, (0, 0), 0.6), out=change)


def _scratch(random: Generator, change: Field) -> None:
    """A straight line of low contrast, bright or dark."""
    height, width = change.shape
    middle = np.array([random.uniform(0.25, 0.75) * width, random.uniform(0.25, 0.75) * height])
    angle, half = random.uniform(0, np.pi), random.uniform(25, 70)
    reach = half * np.array([np.cos(angle), np.sin(angle)])
    line = np.zeros_like(change)
    strength = float(random.uniform(30, 60))
    cv2.line(
        line,
        _pixel(middle - reach),
        _pixel(middle + reach),
        strength,
        int(random.integers(1, 3)),
        cv2.LINE_AA,
    )
    change += random.choice([-1, 1]) * cv2.GaussianBlur(line, (0, 0), 0.5)


def _pixel(point: NDArray[np.float64]) -> tuple[int, int]:
    return round(point[0]), round(point[1])


_DEFECTS: dict[str, Callable[[Generator, Field], None]] = {
    "blowhole": _blowhole,
    "crack": _crack,
    "scratch": _scratch,
}


def _command(
    folder: Annotated[Path, typer.Argument(help="Gets images/ and masks/.")],
    count: Annotated[int, typer.Option(min=8, help="Parts, half of them OK.")] = 400,
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.")] = 0,
) -> None:
    write_dataset(folder, count, seed)


def main() -> None:
    """Write a dataset from the command line."""
    typer.run(_command)


if __name__ == "__main__":
    main()
