"""What labelling tools draw marks the pixels that it marks there."""

from __future__ import annotations

import base64
import importlib.util
import json
from importlib.metadata import files
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage.draw import ellipse

from lrp_edge.datasets import Dataset, open_dataset, read_mask
from lrp_edge.datasets.annotations.label_studio import unpacked
from lrp_edge.datasets.layouts import find_samples
from lrp_edge.errors import LrpEdgeError
from tests.support.images import surface, write_folder
from tests.support.layouts import coco, cvat, label_studio, labelme
from tests.support.painted import saved

SIZE = (64, 80)


def write_images(root: Path, *names: str) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(names):
        assert cv2.imwrite(str(root / name), surface(False, seed))


def marked(dataset: Dataset, name: str) -> NDArray[np.bool_]:
    (sample,) = (sample for sample in dataset.samples if sample.path.name == name)
    assert sample.mask is not None
    return read_mask(sample, SIZE)


def alike(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    return float((first & second).sum() / (first | second).sum())


def blob() -> NDArray[np.bool_]:
    mask = np.zeros(SIZE, bool)
    mask[10:30, 20:50], mask[15:20, 30:40], mask[40:45, 5:9] = True, False, True
    return mask


def disc(row: float, column: float, rows: float, columns: float, turned: float = 0) -> NDArray[np.bool_]:
    mask = np.zeros(SIZE, bool)
    # scikit-image turns against the clock.
    mask[ellipse(row, column, rows, columns, shape=SIZE, rotation=-np.deg2rad(turned))] = True
    return mask


def write_labelme(path: Path, *shapes: dict[str, Any], **more: Any) -> None:
    image = {"imagePath": f"{path.stem}.png", "imageHeight": 64, "imageWidth": 80}
    path.write_text(json.dumps({"version": "5.4.1", "flags": {}, "shapes": list(shapes)} | image | more))


def test_every_shape_of_labelme(tmp_path: Path) -> None:
    write_images(tmp_path, "circle.png", "mask.png", "line.png", "box.png", "flag.png", "none.png")
    write_labelme(tmp_path / "circle.json", {"label": "dent", "shape_type": "circle", "points": [[40, 30], [52, 30]]})
    inner = blob()[10:45, 5:50]
    picture = base64.b64encode(saved(inner.astype(np.uint8), "PNG")).decode()
    mask = {"label": "dent", "shape_type": "mask", "points": [[5.0, 10.0], [49.0, 44.0]], "mask": picture}
    write_labelme(tmp_path / "mask.json", mask)
    write_labelme(tmp_path / "line.json", {"label": "scratch", "shape_type": "linestrip", "points": [[1, 1], [9, 9]]})
    write_labelme(tmp_path / "box.json", {"label": "stain", "shape_type": "rectangle", "points": [[1, 1], [9, 9]]})
    write_labelme(tmp_path / "flag.json", flags={"worn": True, "wet": False})
    found = find_samples(tmp_path)
    assert {sample.path.name: sample.label for sample in found.samples} == {
        "box.png": "stain", "circle.png": "dent", "flag.png": "worn", "line.png": "scratch", "mask.png": "dent",
        "none.png": "ok",
    }  # fmt: skip
    assert found.left == {
        "images without a file of LabelMe, taken for ok": 1, "outlines of images with a box, line or point": 2,
    }  # fmt: skip
    dataset = open_dataset(tmp_path)
    assert alike(marked(dataset, "circle.png"), disc(29.5, 39.5, 12, 12)) > 0.95
    assert np.array_equal(marked(dataset, "mask.png"), blob())
    assert {sample.path.name for sample in dataset.samples if sample.mask is None} == {
        "box.png", "line.png", "flag.png", "none.png",
    }  # fmt: skip


def test_files_of_labelme_beside_images_of_class_folders_are_their_masks(tmp_path: Path) -> None:
    write_folder(tmp_path, {"ok": 2, "hole": 2})
    points = [[10, 10], [30, 10], [30, 40], [10, 40]]
    write_labelme(tmp_path / "hole" / "001.json", {"label": "any", "shape_type": "polygon", "points": points})
    dataset = open_dataset(tmp_path)
    assert [sample.label for sample in dataset.samples] == ["hole", "hole", "ok", "ok"]
    assert [sample.mask is not None for sample in dataset.samples] == [False, True, False, False]
    assert read_mask(dataset.samples[1], SIZE).sum() == 20 * 30


@pytest.mark.parametrize("compressed", [False, True])
def test_run_lengths_of_coco(tmp_path: Path, compressed: bool) -> None:
    from pycocotools import mask as runs

    write_images(tmp_path / "images", "a.png", "b.png")
    packed = runs.encode(np.asfortranarray(blob().astype(np.uint8)))
    flat = blob().T.ravel()
    ends = np.flatnonzero(np.diff(flat.astype(int))) + 1
    counts: Any = packed["counts"].decode() if compressed else np.diff([0, *ends, flat.size]).tolist()
    write_coco(tmp_path, {"counts": counts, "size": [64, 80]})
    assert np.array_equal(marked(open_dataset(tmp_path), "a.png"), blob())
    if not compressed:
        write_coco(tmp_path, {"counts": [*counts, 5], "size": [64, 80]})
        with pytest.raises(
            LrpEdgeError, match=r"not COCO as expected \(run lengths of 5125 pixels for an image of 64x80\)"
        ):
            open_dataset(tmp_path)


def write_coco(root: Path, *segmentations: Any, **more: Any) -> None:
    images = [
        {"id": number, "file_name": name, "height": 64, "width": 80} for number, name in enumerate(("a.png", "b.png"))
    ]
    annotations = [
        {"id": number, "image_id": 0, "category_id": number, "segmentation": each, "bbox": [0, 0, 5 + number, 5]} | more
        for number, each in enumerate(segmentations)
    ]
    categories = [{"id": number, "name": f"kind{number}"} for number in range(len(segmentations))]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "labels.json").write_text(json.dumps(content))


