"""Which picture is the mask of which image, by their names."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from lrp_edge.datasets.outlines import Outlines
from lrp_edge.datasets.samples import Sample
from lrp_edge.errors import LrpEdgeError
from lrp_edge.pictures.folders import Left, pictures_in

#: How a mask's name ends that is otherwise its image's: of MVTec AD, of KolektorSDD2, of KolektorSDD and DAGM.
MASK_ENDINGS = ("_mask", "_gt", "_label")
#: Folders of masks, by their names in lower case.
MASK_FOLDERS = frozenset({"ground_truth", "groundtruth", "gt", "mask", "masks", "label", "labels", "segmentation"})


def stem_of(mask: Path) -> str:
    """Return the name of the image that a mask is of, as far as its own tells."""
    return next((mask.stem[: -len(ending)] for ending in MASK_ENDINGS if mask.stem.lower().endswith(ending)), mask.stem)


def is_in_mask_folder(path: Path, root: Path) -> bool:
    """Whether a picture lies in a folder of masks below `root`."""
    return any(part.lower() in MASK_FOLDERS for part in path.relative_to(root).parts[:-1])


def apart(paths: Sequence[Path], root: Path, left: Left) -> list[tuple[Path, Path | None]]:
    """Part images from the masks among them.

    Parameters
    ----------
    paths : sequence of Path
        Pictures below `root`.
    root : Path
        A folder of one class, or of all.
    left : Left
        Counts masks without an image.

    Returns
    -------
    list of (image, mask or None)
        A mask lies beside its image under its name with one of :data:`MASK_ENDINGS`, or in a folder of
        :data:`MASK_FOLDERS` beside it, under its name with or without one.
    """
    beside = {(path.parent, path.stem) for path in paths}
    masks = {
        path
        for path in paths
        if is_in_mask_folder(path, root) or (stem_of(path) != path.stem and (path.parent, stem_of(path)) in beside)
    }
    by_place = {(_place(mask, root), stem_of(mask)): mask for mask in masks}
    found = [(path, by_place.get((path.parent, path.stem))) for path in paths if path not in masks]
    unpaired = masks - {mask for _, mask in found}
    if unpaired:
        left["masks without an image"] += len(unpaired)
    return found


def _place(mask: Path, root: Path) -> Path:
    """Return the folder of the images that a mask belongs to."""
    parts = mask.relative_to(root).parts[:-1]
    return root.joinpath(*(part for part in parts if part.lower() not in MASK_FOLDERS))


def with_masks(samples: Iterable[Sample], root: Path, folder: Path) -> list[Sample]:
    """Give images the masks of another folder.

    Parameters
    ----------
    samples : iterable of Sample
        Images.
    root : Path
        The folder that their names are relative to.
    folder : Path
        Has the masks under the images' names, with any picture's ending and with or without one of
        :data:`MASK_ENDINGS`: in the same folders below it, or in one folder of the class, or of all.

    Raises
    ------
    LrpEdgeError
        If there is no such folder, none of its masks is of an image, or it is not clear which is of which.
    """
    if not folder.is_dir():
        raise LrpEdgeError(f"{folder}: no such folder; expected one of masks under the images' names")
    masks = pictures_in(folder, Left())
    known: dict[tuple[str, ...], list[Path]] = {}
    for mask in masks:
        known.setdefault((*mask.relative_to(folder).parts[:-1], stem_of(mask)), []).append(mask)
    samples = list(samples)
    found = [replace(sample, mask=_mask_of(sample, root, known) or sample.mask) for sample in samples]
    if all(new.mask is old.mask for new, old in zip(found, samples, strict=True)):
        first = f"the first of {len(masks)} masks is {masks[0].relative_to(folder)}" if masks else "it has no pictures"
        raise LrpEdgeError(
            f"{folder}: {first}, the first image {os.path.relpath(samples[0].path, root)}, and no mask is of an image; "
            "expected masks under the images' names, also with _mask behind"
        )
    owner: dict[Path | Outlines, Path] = {}
    for sample in found:
        if sample.mask and owner.setdefault(sample.mask, sample.path) != sample.path:
            raise LrpEdgeError(
                f"{sample.mask} may be the mask of {owner[sample.mask]} and of {sample.path}; put masks into a folder "
                "of their class"
            )
    return found


def _mask_of(sample: Sample, root: Path, known: dict[tuple[str, ...], list[Path]]) -> Path | None:
    parts = Path(os.path.relpath(sample.path, root)).with_suffix("").parts
    for name in (parts, (sample.label, parts[-1]), parts[-1:]):
        if masks := known.get(name):
            if len(masks) > 1:
                raise LrpEdgeError(f"{sample.path}: both {masks[0]} and {masks[1]} may be its mask; keep one")
            return masks[0]
    return None
