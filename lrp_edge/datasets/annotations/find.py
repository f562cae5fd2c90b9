"""Which labelling tool left a folder or a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lrp_edge.datasets.annotations.coco import is_coco, read_coco
from lrp_edge.datasets.annotations.cvat import read_cvat
from lrp_edge.datasets.annotations.images import Annotated, Pictures, read_json, samples_of
from lrp_edge.datasets.annotations.label_studio import is_label_studio, read_label_studio
from lrp_edge.datasets.annotations.labelme import is_labelme, read_labelme
from lrp_edge.datasets.samples import PARTS, Sample
from lrp_edge.errors import LrpEdgeError
from lrp_edge.pictures.folders import Left

#: Where the tools put their files within a folder.
_PLACES = ("*.json", "*.xml", "annotations/*.json", "train/*.json", "val/*.json", "valid/*.json", "test/*.json")

_Found = tuple[str, list[Sample], tuple[str, ...]]


def find_annotations(root: Path, left: Left) -> _Found | None:
    """Return layout, samples and classes of a folder that a labelling tool left; None for any other.

    Raises
    ------
    LrpEdgeError
        If annotations are not as their format has them, or it is not clear which are meant.
    """
    files = sorted({path for place in _PLACES for path in root.glob(place)})
    readable = {path: reader for path in files if (reader := _reader(path))}
    kinds = {kind for kind, _ in readable.values()}
    if not kinds:
        return _labelme(root, left)
    if len(kinds) > 1:
        raise LrpEdgeError(f"{root} has annotations of {' and '.join(sorted(kinds))}; give one file of them")
    return _read(root, readable, left)


def read_annotations(path: Path, left: Left) -> _Found:
    """Return layout, samples and classes of one file of annotations; its images lie below its folder.

    Raises
    ------
    LrpEdgeError
        If it is of none of the tools.
    """
    reader = _reader(path)
    if reader is None:
        raise LrpEdgeError(f"{path}: expected annotations of COCO, Label Studio (JSON) or CVAT for images (XML)")
    root = path.parent.parent if path.parent.name == "annotations" else path.parent
    return _read(root, {path: reader}, left)


def _reader(path: Path) -> tuple[str, Callable[[Left, str], list[Annotated]]] | None:
    if path.suffix.lower() == ".xml":
        is_cvat = b"<annotations" in path.read_bytes()[:4096]
        return ("CVAT", lambda left, part: read_cvat(path)) if is_cvat else None
    content: Any = read_json(path)
    if is_coco(content):
        return "COCO", lambda left, part: read_coco(path, content, part)
    if is_label_studio(content):
        return "Label Studio", lambda left, part: read_label_studio(path, content, left)
    return None


def _read(root: Path, readers: dict[Path, tuple[str, Callable[[Left, str], list[Annotated]]]], left: Left) -> _Found:
    pictures, samples = Pictures(root, left), []
    for path, (_, read) in readers.items():
        part = _part(root, path) if len(readers) > 1 else ""
        samples += samples_of(read(left, part), pictures, path, left)
        left.pop(f"files {path.suffix.lower()}", None)
    return _found(next(iter(readers.values()))[0], samples, len(pictures.paths), left)


def _part(root: Path, path: Path) -> str:
    """Return the part of a split that a file of annotations is for, by its name or its folder's."""
    words = path.relative_to(root).as_posix().lower()
    return next((part for word, part in PARTS.items() if word in words), "")


def _labelme(root: Path, left: Left) -> _Found | None:
    """Read a folder of images with files of LabelMe; an image without one has nothing drawn on it."""
    if not any(is_labelme(read_json(path)) for path in sorted(root.glob("*.json"))[:1]):
        return None
    pictures, annotated = Pictures(root, left), []
    for path in pictures.paths:
        drawn = read_labelme(path.with_suffix(".json")) if path.with_suffix(".json").is_file() else None
        name = path.relative_to(root).as_posix()
        if drawn is None:
            left["images without a file of LabelMe, taken for ok"] += 1
        annotated.append(Annotated(name, drawn.size, drawn.shapes, drawn.label) if drawn else Annotated(name, (0, 0)))
    left.pop("files .json", None)
    return _found("LabelMe", samples_of(annotated, pictures, root / "LabelMe", left), len(pictures.paths), left)


def _found(layout: str, samples: list[Sample], pictures: int, left: Left) -> _Found:
    if unknown := pictures - len({sample.path for sample in samples}):
        left["images without annotations"] += unknown
    return layout, samples, tuple(sorted({sample.label for sample in samples}))