def test_the_class_that_covers_most_is_the_label(tmp_path: Path) -> None:
    write_images(tmp_path / "images", "a.png", "b.png")
    write_coco(tmp_path, [[0, 0, 9, 0, 9, 9]], [[20, 20, 60, 20, 60, 60, 20, 60]], [])
    found = find_samples(tmp_path / "labels.json")
    assert [sample.label for sample in found.samples] == ["kind1", "ok"]
    assert found.left["classes of images with several"] == 2
    assert found.left["outlines of images with a box, line or point"] == 1


def test_coco_as_label_studio_converts_it(tmp_path: Path) -> None:
    write_images(tmp_path / "images", "a b.png", "b.png")
    write_coco(tmp_path, [[20, 20, 60, 20, 60, 60, 20, 60]])
    content = json.loads((tmp_path / "labels.json").read_text())
    content["images"][0]["file_name"] = "/data/local-files/?d=images/a%20b.png"
    content["images"][1] |= {"file_name": "/data/upload/3/0a1b2c3d-b.png", "height": None, "width": None}
    (tmp_path / "labels.json").write_text(json.dumps(content))
    dataset = open_dataset(tmp_path)
    assert [(sample.path.name, sample.label) for sample in dataset.samples] == [("a b.png", "kind0"), ("b.png", "ok")]
    assert marked(dataset, "a b.png").sum() == 40 * 40


def test_parts_of_coco_are_those_of_its_files(tmp_path: Path) -> None:
    for part in ("train", "valid", "test"):
        coco(tmp_path / "all", 3) if not (tmp_path / "all").exists() else None
        content = json.loads((tmp_path / "all/annotations/instances_default.json").read_text())
        write_images(tmp_path / "set" / part, *(image["file_name"] for image in content["images"]))
        (tmp_path / "set" / part / "_annotations.coco.json").write_text(json.dumps(content))
    dataset = open_dataset(tmp_path / "set")
    assert {(sample.path.parent.name, sample.part) for sample in dataset.samples} == {
        ("train", "train"), ("valid", "val"), ("test", "test"),
    }  # fmt: skip
    assert len(dataset.samples) == 18


def sdk_brush() -> Any:
    """Return Label Studio's own module of brushes, without the client of its server around it."""
    try:
        (path,) = (each.locate() for each in files("label-studio-sdk") or () if each.match("converter/brush.py"))
    except ModuleNotFoundError:
        pytest.skip("label-studio-sdk is not installed")
    spec = importlib.util.spec_from_file_location("brush", str(path))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@given(seed=st.integers(0, 10_000), share=st.floats(0, 1))
@settings(max_examples=20, deadline=None)
def test_brushes_are_unpacked_as_label_studio_unpacks_them(seed: int, share: float) -> None:
    brush, generator = sdk_brush(), np.random.default_rng(seed)
    values = np.repeat((generator.random(150) < share).astype(np.uint8) * 255, generator.integers(1, 9, 150))
    packed = brush.encode_rle(values)
    assert np.array_equal(unpacked(packed), values)
    assert np.array_equal(unpacked(packed), brush.decode_rle(packed))


def test_every_shape_of_label_studio(tmp_path: Path) -> None:
    write_images(tmp_path, "brush.png", "ellipse.png", "box.png", "choice.png", "good.png", "new.png")
    value = {"original_width": 80, "original_height": 64}
    pixels = np.repeat((blob() * 255).astype(np.uint8)[..., None], 4, axis=2)
    turned = {"x": 50, "y": 50, "radiusX": 20, "radiusY": 10, "rotation": 30, "ellipselabels": ["dent"]}
    results = {
        "brush.png": (
            "brushlabels",
            {"format": "rle", "rle": sdk_brush().encode_rle(pixels.ravel()), "brushlabels": ["dent"]},
        ),
        "ellipse.png": ("ellipselabels", turned),
        "box.png": ("rectanglelabels", {"x": 1, "y": 2, "width": 30, "height": 40, "rectanglelabels": ["stain"]}),
        "choice.png": ("choices", {"choices": ["worn"]}),
    }
    tasks: list[Any] = [
        {
            "data": {"image": f"/data/local-files/?d=lot%207/{name}"},
            "annotations": [{"result": [{**value, "type": kind, "value": drawn}]}],
        }
        for name, (kind, drawn) in results.items()
    ]
    tasks += [{"data": {"image": "s3://b/good.png"}, "annotations": [{"result": []}]}, {"data": {"image": "new.png"}}]
    (tmp_path / "tasks.json").write_text(json.dumps(tasks))
    found = find_samples(tmp_path)
    assert {sample.path.name: sample.label for sample in found.samples} == {
        "brush.png": "dent", "ellipse.png": "dent", "box.png": "stain", "choice.png": "worn", "good.png": "ok",
    }  # fmt: skip
    assert found.left["tasks that are not annotated"] == 1
    dataset = open_dataset(tmp_path / "tasks.json")
    assert np.array_equal(marked(dataset, "brush.png"), blob())
    assert alike(marked(dataset, "ellipse.png"), disc(31.5, 39.5, 6.4, 16, 30)) > 0.93


