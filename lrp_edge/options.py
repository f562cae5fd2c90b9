"""Options that are declared once: a dataclass a group, from which flags, TOML keys and keyword arguments are made.

A field's help text, range and choices stand beside its default. A value is checked by the same code, and refused in the
same words, whether it comes from the command line, a file or Python.
"""

from __future__ import annotations

import dataclasses
import math
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

from lrp_edge.errors import LrpEdgeError, did_you_mean, needs_extra

_KEY = "lrp_edge.option"
_TABLE_LINE = re.compile(r"\s*\[\s*([A-Za-z0-9_.-]+)\s*\]")
_KEY_LINE = re.compile(r"\s*([A-Za-z0-9_-]+)\s*=")


@dataclass(frozen=True)
class _Settings:
    """What :func:`option` is told of a field."""

    help: str
    least: float | None
    most: float | None
    above: float | None
    below: float | None
    choices: tuple[Any, ...]
    check: Callable[[Any], bool] | None
    expected: str
    called: str
    usual: str
    flag: str | None
    short: str
    metavar: str
    separator: str
    panel: str


def option(
    default: Any = MISSING,
    help: str = "",
    *,
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    below: float | None = None,
    choices: Iterable[Any] = (),
    check: Callable[[Any], bool] | None = None,
    expected: str = "",
    called: str = "",
    usual: str = "",
    flag: str | None = None,
    short: str = "",
    metavar: str = "",
    separator: str = ",",
    panel: str = "",
) -> Any:
    """Declare an option as the field of an :class:`OptionGroup`.

    Parameters
    ----------
    default : object
        Its default; an option without one must be given. None, for an option that cannot be None, leaves it to the
        group to choose one, which `usual` then tells.
    help : str
        What it does, with its unit, in one sentence.
    least, most, above, below : float, optional
        Its range: at least, at most, more than, less than. For a tuple, that of each entry.
    choices : iterable
        All values that it may have, where its type is no ``Literal`` that says so.
    check : callable, optional
        Whether a value of the right type is one that can be; `expected` then says which can.
    expected : str
        What a message says is expected, in place of type, range and choices.
    called : str
        How a message begins, in place of ``"NAME is"``.
    usual : str
        What the help text calls the default, where that is found only when it is needed.
    flag : str, optional
        Its name on the command line, by default ``--`` and the field's name; ``""`` for none.
    short : str
        Its short name on the command line, e.g. ``"-o"``.
    metavar : str
        What stands for its value in the help text.
    separator : str
        What stands between the entries of a tuple on the command line.
    panel : str
        The heading that it stands under in the help text, in place of its group's.
    """
    settings = _Settings(
        help, least, most, above, below, tuple(choices), check, expected, called, usual, flag, short, metavar,
        separator, panel,
    )  # fmt: skip
    return dataclasses.field(default=default, metadata={_KEY: settings})


class OptionGroup:
    """Base of the dataclasses that declare options; a value that cannot be is refused when an instance is made.

    Lists become tuples, whole numbers floats and text paths where the field's type wants that.

    Raises
    ------
    LrpEdgeError
        If a value has another type than its field, is out of range, or is none of the choices.
    """

    panel: ClassVar[str] = "Options"

    def __init_subclass__(cls, panel: str = "", **more: Any) -> None:
        super().__init_subclass__(**more)
        if panel:
            cls.panel = panel

    def __post_init__(self) -> None:
        for declared in options_of(type(self)):
            # The dataclasses are frozen.
            object.__setattr__(self, declared.name, declared.accept(getattr(self, declared.name)))


class Refused(LrpEdgeError):  # noqa: N818
    """A value that an option cannot have."""


@dataclass(frozen=True)
class Option:
    """An option as it was declared.

    Attributes
    ----------
    name : str
        Of the field, and the key in a file.
    kind : type
        Of its values, without None.
    optional : bool
        Whether it may be None.
    default : object
        ``dataclasses.MISSING`` where it must be given.
    panel : str
        The heading that it stands under in a help text.
    """

    name: str
    kind: Any
    optional: bool
    default: Any
    panel: str
    _settings: _Settings

    @property
    def flag(self) -> str:
        """Its name on the command line; empty where it has none."""
        given = self._settings.flag
        return f"--{self.name.replace('_', '-')}" if given is None else given

    @property
    def short(self) -> str:
        """Its short name on the command line, or nothing."""
        return self._settings.short

    @property
    def choices(self) -> tuple[Any, ...]:
        """All values that it may have, or none where they are not counted."""
        return get_args(self.kind) if get_origin(self.kind) is Literal else self._settings.choices

    @property
    def metavar(self) -> str:
        """What stands for its value in a help text."""
        if self._settings.metavar or self.choices:
            return self._settings.metavar or "|".join(map(str, self.choices))
        names = {int: "N", float: "NUMBER", Path: "PATH"}
        return names.get(self.kind, "TEXT")

    @property
    def text(self) -> str:
        """What it does."""
        return self._settings.help

    @property
    def usual(self) -> str:
        """Its default in words; empty where there is none, and where a switch is off by default."""
        if self._settings.usual or self.default is MISSING or self.default is None or self.default is False:
            return self._settings.usual
        return "yes" if self.default is True else self.show(self.default)

    @property
    def help(self) -> str:
        """What it does, its range, and its default."""
        notes = [self.range] if self.range and not self._settings.expected else []
        notes += [f"default: {self.usual}"] if self.usual else []
        return f"{self.text} ({'; '.join(notes)})" if notes else self.text

    @property
    def range(self) -> str:
        """Its range in words; empty where there is none."""
        told = self._settings
        if told.above is not None:
            return f"more than {told.above:g}" + ("" if told.most is None else f", up to {told.most:g}")
        low = "" if told.least is None else f"{told.least:g}"
        high = "" if told.most is None else f"{told.most:g}"
        if told.below is not None:
            high = f"less than {told.below:g}"
        if low and high:
            return f"{low} to {high}"
        return f"{low} or more" if low else high and f"up to {high}"

    @property
    def expected(self) -> str:
        """What values it takes, in words."""
        if self._settings.expected:
            return self._settings.expected
        if self.choices:
            *most, last = map(str, self.choices)
            return f"{', '.join(most)} or {last}"
        kinds = {int: "a whole number", float: "a number", bool: "true or false", Path: "a path", str: "text"}
        return ", ".join(part for part in (kinds.get(self.kind, ""), self.range) if part)

    def read(self, text: str) -> Any:
        """Return what text of the command line says, or the text where it says nothing of the kind."""
        try:
            if get_origin(self.kind) is tuple:
                parts = text.split(self._settings.separator)
                return tuple(kind(part) for kind, part in zip(get_args(self.kind), parts, strict=True))
            kind = type(self.choices[0]) if self.choices else self.kind
            return kind(text) if kind in (int, float) else text
        except ValueError:
            return text

    def show(self, value: Any) -> str:
        """Return a value in the form that the command line takes."""
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, (tuple, list)) and self._is_tuple(value):
            return self._settings.separator.join(map(str, value))
        return f"{value:g}" if isinstance(value, float) and self.kind is float else str(value)

    def accept(self, value: Any) -> Any:
        """Return a value in the field's own type.

        Raises
        ------
        Refused
            If it is of another type, out of range, or none of the choices.
        """
        if value is None and (self.optional or self.default is None):
            return None
        typed = self._typed(value)
        if typed is MISSING or not self._within(typed):
            raise self._refusal(value)
        return typed

    def _typed(self, value: Any) -> Any:
        """Return a value in the field's type, or MISSING where it is of another."""
        kind = self.kind
        if get_origin(kind) is Literal:
            fits = isinstance(value, type(self.choices[0])) and not isinstance(value, bool)
        elif get_origin(kind) is tuple:
            return tuple(map(int, value)) if self._is_tuple(value) else MISSING
        elif kind is Path:
            return Path(value) if isinstance(value, (str, Path)) else MISSING
        elif kind in (int, float):
            fits = isinstance(value, Integral if kind is int else Real) and not isinstance(value, bool)
            try:
                return kind(value) if fits else MISSING
            except OverflowError:
                return MISSING
        else:
            fits = isinstance(value, kind)
        return value if fits else MISSING

    def _is_tuple(self, value: Any) -> bool:
        whole = isinstance(value, (list, tuple)) and len(value) == len(get_args(self.kind))
        return whole and all(isinstance(part, Integral) and not isinstance(part, bool) for part in value)

    def _within(self, value: Any) -> bool:
        told = self._settings
        if self.choices and value not in self.choices:
            return False
        for number in value if isinstance(value, tuple) else [value]:
            if isinstance(number, float) and not math.isfinite(number):
                return False
            if (told.least is not None and number < told.least) or (told.most is not None and number > told.most):
                return False
            if (told.above is not None and number <= told.above) or (told.below is not None and number >= told.below):
                return False
        return told.check is None or told.check(value)

    def _refusal(self, value: Any) -> Refused:
        shown = repr(value) if not isinstance(value, (Real, tuple, list)) else self.show(value)
        typed = self._typed(value)
        finite = isinstance(typed, int) or (isinstance(typed, float) and math.isfinite(typed))
        expected = self.range if finite and self.range and not self._settings.expected else self.expected
        hint = did_you_mean(str(value), map(str, self.choices), f"expected {expected}")
        return Refused(f"{self._settings.called or self.name + ' is'} {shown}; {hint}")


def options_of(kind: type[Any]) -> tuple[Option, ...]:
    """Return the options that a dataclass declares, in order, without those of the groups in it."""
    hints, found = get_type_hints(kind), []
    # What a group adds to another comes first.
    own_first = sorted(dataclasses.fields(kind), key=lambda declared: declared.name not in kind.__annotations__)
    for declared in own_first:
        if settings := declared.metadata.get(_KEY):
            hint = hints[declared.name]
            members = get_args(hint) if get_origin(hint) is Union or isinstance(hint, _UNION) else (hint,)
            (own,) = (member for member in members if member is not type(None))
            optional = type(None) in members
            found.append(Option(declared.name, own, optional, declared.default, settings.panel or kind.panel, settings))
    return tuple(found)


#: The type of ``int | None``.
_UNION = type(int | None)


def groups_of(kind: type[Any]) -> dict[str, type[OptionGroup]]:
    """Return the groups that are fields of a group, by name: the tables of its file."""
    hints = get_type_hints(kind)
    return {
        declared.name: hints[declared.name]
        for declared in dataclasses.fields(kind)
        if dataclasses.is_dataclass(hints[declared.name])
    }


def make(kind: type[OptionGroup], values: Mapping[str, Any]) -> Any:
    """Make a group of values by name, and the groups in it of mappings.

    Raises
    ------
    LrpEdgeError
        If a name is not known, or a value cannot be.
    """
    tables = groups_of(kind)
    for name in values:
        check_name(kind, name)
    return kind(**{name: make(tables[name], value) if name in tables and isinstance(value, Mapping) else value
                   for name, value in values.items()})  # fmt: skip


def check_name(kind: type[OptionGroup], name: str, prefix: str = "") -> None:
    """Refuse a name that a group does not have, with the nearest one that it has."""
    known = [*(declared.name for declared in options_of(kind)), *groups_of(kind)]
    if name not in known:
        hint = did_you_mean(name, known) or f"expected one of {', '.join(known)}"
        raise LrpEdgeError(f"{prefix}{name} is not known; {hint}")


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
        If it cannot be read, is no TOML, or has a key that is not known or a value that cannot be; with the line.
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
    except tomllib.TOMLDecodeError as error:
        raise LrpEdgeError(f"{path}: this is no TOML: {error}") from error
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
