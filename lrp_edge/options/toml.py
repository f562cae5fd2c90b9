"""Options of a TOML file; an error names the line where it stands."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lrp_edge.errors import LrpEdgeError, needs_extra
from lrp_edge.options.declare import OptionGroup, check_name, groups_of, options_of
from lrp_edge.options.values import Refused, printable

_TABLE_LINE = re.compile(r"\s*\[\s*([A-Za-z0-9_.-]+)\s*\]")
_KEY_LINE = re.compile(r"\s*([A-Za-z0-9_-]+)\s*=")


def read_toml(path: str | Path, kind: type[OptionGroup], *, extra: str, relative: bool = False) -> dict[str, Any]:
    """Read and check the options of a TOML file.

    Parameters
    ----------
    path : path
        Its keys are the names of the group's fields, its tables those of the groups in it.
    kind : type
        The group.
    extra : str
        The extra that brings a TOML reader for a Python without one.
    relative : bool
        Whether paths in it start from its own folder.

    Returns
    -------
    dict
        What it says, by name, in the types of the fields; a dict for each table.

    Raises
    ------
    LrpEdgeError
        If it cannot be read, is not TOML, or has a key that is not known or a value that cannot be; with the line.
    """
    with needs_extra(extra):
        if sys.version_info >= (3, 11):
            import tomllib
        else:
            import tomli as tomllib
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        values = tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        raise LrpEdgeError(f"{path}: this configuration cannot be read ({error})") from error
    except ValueError as error:
        # The parser's own, or Python's for a number of thousands of digits.
        raise LrpEdgeError(f"{path}: not valid TOML: {printable(str(error))}") from error
    except RecursionError as error:
        raise LrpEdgeError(f"{path}: its values are nested too deeply; expected tables of plain values") from error
    return _checked(values, kind, (), _Lines(path, text), path.resolve().parent if relative else Path())


class _Lines:
    """Where the keys of a TOML file stand."""

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._places: dict[tuple[str, ...], int] = {}
        table: tuple[str, ...] = ()
        for number, line in enumerate(text.splitlines(), 1):
            if match := _TABLE_LINE.match(line):
                table = tuple(match[1].split("."))
                self._places.setdefault(table, number)
            elif match := _KEY_LINE.match(line):
                self._places.setdefault((*table, match[1]), number)

    def error(self, key: tuple[str, ...], message: str) -> LrpEdgeError:
        """Return an error about a key, or about the table that it is in where it is written in another form."""
        while key and key not in self._places:
            key = key[:-1]
        return LrpEdgeError(f"{self._path}, line {self._places.get(key, 1)}: {message}")


def _checked(
    values: Mapping[str, Any], kind: type[OptionGroup], where: tuple[str, ...], lines: _Lines, folder: Path
) -> dict[str, Any]:
    """Return the values in the types of the fields, or say which cannot be and where it stands."""
    declared = {one.name: one for one in options_of(kind)}
    tables = groups_of(kind)
    prefix = "".join(f"{name}." for name in where)
    checked: dict[str, Any] = {}
    for key, value in values.items():
        place = (*where, key)
        try:
            check_name(kind, key, prefix)
        except LrpEdgeError as error:
            raise lines.error(place, str(error)) from error
        if key in tables:
            if not isinstance(value, Mapping):
                raise lines.error(place, f"{key} is a table; write [{key}] and its keys below")
            checked[key] = _checked(value, tables[key], place, lines, folder)
            continue
        try:
            found = declared[key].accept(value)
        except Refused as error:
            named = str(error).startswith(f"{key} is ")
            raise lines.error(place, f"{prefix if named else ''}{error}") from error
        checked[key] = folder / found if isinstance(found, Path) else found
    return checked