def test_every_shape_of_cvat(tmp_path: Path) -> None:
    write_images(tmp_path / "images", "mask.png", "ellipse.png", "line.png", "tag.png", "none.png")
    inner = blob()[10:45, 5:50]
    ends = np.flatnonzero(np.diff(inner.ravel().astype(int))) + 1
    runs = ", ".join(map(str, np.diff([0, *ends, inner.size])))
    drawn = {
        "mask.png": f'<mask label="dent" rle="{runs}" left="5" top="10" width="45" height="35" z_order="0"></mask>',
        "ellipse.png": '<ellipse label="dent" cx="40.00" cy="32.00" rx="20.00" ry="8.00" rotation="30.0"></ellipse>',
        "line.png": '<polyline label="scratch" points="1.0,2.0;30.5,40.2"></polyline>',
        "tag.png": '<tag label="worn" source="manual"></tag>',
        "none.png": "",
    }
    lines = [f'<image id="1" name="{name}" width="80" height="64">{text}</image>' for name, text in drawn.items()]
    (tmp_path / "annotations.xml").write_text(f"<annotations>{''.join(lines)}</annotations>")
    dataset = open_dataset(tmp_path)
    assert {sample.path.name: sample.label for sample in dataset.samples} == {
        "mask.png": "dent", "ellipse.png": "dent", "line.png": "scratch", "tag.png": "worn", "none.png": "ok",
    }  # fmt: skip
    assert np.array_equal(marked(dataset, "mask.png"), blob())
    assert alike(marked(dataset, "ellipse.png"), disc(31.5, 39.5, 8, 20, 30)) > 0.93


def test_entities_are_not_expanded(tmp_path: Path) -> None:
    bomb = '<!DOCTYPE a [<!ENTITY b "bbbbbbbb"><!ENTITY c "&b;&b;&b;&b;">]><annotations>&c;</annotations>'
    (tmp_path / "annotations.xml").write_text(bomb)
    with pytest.raises(LrpEdgeError, match="declares a document type or entities"):
        open_dataset(tmp_path)


def test_paths_do_not_lead_out_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_images(tmp_path, "secret.png")
    write_images(tmp_path / "set" / "images", "b.png")
    write_coco(tmp_path / "set", [[0, 0, 9, 0, 9, 9]])
    content = json.loads((tmp_path / "set/labels.json").read_text())
    content["images"][0]["file_name"] = "../secret.png"
    (tmp_path / "set/labels.json").write_text(json.dumps(content))
    with pytest.raises(LrpEdgeError, match="one class, ok"):
        open_dataset(tmp_path / "set")
    monkeypatch.chdir(tmp_path / "set")
    with pytest.raises(LrpEdgeError, match="one class, ok"):
        open_dataset(".")


def test_annotations_of_two_tools_are_not_mixed(tmp_path: Path) -> None:
    label_studio(tmp_path, 2)
    cvat(tmp_path, 2)
    with pytest.raises(LrpEdgeError, match="annotations of CVAT and Label Studio; give one file"):
        open_dataset(tmp_path)
    assert find_samples(tmp_path / "annotations.xml").layout == "CVAT"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**70) | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def places(content: Any) -> list[tuple[Any, Any]]:
    """Return each container in a JSON value with each of its keys."""
    keys = content.keys() if isinstance(content, dict) else range(len(content)) if isinstance(content, list) else ()
    return [place for key in keys for place in [(content, key), *places(content[key])]]


@pytest.mark.parametrize("write", [coco, labelme, label_studio])
@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_is_in_annotations_ends_in_samples_or_in_one_line(
    write: Any, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("set")
    write(root, 1)
    (path,) = root.rglob("*.json")
    content = json.loads(path.read_text())
    for _ in range(data.draw(st.integers(1, 2))):
        found = places(content)
        holder, key = found[data.draw(st.integers(0, len(found) - 1))]
        if data.draw(st.booleans()):
            holder[key] = data.draw(JSON)
        else:
            del holder[key]
    path.write_text(json.dumps(content))
    try:
        dataset = open_dataset(root)
        assert all(read_mask(sample, SIZE).any() for sample in dataset.samples if sample.mask)
    except LrpEdgeError as error:
        lines = str(error).splitlines()
        assert len(lines) == 1, lines
