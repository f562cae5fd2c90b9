"""Small folders of images for the tests of the training."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray


def surface(defect: bool, seed: int, size: tuple[int, int] = (64, 80)) -> NDArray[np.uint8]:
    """Draw a gray noisy surface, with a dark disc of ten pixels if it is a defect."""
    generator = np.random.default_rng((seed, defect))
    image = generator.normal(120, 6, size)
    if defect:
        rows, columns = np.mgrid[: size[0], : size[1]]
        row, column = generator.uniform(12, min(size) - 12, 2)
        image[(rows - row) ** 2 + (columns - column) ** 2 < 25] -= 80
    return np.clip(image, 0, 255).astype(np.uint8)


def write_folder(root: Path, counts: dict[str, int], ok: str = "ok", suffix: str = ".png") -> Path:
    """Write a folder per class; every class but `ok` has the disc."""
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for seed in range(count):
            cv2.imwrite(str(root / name / f"{seed:03}{suffix}"), surface(name != ok, seed))
    return root
