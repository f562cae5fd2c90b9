"""Files that appear under their names only when they are whole."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lrp_edge.errors import LrpEdgeError

#: What to do where a file cannot be written.
_ADVICE = "free space or choose another folder"


@contextmanager
def whole(
    path: str | os.PathLike[str], partial: str | os.PathLike[str] | None = None, advice: str = _ADVICE
) -> Iterator[Path]:
    """Give a temporary name next to `path`, and move what was written there to it at the end.

    An existing file stays until then, and is kept if the block fails.

    Parameters
    ----------
    path : path
        The file.
    partial : path, optional
        The temporary name, on the same file system; by default one that no other process uses.
    advice : str
        What the error tells the user to do.

    Raises
    ------
    LrpEdgeError
        If the file cannot be written: the disk is full, or the folder missing or not writable.
    """
    target = Path(path)
    draft = Path(partial) if partial is not None else _draft(target)
    try:
        yield draft
        os.replace(draft, target)
    except OSError as error:
        raise _refusal(target, error, advice) from error
    finally:
        _remove(draft)


@contextmanager
def whole_pair(path: str | os.PathLike[str], side: str | os.PathLike[str]) -> Iterator[tuple[Path, Path]]:
    """Give temporary names of a file and of the one that describes it, and move both to their own at the end.

    Where either cannot be, both stay as they were. The describing file is moved first: it can be taken back without
    space on the disk, and a reader that compares checksums finds, in between, no pair rather than a wrong one.

    Raises
    ------
    LrpEdgeError
        If they cannot be written, as :func:`whole`.
    """
    target, second = Path(path), Path(side)
    draft, new_side = _draft(target), _draft(second)
    old_side = new_side.with_suffix(".before")
    try:
        yield draft, new_side
        if second.exists():
            shutil.copyfile(second, old_side)
        os.replace(new_side, second)
        try:
            os.replace(draft, target)
        except BaseException:
            if old_side.exists():
                os.replace(old_side, second)
            else:
                second.unlink()
            raise
    except OSError as error:
        raise _refusal(target, error, _ADVICE) from error
    finally:
        for left in (draft, new_side, old_side):
            _remove(left)


def _draft(target: Path) -> Path:
    return target.with_name(f".{target.name}.{os.getpid()}.partial")


def _refusal(target: Path, error: OSError, advice: str) -> LrpEdgeError:
    return LrpEdgeError(f"{target}: this file cannot be written ({error.strerror or error}); {advice}")


def _remove(draft: Path) -> None:
    with contextlib.suppress(OSError):
        draft.unlink(missing_ok=True)


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
