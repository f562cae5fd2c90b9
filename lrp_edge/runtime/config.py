"""A line's description in a TOML file, checked; an error names the line where it stands."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_type_hints

from lrp_edge.errors import LrpEdgeError, needs_extra
from lrp_edge.runtime.line import Line

with needs_extra("config"):
    import pydantic

    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

_TABLE = re.compile(r"\s*\[\s*([A-Za-z0-9_.-]+)\s*\]")
_KEY = re.compile(r"\s*([A-Za-z0-9_-]+)\s*=")


def read_config(path: str | Path) -> dict[str, Any]:
    """Read and check a configuration file.

    Parameters
    ----------
    path : path
        A TOML file, whose tables and keys are those of :class:`~lrp_edge.runtime.line.Line`. Paths in it are relative
        to its own folder.

    Returns
    -------
    dict
        Its values by table and key, as :func:`~lrp_edge.runtime.line.build` takes them.

    Raises
    ------
    LrpEdgeError
        If it cannot be read, is no TOML, or has a key that is not known or a value of the wrong kind; with the line.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        values = tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        raise LrpEdgeError(f"{path}: this configuration cannot be read ({error})") from error
    except tomllib.TOMLDecodeError as error:
        raise LrpEdgeError(f"{path}: this is no TOML: {error}") from error
    lines = _Lines(path, text)
    _check_names(values, Line, (), lines)
    folder = path.resolve().parent
    typed = _typed(values, Line, (), lines, folder)
    uri = typed.get("source", {}).get("uri", "")
    if uri and "://" not in uri and not uri.isdecimal():
        typed["source"]["uri"] = str(folder / uri)
    return typed


class _Lines:
    """Where the keys of a TOML file stand."""

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._places: dict[tuple[str, ...], int] = {}
        table: tuple[str, ...] = ()
        for number, line in enumerate(text.splitlines(), 1):
            if match := _TABLE.match(line):
                table = tuple(match[1].split("."))
                self._places.setdefault(table, number)
            elif match := _KEY.match(line):
                self._places.setdefault((*table, match[1]), number)

    def error(self, key: tuple[str, ...], message: str) -> LrpEdgeError:
        """Return an error about a key, or about the table that it is in where it is written in another form."""
        while key and key not in self._places:
            key = key[:-1]
        return LrpEdgeError(f"{self._path}, line {self._places.get(key, 1)}: {message}")


def _check_names(values: Mapping[str, Any], kind: Any, where: tuple[str, ...], lines: _Lines) -> None:
    hints = get_type_hints(kind)
    for key, value in values.items():
        place = (*where, key)
        if key not in hints:
            near = get_close_matches(key, hints, 1)
            hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(hints)}"
            raise lines.error(place, f"{'.'.join(place)} is not known; {hint}")
        if dataclasses.is_dataclass(hints[key]):
            if not isinstance(value, Mapping):
                raise lines.error(place, f"{key} is a table; write [{key}] and its keys below")
            _check_names(value, hints[key], place, lines)


def _typed(values: Mapping[str, Any], kind: Any, where: tuple[str, ...], lines: _Lines, folder: Path) -> dict[str, Any]:
    """Return the values in the types that the fields have, paths from the file's folder."""
    hints, typed = get_type_hints(kind), dict[str, Any]()
    for key, value in values.items():
        place = (*where, key)
        if isinstance(value, Mapping):
            typed[key] = _typed(value, hints[key], place, lines, folder)
            _check_ranges(hints[key], typed[key], place, lines)
            continue
        try:
            found = pydantic.TypeAdapter(hints[key]).validate_json(json.dumps(value, default=str), strict=True)
        except pydantic.ValidationError as error:
            problem = error.errors()[0]["msg"]
            raise lines.error(place, f"{'.'.join(place)} is {value!r}: {problem[0].lower()}{problem[1:]}") from error
        typed[key] = folder / found if isinstance(found, Path) else found
    return typed


def _check_ranges(kind: Any, values: dict[str, Any], place: tuple[str, ...], lines: _Lines) -> None:
    try:
        kind(**values)
    except LrpEdgeError as error:
        raise lines.error(place, str(error)) from error
