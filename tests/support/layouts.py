"""Small data sets in the exact form of public ones: half of the images have a disc, and a mask where the form has."""

from __future__ import annotations

import json
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


def outline(truth: NDArray[np.uint8]) -> list[list[float]]:
    """Return the corners of a mask's one region, x and y, at the edges of its pixels."""
    enlarged = np.kron(truth, np.ones((8, 8), np.uint8))
    (corners,), _ = cv2.findContours(enlarged, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return [[(x + 0.5) / 8, (y + 0.5) / 8] for x, y in corners[:, 0].tolist()]


def images_of(root: Path, count: int) -> list[tuple[str, NDArray[np.uint8] | None]]:
    """Write images into a folder, and return their names and the masks of those with a disc."""
    found: list[tuple[str, NDArray[np.uint8] | None]] = []
    for seed in range(count):
        image(root / f"ok{seed}.png", False, seed)
        found += [(f"ok{seed}.png", None), (f"bad{seed}.png", image(root / f"bad{seed}.png", True, seed))]
    return found


def coco(root: Path, count: int) -> None:
    images, annotations = [], []
    for number, (name, truth) in enumerate(images_of(root / "images", count), 1):
        images.append({"id": number, "file_name": name, "height": 64, "width": 80})
        if truth is not None:
            ring = [value for corner in outline(truth) for value in corner]
            annotations.append(
                {"id": number, "image_id": number, "category_id": 3, "segmentation": [ring], "iscrowd": 0}
            )
    content = {"images": images, "annotations": annotations, "categories": [{"id": 3, "name": "crack"}]}
    (root / "annotations").mkdir()
    (root / "annotations/instances_default.json").write_text(json.dumps(content))


def labelme(root: Path, count: int) -> None:
    for name, truth in images_of(root, count):
        if truth is not None:
            shape = {"label": "crack", "points": outline(truth), "shape_type": "polygon", "flags": {}, "group_id": None}
            content = {"version": "5.4.1", "flags": {}, "shapes": [shape], "imagePath": name, "imageData": None,
                       "imageHeight": 64, "imageWidth": 80}  # fmt: skip
            (root / name).with_suffix(".json").write_text(json.dumps(content))


def label_studio(root: Path, count: int) -> None:
    tasks = []
    for number, (name, truth) in enumerate(images_of(root / "images", count)):
        shape = {"original_width": 80, "original_height": 64, "type": "polygonlabels", "to_name": "image"}
        points = [[x / 80 * 100, y / 64 * 100] for x, y in outline(truth)] if truth is not None else []
        results = [{**shape, "value": {"points": points, "polygonlabels": ["crack"]}}] if points else []
        data = {"image": f"/data/upload/1/{number:08x}-{name}"}
        tasks.append({"id": number, "data": data, "annotations": [{"result": results, "was_cancelled": False}]})
    (root / "project-1-at-2026.json").write_text(
        json.dumps([*tasks, {"data": {"image": "new.png"}, "annotations": []}])
    )


def cvat(root: Path, count: int) -> None:
    lines = []
    for number, (name, truth) in enumerate(images_of(root / "images", count)):
        points = ";".join(f"{x:.4f},{y:.4f}" for x, y in outline(truth)) if truth is not None else ""
        drawn = f'<polygon label="crack" source="manual" occluded="0" points="{points}" z_order="0"></polygon>'
        lines.append(f'<image id="{number}" name="{name}" width="80" height="64">{drawn if points else ""}</image>')
    text = "<?xml version='1.0' encoding='utf-8'?>\n<annotations><version>1.1</version><meta><task/></meta>"
    (root / "annotations.xml").write_text(text + "\n".join(lines) + "</annotations>")


#: By name as ``lrp-edge data check`` says it, what writes one of so many images of a kind.
LAYOUTS: dict[str, tuple[str, Callable[[Path, int], None]]] = {
    "MVTec AD": ("MVTec AD", mvtec),
    "VisA": ("VisA", visa),
    "KolektorSDD": ("KolektorSDD", kolektor),
    "KolektorSDD2": ("KolektorSDD2", kolektor2),
    "YOLO": ("YOLO classification", yolo),
    "DAGM": ("a folder for each class", dagm),
    "masks in a folder": ("a folder for each class", parallel),
    "COCO": ("COCO", coco),
    "LabelMe": ("LabelMe", labelme),
    "Label Studio": ("Label Studio", label_studio),
    "CVAT": ("CVAT", cvat),
    "masks beside": ("a folder for each class", upper_case),
}
