"""The pictures in a folder, found through links, and what is left out, counted."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from lrp_edge.pictures.files import ENDINGS

#: A folder of results has a lock and records, and images of its frames in folders of these names, under such names.
LOCK, RECORDS, PARTS = ".lrp-edge.lock", ("results.jsonl", "events.jsonl"), ("masks", "overlays")
IMAGE = re.compile(r"\d{6,}_.+\.png")
#: A folder with one of these is what an evaluation or a training wrote.
REPORTS = ("evaluation.json", "model.safetensors")
#: What :class:`Left` calls hidden files and those of the system, and what lrp-edge wrote.
HIDDEN, OUTPUT = "hidden", "outputs of lrp-edge"
#: What operating systems leave beside pictures.
_SYSTEM = frozenset({"thumbs.db", "desktop.ini", "__macosx", "@eadir"})


class Left(Counter[str]):
    """How many files and folders were left out, by what they are."""

    def __str__(self) -> str:
        return ", ".join(f"{count} {what}" for what, count in sorted(self.items()))


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is the system's and not the user's."""
    return name.startswith(".") or name.lower() in _SYSTEM


def is_output(path: Path) -> bool:
    """Whether an image is a mask or an overlay that a run has written."""
    if path.parent.name not in PARTS or not IMAGE.fullmatch(path.name):
        return False
    return any((path.parent.parent / name).exists() for name in (LOCK, *RECORDS))


def is_report(folder: Path) -> bool:
    """Whether an evaluation or a training wrote a folder."""
    return any((folder / name).is_file() for name in REPORTS)


def pictures_in(folder: Path, left: Left) -> list[Path]:
    """Return the pictures in a folder, at any depth and through links, sorted.

    Parameters
    ----------
    folder : Path
        Where to look. A folder below it that is linked twice, or links to one above, is looked at once.
    left : Left
        Counts what is left out: what is hidden, what lrp-edge wrote, and files whose names do not end as a
        picture's do.
    """
    found = []
    for place, names in _folders(folder, left):
        for name in names:
            ending = os.path.splitext(name)[1].lower()
            if is_hidden(name):
                left[HIDDEN] += 1
            elif place != folder and is_output(place / name):
                left[OUTPUT] += 1
            elif ending in ENDINGS:
                found.append(place / name)
            else:
                left[f"files {ending}" if ending else "files without an ending"] += 1
    return sorted(found)


def _folders(folder: Path, left: Left) -> Iterator[tuple[Path, list[str]]]:
    """Yield each folder once, with the names of its files."""
    seen = {_identity(above) for above in folder.resolve().parents}
    for place, inner, names in os.walk(folder, followlinks=True):
        here = _identity(place)
        written = place != str(folder) and not set(REPORTS).isdisjoint(names)
        if here in seen or written:
            left[OUTPUT if written else "folders linked twice"] += 1
            inner.clear()
            continue
        seen.add(here)
        left.update(HIDDEN for name in inner if is_hidden(name))
        inner[:] = sorted(name for name in inner if not is_hidden(name))
        yield Path(place), names


def _identity(folder: str | Path) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino
