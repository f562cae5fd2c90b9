"""Engines built before, in the user's cache folder.

An entry is a folder named by a key, with an engine and its card. It appears and goes by a rename of the whole folder,
so any number of processes may share the cache; what is read is believed only if its SHA-256 is that of the card.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from lrp_edge.card import ModelCard
from lrp_edge.errors import LrpEdgeError
from lrp_edge.files import whole

FOLDER_VARIABLE, LIMIT_VARIABLE = "LRP_EDGE_CACHE", "LRP_EDGE_CACHE_MB"
_DEFAULT_LIMIT = 8192
_ENGINE, _CARD = "model.engine", "model.json"
_ABANDONED_AFTER = 24 * 3600


def cache_folder() -> Path:
    """Return the folder: that of ``LRP_EDGE_CACHE``, else this system's for caches of a user."""
    import platformdirs

    return Path(os.environ.get(FOLDER_VARIABLE) or platformdirs.user_cache_dir("lrp-edge", appauthor=False))


def cache_limit() -> int:
    """Return the most bytes that engines may take there: ``LRP_EDGE_CACHE_MB``, else 8 GiB."""
    text = os.environ.get(LIMIT_VARIABLE) or str(_DEFAULT_LIMIT)
    if not text.isdecimal():
        raise LrpEdgeError(f"{LIMIT_VARIABLE} is {text!r}; expected a number of MiB, 0 to keep nothing")
    return int(text) << 20


class EngineCache:
    """Engines by key, the least recently used of which go when there are too many.

    A cache that cannot be read or written costs a build, never an error.

    Parameters
    ----------
    folder : path
        Made when the first engine is kept.
    limit : int
        Bytes that engines may take.
    say : callable
        Told in one line of what is wrong with the cache.
    """

    def __init__(self, folder: Path, limit: int, say: Callable[[str], None]) -> None:
        self.folder, self.limit, self.say = folder, limit, say
        self._engines, self._timings = folder / "engines", folder / "timings"

    def take(self, key: str) -> bytes | None:
        """Return an engine, if it is there and whole; drop an entry that is not."""
        entry = self._engines / key
        if not entry.is_dir():
            return None
        try:
            card = ModelCard.from_json((entry / _CARD).read_text(encoding="utf-8"), str(entry))
            engine = (entry / _ENGINE).read_bytes()
            if hashlib.sha256(engine).hexdigest() != card.engine["engine_sha256"]:
                raise ValueError("its SHA-256 is not that of its card")
        except (OSError, ValueError, KeyError, LrpEdgeError) as error:
            self.say(f"the cached engine {entry} is damaged ({error}); it is discarded and rebuilt")
            self._drop(entry)
            return None
        with contextlib.suppress(OSError):
            os.utime(entry)
        return engine

    def keep(self, key: str, engine: bytes, card: ModelCard) -> bool:
        """Keep an engine for the next time, and say whether it was: what another process kept meanwhile stays."""
        try:
            self._engines.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".keep-", dir=self._engines) as scratch:
                entry = Path(scratch, key)
                entry.mkdir()
                (entry / _ENGINE).write_bytes(engine)
                (entry / _CARD).write_text(card.to_json(), encoding="utf-8")
                os.rename(entry, self._engines / key)
        except OSError as error:
            if not (self._engines / key).exists():
                self.say(f"the engine is not kept in {self.folder} ({error.strerror or error})")
            return False
        with contextlib.suppress(OSError):
            self._evict()
        return True

    def timing(self, name: str) -> bytes:
        """Return what builds for this target measured, nothing if there were none."""
        try:
            return (self._timings / name).read_bytes()
        except OSError:
            return b""

    def keep_timing(self, name: str, timing: bytes) -> None:
        """Keep what builds for this target measured."""
        with contextlib.suppress(OSError, LrpEdgeError):
            self._timings.mkdir(parents=True, exist_ok=True)
            with whole(self._timings / name) as partial:
                partial.write_bytes(timing)

    def _evict(self) -> None:
        """Drop the least recently used above the limit, and what a killed process left."""
        kept, ages = 0, {entry: entry.stat().st_mtime for entry in self._engines.iterdir()}
        for entry, age in sorted(ages.items(), key=lambda pair: pair[1], reverse=True):
            if entry.name.startswith("."):
                if age < time.time() - _ABANDONED_AFTER:
                    shutil.rmtree(entry, ignore_errors=True)
                continue
            kept += sum(file.stat().st_size for file in entry.iterdir())
            if kept > self.limit:
                self._drop(entry)

    def _drop(self, entry: Path) -> None:
        """Take an entry out of sight at once, then delete it; another process may be at the same."""
        with contextlib.suppress(OSError), tempfile.TemporaryDirectory(prefix=".drop-", dir=self._engines) as scratch:
            os.rename(entry, Path(scratch, entry.name))
