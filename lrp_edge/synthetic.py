"""A synthetic inspection line: textured surfaces with cracks, blowholes and scratches, and their exact masks.

``python -m lrp_edge.synthetic DIR --count N --seed S`` writes ``DIR/images/<class>/*.png``, which is a training
folder, and ``DIR/masks/<class>/*.png`` next to it. Same seed, same bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.random import Generator
from numpy.typing import NDArray

from lrp_edge.errors import LrpEdgeError, needs_extra
from lrp_edge.options import Common, accepted

with needs_extra("cpu"):
    import cv2

Image = NDArray[np.uint8]
Field = NDArray[np.float32]

KINDS = ("ok", "blowhole", "crack", "scratch")
SIZE = (192, 256)


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
    if kind not in KINDS or min(size) < 64:
        raise LrpEdgeError(
            f"cannot draw {kind!r} at {size[0]}x{size[1]}; expected one of {', '.join(KINDS)}, 64x64 or more"
        )
    random = np.random.default_rng((seed, KINDS.index(kind)))
    surface = _surface(random, size)
    _dirt(random, surface)
    change = np.zeros(size, np.float32)
    if kind != "ok":
        for _ in range(random.integers(1, 3) if kind == "blowhole" else 1):
            _DEFECTS[kind](random, change)
    image = np.clip(surface + change + random.normal(0, 2.0, size), 0, 255).astype(np.uint8)
    mask = np.where(np.abs(change) > 8, 255, 0).astype(np.uint8)
    return image, mask


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
        kind = KINDS[0] if index % 2 == 0 else KINDS[1 + (index // 2) % 3]
        image, mask = draw(kind, seed * 1_000_003 + index, size)
        for part, pixels in (("images", image), ("masks", mask)):
            target = Path(folder, part, kind, f"{index:05d}.png")
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
