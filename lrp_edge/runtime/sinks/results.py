"""``results.jsonl`` and ``events.jsonl``: one line of JSON each, whole after a kill."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lrp_edge.errors import LrpEdgeError
from lrp_edge.runtime.result import Event, Result
from lrp_edge.runtime.sinks.base import Sink
from lrp_edge.runtime.sinks.folder import Lock, is_file, last_image

# Bytes that are read at a time, backwards, in search of the last line.
_BLOCK = 2**16
EXISTING = ("refuse", "append", "overwrite")


class Results(Sink):
    """Writes a line for each frame and each event; every line is handed to the system before the next begins.

    A run that has no result leaves no new file behind, which the next run would take for results. A file that somebody
    moves, replaces or removes while the run writes it is made anew under its name.

    Parameters
    ----------
    folder : path
        Created if it does not exist.
    existing : {"refuse", "append", "overwrite"}
        What to do where there are results already.
    lock : Lock, optional
        What keeps the folder for this run.

    Attributes
    ----------
    first : int
        Id that follows the last one in the file and those of the images, for a run that appends; 0 otherwise.

    Raises
    ------
    LrpEdgeError
        If there are results already and they are to stay, or what is there is not ours to go on with.
    """

    name, recording, final, depth = "results", True, True, 256

    def __init__(self, folder: str | Path, existing: str = "refuse", lock: Lock | None = None) -> None:
        self._folder, self._append, self._lock = Path(folder), existing == "append", lock
        if existing not in EXISTING:
            raise LrpEdgeError(f"existing is {existing!r}; expected one of {', '.join(EXISTING)}")
        path = self._folder / "results.jsonl"
        if os.path.exists(path) and existing == "refuse":
            raise LrpEdgeError(f"{path} exists; choose another folder, --append or --overwrite")
        self.first = max(_last_frame(path), last_image(self._folder)) + 1 if self._append else 0
        self._fresh, self._empty = not os.path.exists(path), True
        self._results: _Lines | None = None
        self._events: _Lines | None = None
        self._reopened = 0

    def open(self) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._results = _Lines(self._folder / "results.jsonl", self._append, self._open_anew)
            self._events = _Lines(self._folder / "events.jsonl", self._append, self._open_anew)
        except OSError as error:
            self.close()
            raise LrpEdgeError(f"cannot write to {self._folder}: {error.strerror}; choose another folder") from error

    def write(self, result: Result) -> None:
        assert self._results is not None
        self._results.write(result.as_dict())
        self._empty = False

    def event(self, event: Event) -> None:
        assert self._events is not None
        self._events.write(event.as_dict())

    def counts(self) -> dict[str, int]:
        return {"reopened": self._reopened}

    def close(self) -> None:
        for lines in (self._results, self._events):
            if lines is not None:
                lines.close()
                if self._fresh and self._empty:
                    lines.path.unlink(missing_ok=True)
        if self._fresh and self._empty:
            with contextlib.suppress(OSError):
                self._folder.rmdir()

    def _open_anew(self, lines: _Lines) -> None:
        """Go on in a new file of the same name, and say so."""
        assert self._events is not None
        if self._lock is not None:
            self._lock.renew()
        lines.reopen()
        self._reopened += 1
        message = f"{lines.path} was moved or removed while it was written; a new file of that name goes on"
        self.notice("reopened", message)
        self._events.write(Event("reopened", self.name, message, time.time()).as_dict())


class _Lines:
    """A file of JSON lines without a buffer of its own.

    Parameters
    ----------
    path : path
        The file.
    append : bool
        Whether what is in it stays, but for a torn last line.
    gone : callable
        Called with this before a line that would go to a file which does not stand under its name any more.
    """

    def __init__(self, path: Path, append: bool, gone: Callable[[_Lines], None]) -> None:
        self.path, self._gone = path, gone
        self._file: int | None = self._open(0 if append else os.O_TRUNC)
        if append:
            self._cut_torn_line()

    def _open(self, flags: int) -> int:
        return os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | flags, 0o644)

    def _cut_torn_line(self) -> None:
        """Remove what a power cut left of a line."""
        assert self._file is not None
        end = _whole_lines(self._file)
        if end < os.fstat(self._file).st_size:
            os.ftruncate(self._file, end)

    def reopen(self) -> None:
        """Leave the old file, and open what stands under its name; create it where nothing does.

        Raises
        ------
        LrpEdgeError
            If it cannot be opened; the next line tries again.
        """
        self.close()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._open(0)
            size = os.fstat(self._file).st_size
            # Another's last line may have no end.
            if size and _read(self._file, size - 1, 1) != b"\n":
                os.write(self._file, b"\n")
        except OSError as error:
            raise self._error(error) from error

    def write(self, line: dict[str, Any]) -> None:
        data = json.dumps(line, ensure_ascii=False).encode() + b"\n"
        while True:
            if self._file is None or not is_file(self._file, self.path):
                self._gone(self)
            assert self._file is not None
            self._append(self._file, data)
            # A file that was removed while the line was written took it along; one that was moved has it.
            if os.fstat(self._file).st_nlink or is_file(self._file, self.path):
                return

    def _append(self, file: int, data: bytes) -> None:
        size = os.fstat(file).st_size
        try:
            written = os.write(file, data)
            if written < len(data):
                os.write(file, data[written:])
        except OSError as error:
            # Half a line would corrupt the next one too.
            os.ftruncate(file, size)
            raise self._error(error) from error

    def _error(self, error: OSError) -> LrpEdgeError:
        return LrpEdgeError(f"cannot write {self.path}: {error.strerror}; free space")

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _last_frame(path: Path) -> int:
    """Return the id in the last whole line; -1 where there is none."""
    try:
        file = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return -1
    except OSError as error:
        raise LrpEdgeError(f"{path} cannot be read: {error.strerror}; choose another folder") from error
    try:
        end = _whole_lines(file)
        begin = _behind_newline(file, end - 1)
        return int(json.loads(_read(file, begin, end - begin))["frame"]) if end else -1
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise LrpEdgeError(f"{path}: its last line is not a result; choose another folder, or --overwrite") from error
    finally:
        os.close(file)


def _whole_lines(file: int) -> int:
    """Return how many bytes of a file the lines take that have an end."""
    return _behind_newline(file, os.fstat(file).st_size)


def _behind_newline(file: int, end: int) -> int:
    """Return the place behind the last newline before another place; 0 where there is none."""
    while end > 0:
        begin = max(0, end - _BLOCK)
        found = _read(file, begin, end - begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        end = begin
    return 0


def _read(file: int, begin: int, count: int) -> bytes:
    """Read some bytes of an open file from a place on."""
    os.lseek(file, begin, os.SEEK_SET)
    data = bytearray()
    while len(data) < count and (more := os.read(file, count - len(data))):
        data += more
    return bytes(data)
