"""Frames and the outlines of their masks in the forms of labelling tools, so that a person can correct them there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Literal
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from lrp_edge.errors import LrpEdgeError, needs_extra
from lrp_edge.files import whole, write_text
from lrp_edge.pictures.folders import IMAGE
from lrp_edge.runtime.result import Result
from lrp_edge.runtime.sinks.base import ChosenSink, Which
from lrp_edge.runtime.sinks.folder import Lock
from lrp_edge.runtime.sinks.images import file_name

with needs_extra("cpu"):
    import cv2

Form = Literal["coco", "labelme", "labelstudio"]
Corners = list[list[float]]

#: The folder in that of the results, and what is known of its frames until the run ends.
FOLDER, RECORDS = "annotations", ".frames.jsonl"
#: The one file of all frames, where a tool has one.
FILES = {"coco": "annotations.json", "labelstudio": "tasks.json"}


def outlines(mask: NDArray[np.uint8]) -> list[Corners]:
    """Return the corners of each region, x and y in pixels from the image's corner, without the holes in it.

    The corners lie a quarter of a pixel inside, where each tool's own way of filling marks the very same pixels.
    """
    double: Any = np.repeat(np.repeat(mask, 2, axis=0), 2, axis=1)
    contours, _ = cv2.findContours(double, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return [((contour[:, 0] + 0.5) / 2).tolist() for contour in contours if len(contour) >= 3]


class Annotations(ChosenSink):
    """Writes frames as PNG, and what is found on them as polygons with the class's name.

    Parameters
    ----------
    folder : path
        Of the results; gets ``annotations/``.
    order : {"BGR", "RGB", "GRAY"}
        Channel order of the frames.
    form : {"coco", "labelme", "labelstudio"}
        Of LabelMe each frame has a file beside it, at once; the others have one file of all frames, at the end.
    classes : sequence of str
        Names of the defects.
    only : {"all", "defects"}
        Which frames.
    existing : {"refuse", "append", "overwrite"}
        What to do with frames that are there.
    lock : Lock, optional
        What keeps the folder for this run.
    """

    name, recording = "annotations", True

    def __init__(
        self,
        folder: Path,
        order: str,
        form: Form,
        classes: tuple[str, ...],
        *,
        only: Which = "all",
        existing: str = "refuse",
        lock: Lock | None = None,
    ) -> None:
        super().__init__(only)
        self._folder, self._order, self._form = folder / FOLDER, order, form
        self._classes, self._existing, self._lock = classes, existing, lock
        self._images = self._folder if form == "labelme" else self._folder / "images"
        self._records: IO[str] | None = None

    def open(self) -> None:
        try:
            self._images.mkdir(parents=True, exist_ok=True)
            if self._existing == "overwrite":
                self._clear()
            if self._form in FILES:
                self._records = (self._folder / RECORDS).open("a", encoding="utf-8")
        except OSError as error:
            raise LrpEdgeError(f"cannot write to {self._folder}: {error.strerror}; choose another folder") from error

    def wants(self, result: Result) -> bool:
        return result.segmentation is not None and super().wants(result)

    def accept(self, result: Result) -> None:
        result.files["annotated"] = (self._images / file_name(result.frame)).relative_to(self._folder.parent).as_posix()

    def write(self, result: Result) -> None:
        assert result.segmentation is not None
        assert result.frame.image is not None
        if self._lock is not None:
            self._lock.renew()
        image, path = result.frame.image, self._images / file_name(result.frame)
        picture: Any = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if self._order == "RGB" else image
        with whole(path) as draft:
            draft.write_bytes(cv2.imencode(".png", picture)[1].tobytes())
        found = {
            "name": path.name,
            "size": list(image.shape[:2]),
            "label": result.segmentation.name,
            "polygons": outlines(result.segmentation.mask) if result.segmentation.defect else [],
        }
        if self._records is None:
            write_text(path.with_suffix(".json"), json.dumps(_labelme(found), indent=1) + "\n")
        else:
            self._records.write(json.dumps(found) + "\n")
            self._records.flush()

    def close(self) -> None:
        if self._records is None:
            return
        self._records.close()
        self._records = None
        write = _write_coco if self._form == "coco" else _write_label_studio
        with whole(self._folder / FILES[self._form]) as draft, draft.open("w", encoding="utf-8") as file:
            write(file, self._frames, self._classes)

    def _frames(self) -> Iterator[dict[str, Any]]:
        """Yield what was written of each frame; of a name that comes again the last."""
        path = self._folder / RECORDS
        with path.open(encoding="utf-8") as file:
            last = {json.loads(line)["name"]: number for number, line in enumerate(file) if line.endswith("\n")}
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file):
                if line.endswith("\n") and last[(found := json.loads(line))["name"]] == number:
                    yield found

    def _clear(self) -> None:
        """Remove what runs have written here, and nothing else."""
        for path in {*self._folder.glob("*"), *self._images.glob("*")}:
            if IMAGE.fullmatch(path.with_suffix(".png").name) or path.name in (RECORDS, *FILES.values()):
                path.unlink()


def _labelme(found: dict[str, Any]) -> dict[str, Any]:
    shapes = [
        {"label": found["label"], "points": corners, "group_id": None, "shape_type": "polygon", "flags": {}}
        for corners in found["polygons"]
    ]
    height, width = found["size"]
    image = {"imagePath": found["name"], "imageData": None, "imageHeight": height, "imageWidth": width}
    return {"version": "5.4.1", "flags": {}, "shapes": shapes, **image}


def _write_coco(file: IO[str], frames: Callable[[], Iterator[dict[str, Any]]], classes: tuple[str, ...]) -> None:
    numbers = {name: number for number, name in enumerate(classes, 1)}
    file.write('{"categories": ' + json.dumps([{"id": number, "name": name} for name, number in numbers.items()]))
    file.write(', "images": [')
    for number, found in enumerate(frames(), 1):
        height, width = found["size"]
        image = {"id": number, "file_name": f"images/{found['name']}", "height": height, "width": width}
        file.write(f"{',' if number > 1 else ''}\n{json.dumps(image)}")
    file.write('], "annotations": [')
    count = 0
    for number, found in enumerate(frames(), 1):
        for corners in found["polygons"]:
            count += 1
            shape = _coco_shape(corners, numbers[found["label"]]) | {"id": count, "image_id": number}
            file.write(f"{',' if count > 1 else ''}\n{json.dumps(shape)}")
    file.write("]}\n")


def _coco_shape(corners: Corners, category: int) -> dict[str, Any]:
    points = np.array(corners)
    (left, top), (right, bottom) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    x, y = points.T
    area = abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))) / 2
    box = [left, top, right - left, bottom - top]
    return {"category_id": category, "segmentation": [points.ravel().tolist()], "bbox": box, "area": area, "iscrowd": 0}


def _write_label_studio(
    file: IO[str], frames: Callable[[], Iterator[dict[str, Any]]], classes: tuple[str, ...]
) -> None:
    file.write("[")
    for number, found in enumerate(frames()):
        height, width = found["size"]
        shape = {"type": "polygonlabels", "from_name": "label", "to_name": "image", "original_width": width,
                 "original_height": height, "image_rotation": 0}  # fmt: skip
        results = [
            shape | {"value": {"points": [[x / width * 100, y / height * 100] for x, y in corners], "closed": True,
                               "polygonlabels": [found["label"]]}}
            for corners in found["polygons"]
        ]  # fmt: skip
        data = {"image": f"/data/local-files/?d=images/{quote(found['name'])}"}
        task = {"data": data, "predictions": [{"model_version": "lrp-edge", "result": results}]}
        file.write(f"{',' if number else ''}\n{json.dumps(task)}")
    file.write("]\n")
