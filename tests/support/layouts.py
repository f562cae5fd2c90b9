"""Small data sets in the exact form of public ones: half of the images have a disc, and a mask where the form has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from tests.support.images import surface


def image(path: Path, defect: bool, seed: int) -> NDArray[np.uint8]:
    """Write an image, and return the mask of its disc, 0 or 255."""
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = surface(defect, seed)
    assert cv2.imwrite(str(path), drawn)
    return (drawn < 80).astype(np.uint8) * 255


def mask(path: Path, truth: NDArray[np.uint8]) -> None:
    """Write a mask."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), truth)


def mvtec(root: Path, count: int) -> None:
    for seed in range(count):
        image(root / f"train/good/{seed:03}.png", False, seed)
        image(root / f"test/good/{seed:03}.png", False, 100 + seed)
        truth = image(root / f"test/crack/{seed:03}.png", True, seed)
        mask(root / f"ground_truth/crack/{seed:03}_mask.png", truth)
    (root / "license.txt").write_text("none")


def visa(root: Path, count: int) -> None:
    for seed in range(count):
        image(root / f"Data/Images/Normal/{seed:04}.JPG", False, seed)
        truth = image(root / f"Data/Images/Anomaly/{seed:03}.JPG", True, seed)
        mask(root / f"Data/Masks/Anomaly/{seed:03}.png", truth // 255 * 3)
    (root / "image_anno.csv").write_text("image,label,mask\n")


def kolektor(root: Path, count: int) -> None:
    for seed in range(count):
        for part in range(2):
            truth = image(root / f"kos{seed:02}/Part{part}.jpg", part == 1, seed)
            mask(root / f"kos{seed:02}/Part{part}_label.bmp", truth * (part == 1))


def kolektor2(root: Path, count: int) -> None:
    for seed in range(4 * count):
        part, defect = "train" if seed < 3 * count else "test", seed % 2 == 1
        truth = image(root / f"{part}/{20000 + seed}.png", defect, seed)
        mask(root / f"{part}/{20000 + seed}_GT.png", truth * defect)


def yolo(root: Path, count: int) -> None:
    for part, share in (("train", 2), ("val", 1), ("test", 1)):
        for seed in range(share * count):
            image(root / part / "good" / f"{part}{seed}.jpg", False, seed)
            image(root / part / "crack" / f"{part}{seed}.jpg", True, seed)


def dagm(root: Path, count: int) -> None:
    for seed in range(count):
        image(root / f"ok/{seed:04}.PNG", False, seed)
        truth = image(root / f"crack/{seed:04}.PNG", True, seed)
        mask(root / f"crack/Label/{seed:04}_label.PNG", truth)
    (root / "crack/Label/Labels.txt").write_text("1")


def parallel(root: Path, count: int) -> None:
    for seed in range(count):
        image(root / f"ok/{seed}.bmp", False, seed)
        truth = image(root / f"crack/lot 7/{seed}.bmp", True, seed)
        mask(root / f"masks/crack/lot 7/{seed}.png", truth)


def upper_case(root: Path, count: int) -> None:
    for seed in range(count):
        image(root / f"ok/{seed}.tif", False, seed)
        truth = image(root / f"crack/{seed}.tif", True, seed)
        mask(root / f"crack/{seed}_MASK.PNG", truth)


#: By name as ``lrp-edge data check`` says it, what writes one of so many images of a kind.
LAYOUTS: dict[str, tuple[str, Callable[[Path, int], None]]] = {
    "MVTec AD": ("MVTec AD", mvtec),
    "VisA": ("VisA", visa),
    "KolektorSDD": ("KolektorSDD", kolektor),
    "KolektorSDD2": ("KolektorSDD2", kolektor2),
    "YOLO": ("YOLO classification", yolo),
    "DAGM": ("a folder for each class", dagm),
    "masks in a folder": ("a folder for each class", parallel),
    "masks beside": ("a folder for each class", upper_case),
}
