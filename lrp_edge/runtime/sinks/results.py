"""``results.jsonl`` and ``events.jsonl``: one line of JSON each, whole after a kill."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from lrp_edge.errors import LrpEdgeError
from lrp_edge.runtime.result import Event, Result
from lrp_edge.runtime.sinks.base import Sink

_LONGEST = 2**22
EXISTING = ("refuse", "append", "overwrite")


class Results(Sink):
    """Writes a line for each frame and each event; every line is handed to the system before the next begins.

    A run that has no result leaves no new file behind, which the next run would take for results.

    Parameters
    ----------
    folder : path
        Created if it does not exist.
    existing : {"refuse", "append", "overwrite"}
        What to do where there are results already.

    Attributes
    ----------
    first : int
        Id that follows the last one in the file, for a run that appends; 0 otherwise.

    Raises
    ------
    LrpEdgeError
        If there are results already and they are to stay, or what is there is not ours to go on with.
    """

    name, recording, depth = "results", True, 256

    def __init__(self, folder: str | Path, existing: str = "refuse") -> None:
        self._folder, self._append = Path(folder), existing == "append"
        if existing not in EXISTING:
            raise LrpEdgeError(f"existing is {existing!r}; expected one of {', '.join(EXISTING)}")
        path = self._folder / "results.jsonl"
        if path.exists() and existing == "refuse":
            raise LrpEdgeError(f"{path} exists; choose another folder, --append or --overwrite")
        self.first = _last_frame(path) + 1 if self._append else 0
        self._fresh, self._empty = not path.exists(), True
        self._results: _Lines | None = None
        self._events: _Lines | None = None

    def open(self) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._results = _Lines(self._folder / "results.jsonl", self._append)
            self._events = _Lines(self._folder / "events.jsonl", self._append)
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

    def close(self) -> None:
        for lines in (self._results, self._events):
            if lines is not None:
                lines.close()
                if self._fresh and self._empty:
                    lines.path.unlink(missing_ok=True)
        if self._fresh and self._empty:
            with contextlib.suppress(OSError):
                self._folder.rmdir()


class _Lines:
    """A file of JSON lines without a buffer of its own."""

    def __init__(self, path: Path, append: bool) -> None:
        self.path = path
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | (0 if append else os.O_TRUNC)
        self._file: int | None = os.open(path, flags, 0o644)
        if append:
            self._cut_torn_line()

    def _cut_torn_line(self) -> None:
        """Remove what a power cut left of a line."""
        assert self._file is not None
        size = self.path.stat().st_size
        torn = _tail(self.path).rpartition(b"\n")[2]
        if torn:
            os.ftruncate(self._file, size - len(torn))

    def write(self, line: dict[str, Any]) -> None:
        assert self._file is not None
        data = json.dumps(line, ensure_ascii=False).encode() + b"\n"
        size = os.fstat(self._file).st_size
        try:
            written = os.write(self._file, data)
            if written < len(data):
                os.write(self._file, data[written:])
        except OSError as error:
            # Half a line would corrupt the next one too.
            os.ftruncate(self._file, size)
            raise LrpEdgeError(f"cannot write {self.path}: {error.strerror}; free space") from error

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _last_frame(path: Path) -> int:
    """Return the id in the last whole line; -1 where there is none."""
    try:
        whole = _tail(path).rpartition(b"\n")[0]
    except FileNotFoundError:
        return -1
    if not whole:
        return -1
    try:
        return int(json.loads(whole.rpartition(b"\n")[2])["frame"])
    except (ValueError, KeyError, TypeError) as error:
        raise LrpEdgeError(f"{path}: its last line is not a result; choose another folder, or --overwrite") from error


def _tail(path: Path) -> bytes:
    """Return the end of a file, long enough for two lines."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _LONGEST))
        return file.read()
