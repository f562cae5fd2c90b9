"""Folders of labelled images: one for each class, and the layouts of public data sets."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from lrp_edge.datasets.annotations import find_annotations, outlines_beside
from lrp_edge.datasets.samples import DEFECT, OK, PARTS, Sample
from lrp_edge.datasets.truth import MASK_FOLDERS, apart, with_masks
from lrp_edge.errors import LrpEdgeError
from lrp_edge.pictures import read_marks
from lrp_edge.pictures.folders import Left, is_hidden, is_report, pictures_in

#: Magnetic tiles are numbered as they were taken. Six exposures of a part lie within this many numbers.
RECORDING_GAP = 250

_Layout = tuple[str, list[Sample], tuple[str, ...]]


def find_in_folder(root: Path, left: Left) -> _Layout:
    """Find labelled images by the layout that is there.

    Parameters
    ----------
    root : Path
        A folder in one of these layouts:

        - a folder for each class, with images at any depth below it, and masks as
          :func:`~lrp_edge.datasets.truth.apart` knows them, or LabelMe's files beside images;
        - magnetic tiles: ``CLASS/Imgs/`` with ``.jpg`` images and masks as ``.png`` of the same name; exposures of one
          part are a group;
        - MVTec AD: ``train/good``, ``test/KIND``, ``ground_truth/KIND/NAME_mask.png``. Its parts, of which that for
          training has no defects, are not kept;
        - VisA: ``Data/Images/Normal`` and ``Anomaly``, and ``Data/Masks/Anomaly``;
        - KolektorSDD: ``kosNN/PartN.jpg`` and ``PartN_label.bmp``; a piece is a group. KolektorSDD2: ``train`` and
          ``test`` with ``NAME.png`` and ``NAME_GT.png``. In both a mask with something marked is what says defect;
        - YOLO classification: ``train``, ``val`` and ``test``, each with a folder for each class;
        - what a labelling tool exported, see :mod:`lrp_edge.datasets.annotations`.
    left : Left
        Counts what is left out.

    Returns
    -------
    layout : str
        Its name.
    samples : list of Sample
        In the order of their paths.
    classes : tuple of str
        Sorted; also those without an image.

    Raises
    ------
    LrpEdgeError
        If there is no such folder, or it holds several data sets.
    """
    if not root.is_dir():
        raise LrpEdgeError(f"{root}: no such folder; expected one with a folder of images for each class")
    if annotated := find_annotations(root, left):
        return annotated
    folders = _folders_in(root)
    _refuse_several(root, folders)
    for fits, read in _LAYOUTS:
        if fits(root, folders):
            return read(root, folders, left)
    return _by_class(root, folders, left)


def _folders_in(root: Path) -> list[Path]:
    return [
        each for each in sorted(root.iterdir()) if each.is_dir() and not is_hidden(each.name) and not is_report(each)
    ]


def _names_in(root: Path) -> set[str]:
    return {each.name for each in _folders_in(root)} if root.is_dir() else set()


def _refuse_several(root: Path, folders: list[Path]) -> None:
    kinds = [each for each in folders if _is_mvtec(each, _folders_in(each)) or _is_visa(each, [])]
    if kinds and len(kinds) >= len(folders) - 1:
        names = ", ".join(each.name for each in kinds[:5]) + (", …" if len(kinds) > 5 else "")
        raise LrpEdgeError(f"{root} has {len(kinds)} data sets ({names}); give one, as {kinds[0]}")


def _parts_in(folders: Iterable[Path]) -> list[Path]:
    """Return the folders of parts, if there are no others but of masks."""
    parts = [each for each in folders if each.name.lower() in PARTS]
    others = [each for each in folders if each not in parts and each.name.lower() not in MASK_FOLDERS]
    return [] if others or not any(PARTS[each.name.lower()] == "train" for each in parts) else parts


def _is_tiles(root: Path, folders: list[Path]) -> bool:
    return bool(folders) and all((each / "Imgs").is_dir() for each in folders)


def _tiles(root: Path, folders: list[Path], left: Left) -> _Layout:
    samples = []
    for folder in folders:
        for path in sorted((folder / "Imgs").glob("*.jpg")):
            mask = path.with_suffix(".png")
            samples.append(Sample(path, folder.name, mask if mask.is_file() else None))
    return "magnetic tiles", _recordings(samples), tuple(each.name for each in folders)


def _recordings(samples: list[Sample]) -> list[Sample]:
    """Group ``exp<exposure>_num_<number>`` by gaps in the numbers."""
    matches = [re.search(r"_num_(\d+)$", sample.path.stem) for sample in samples]
    numbers = [int(match[1]) if match else None for match in matches]
    groups, first, last = {}, 0, -RECORDING_GAP
    for number in sorted({number for number in numbers if number is not None}):
        if number - last >= RECORDING_GAP:
            first = number
        groups[number], last = str(first), number
    return [
        replace(sample, group=groups[number]) if number is not None else sample
        for sample, number in zip(samples, numbers, strict=True)
    ]


def _is_mvtec(root: Path, folders: list[Path]) -> bool:
    parts = {PARTS[each.name.lower()]: each for each in _parts_in(folders)}
    return {"train", "test"} <= set(parts) and len(_names_in(parts["train"])) == 1 < len(_names_in(parts["test"]))


def _mvtec(root: Path, folders: list[Path], left: Left) -> _Layout:
    _, samples, classes = _parts(root, folders, left)
    return "MVTec AD", [replace(sample, part="") for sample in samples], classes


def _is_visa(root: Path, folders: list[Path]) -> bool:
    return {"Normal", "Anomaly"} <= _names_in(root / "Data" / "Images")


def _visa(root: Path, folders: list[Path], left: Left) -> _Layout:
    images = root / "Data" / "Images"
    _, samples, classes = _by_class(images, _folders_in(images), left)
    return "VisA", with_masks(samples, images, root / "Data" / "Masks"), classes


def _is_kolektor(root: Path, folders: list[Path]) -> bool:
    return bool(folders) and all(re.fullmatch(r"kos\d+", each.name) for each in folders)


def _kolektor(root: Path, folders: list[Path], left: Left) -> _Layout:
    samples = [replace(sample, group=each.name) for each in folders for sample in _by_mask(each, left)]
    return "KolektorSDD", samples, (DEFECT, OK)


def _is_kolektor2(root: Path, folders: list[Path]) -> bool:
    parts = _parts_in(folders)
    return (
        bool(parts) and not any(_names_in(each) for each in parts) and any(any(each.glob("*_GT.*")) for each in parts)
    )


def _kolektor2(root: Path, folders: list[Path], left: Left) -> _Layout:
    samples = [replace(sample, part=PARTS[each.name.lower()]) for each in folders for sample in _by_mask(each, left)]
    return "KolektorSDD2", samples, (DEFECT, OK)


def _by_mask(folder: Path, left: Left) -> list[Sample]:
    """Label each image by whether its mask marks something; one without a mask says nothing, and is left out."""
    pairs = apart(pictures_in(folder, left), folder, left)
    masked = [(image, mask) for image, mask in pairs if mask]
    if len(masked) < len(pairs):
        left["images without a mask to label them"] += len(pairs) - len(masked)
    return [Sample(image, DEFECT if read_marks(mask).any() else OK, mask) for image, mask in masked]


def _is_parts(root: Path, folders: list[Path]) -> bool:
    return len(_parts_in(folders)) > 1 and all(_names_in(each) for each in _parts_in(folders))


def _parts(root: Path, folders: list[Path], left: Left) -> _Layout:
    samples: list[Sample] = []
    classes: set[str] = set()
    for folder in _parts_in(folders):
        _, found, names = _by_class(folder, _folders_in(folder), left)
        samples += [replace(sample, part=PARTS[folder.name.lower()]) for sample in found]
        classes |= set(names)
    truth = [each for each in folders if each.name.lower() in MASK_FOLDERS]
    for each in truth:
        samples = with_masks(samples, root, each)
    return "YOLO classification", samples, tuple(sorted(classes))


def _by_class(root: Path, folders: list[Path], left: Left) -> _Layout:
    truth = [each for each in folders if each.name.lower() in MASK_FOLDERS]
    if len(folders) - len(truth) == 1:
        # Beside one other class a label is what a defect is on.
        truth = [each for each in truth if each.name.lower() not in ("label", "labels")]
    classes = [each for each in folders if each not in truth]
    samples = [sample for each in classes for sample in _of_class(each, left)]
    for each in truth:
        try:
            samples = with_masks(samples, root, each)
        except LrpEdgeError:
            # Named as masks are, but nothing in it is a mask of an image: a class like the others.
            classes, samples = [*classes, each], [*samples, *_of_class(each, left)]
    return "a folder for each class", samples, tuple(sorted(each.name for each in classes))


def _of_class(folder: Path, left: Left) -> list[Sample]:
    pairs = apart(pictures_in(folder, left), folder, left)
    return [Sample(image, folder.name, mask or outlines_beside(image)) for image, mask in pairs]


_LAYOUTS: list[tuple[Callable[[Path, list[Path]], bool], Callable[[Path, list[Path], Left], _Layout]]] = [
    (_is_tiles, _tiles),
    (_is_visa, _visa),
    (_is_kolektor, _kolektor),
    (_is_kolektor2, _kolektor2),
    (_is_mvtec, _mvtec),
    (_is_parts, _parts),
]
