"""Files that appear under their names only when they are whole."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lrp_edge.errors import LrpEdgeError


@contextmanager
def whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary name beside `path`, and move what was written there to it at the end.

    An existing file stays until then, and is kept if the block fails.

    Raises
    ------
    LrpEdgeError
        If the file cannot be written: the disk is full, or the folder missing or not writable.
    """
    target = Path(path)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        yield partial
        os.replace(partial, target)
    except OSError as error:
        raise LrpEdgeError(
            f"{target}: this file cannot be written ({error.strerror or error}); free space or choose another folder"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a whole text file in UTF-8, see :func:`whole`."""
    with whole(path) as partial:
        partial.write_text(text, encoding="utf-8")


def claim_folder(folder: str | os.PathLike[str]) -> Path:
    """Create a folder if needed, and make sure, before hours of work, that it can be written.

    Raises
    ------
    LrpEdgeError
        If it cannot.
    """
    path = Path(folder)
    probe = path / f".{os.getpid()}.partial"
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise LrpEdgeError(f"{path}: the output folder cannot be written ({error.strerror}); choose another") from error
    return path
