"""The folder of a run: what stands in it, and the lock that keeps it for one run, which ends with its process."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lrp_edge.errors import LrpEdgeError
from lrp_edge.pictures.folders import IMAGE, LOCK, PARTS

# What a file system answers that knows no locks.
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP})

_log = logging.getLogger("lrp_edge.line")


class Lock:
    """A file that one process holds until it closes it or ends; an advisory lock of the operating system.

    Parameters
    ----------
    path : path
        The file; made if there is none, in a folder that is there.
    taken : str
        What the error says if another has it.

    Raises
    ------
    LrpEdgeError
        If another run holds it.
    OSError
        If the file cannot be made.
    """

    def __init__(self, path: Path, taken: str) -> None:
        self.path, self._taken = path, taken
        self._file: int | None = None
        self._take()

    def _take(self) -> None:
        while not self.holds:
            # Whoever held it before may have removed the file after it was opened here.
            self._drop()
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            if not _locked(self._file, self.path):
                self._drop()
                raise LrpEdgeError(self._taken)

    @property
    def holds(self) -> bool:
        """Whether the file that it locked still stands under its name."""
        return self._file is not None and is_file(self._file, self.path)

    def renew(self) -> None:
        """Take it again where somebody removed the file, or its folder.

        Raises
        ------
        LrpEdgeError
            If another run has taken it since, or it cannot be made.
        """
        if self.holds:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._take()
        except OSError as error:
            raise LrpEdgeError(f"cannot write to {self.path.parent}: {error.strerror}; free space") from error

    def close(self) -> None:
        """Remove the file, and let another have it."""
        remove = self.holds
        if sys.platform == "win32":
            # Windows removes no file that is open.
            self._drop()
        if remove:
            with contextlib.suppress(OSError):
                self.path.unlink()
        self._drop()

    def _drop(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


@contextmanager
def own_folder(folder: Path) -> Iterator[Lock]:
    """Keep a folder of results for one run; what it made and nobody wrote to is removed at the end.

    Raises
    ------
    LrpEdgeError
        If another run has it, or it cannot be written.
    """
    made = [each for each in (folder, *folder.parents) if not os.path.exists(each)]
    with contextlib.ExitStack() as stack:
        stack.callback(_remove_empty, made)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            taken = f"another run writes to {folder}; choose another folder, or stop that one first"
            lock = Lock(folder / LOCK, taken)
        except OSError as error:
            raise LrpEdgeError(f"cannot write to {folder}: {error.strerror}; choose another folder") from error
        stack.callback(lock.close)
        yield lock


def last_image(folder: Path) -> int:
    """Return the greatest id in the names of the images of a folder of results; -1 where there is none.

    Lines that were moved elsewhere still name them, so that no later frame may take their names.
    """
    names = [path.name for part in PARTS for path in (folder / part).glob("*.png")]
    return max((int(name.partition("_")[0]) for name in names if IMAGE.fullmatch(name)), default=-1)


def is_file(file: int, path: Path) -> bool:
    """Say whether an open file is the one that stands under a name."""
    try:
        there = path.stat()
    except OSError:
        return False
    return os.path.samestat(os.fstat(file), there)


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def _locked(file: int, path: Path) -> bool:
    """Lock an open file, and say whether nobody else has."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            return False
        _log.warning("%s: this file system has no locks (%s); let no other run write there", path, error.strerror)
    return True
