"""One option: which values it takes, and how they are read, shown and refused."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from lrp_edge.errors import LrpEdgeError, did_you_mean

_ONE = {int: "a whole number", float: "a number", bool: "true or false", Path: "a path", str: "text"}
_SEVERAL = {int: "one or more whole numbers", float: "one or more numbers", Path: "one or more paths"}
_NUL = "\0"
_LONGEST_SHOWN = 200
_PLACEHOLDERS = {int: "N", float: "NUMBER", Path: "PATH"}


@dataclass(frozen=True)
class Settings:
    """What a field was declared with by :func:`lrp_edge.options.option`."""

    help: str
    least: float | None
    most: float | None
    above: float | None
    below: float | None
    choices: tuple[Any, ...]
    check: Callable[[Any], bool] | None
    form: Callable[[Any], Any] | None
    expected: str
    called: str
    usual: str
    flag: str | None
    short: str
    former: str
    metavar: str
    separator: str
    panel: str


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
        Of its values, without None and without `words`.
    words : tuple of str
        What may stand in place of a value of that type, e.g. ``"dynamic"`` for a size.
    optional : bool
        Whether it may be None.
    default : object
        ``dataclasses.MISSING`` where it must be given.
    panel : str
        The heading that it stands under in a help text.
    settings : Settings
        The rest of the declaration.
    """

    name: str
    kind: Any
    words: tuple[str, ...]
    optional: bool
    default: Any
    panel: str
    settings: Settings

    @property
    def flag(self) -> str:
        """Its name on the command line; empty where it has none."""
        given = self.settings.flag
        return f"--{self.name.replace('_', '-')}" if given is None else given

    @property
    def several(self) -> bool:
        """Whether its flag may be given several times: for a tuple of any length, and for values by name."""
        return get_origin(self.kind) is dict or (get_origin(self.kind) is tuple and Ellipsis in get_args(self.kind))

    @property
    def choices(self) -> tuple[Any, ...]:
        """All values that it, or each of its entries, may have; none where they are not counted."""
        return get_args(self.kind) if get_origin(self.kind) is Literal else self.settings.choices

    @property
    def metavar(self) -> str:
        """Placeholder of its value in a help text."""
        if self.settings.metavar or self.choices:
            return self.settings.metavar or "|".join(map(str, self.choices))
        return _PLACEHOLDERS.get(self.kind, "TEXT")

    @property
    def usual(self) -> str:
        """Its default in words; empty where there is none, and where a switch is off by default."""
        if self.settings.usual or any(self.default is nothing for nothing in (MISSING, None, False, "")):
            return self.settings.usual
        return "yes" if self.default is True else self.show(self.default)

    @property
    def help(self) -> str:
        """What it does, its range or choices where nothing else names them, and its default."""
        listed = self.choices and bool(self.settings.metavar)
        told = self.expected if listed else "" if self.settings.expected else self.range
        notes = [part for part in (told, f"default: {self.usual}" if self.usual else "") if part]
        return f"{self.settings.help} ({'; '.join(notes)})" if notes else self.settings.help

    @property
    def range(self) -> str:
        """Its range in words; empty where there is none."""
        spec = self.settings
        least, most, above, below = (
            "" if end is None else _short(end) for end in (spec.least, spec.most, spec.above, spec.below)
        )
        if above:
            return f"more than {above}" + (f", up to {most}" if most else "")
        high = f"less than {below}" if below else most
        if least and high:
            return f"{least} to {high}"
        return f"{least} or more" if least else high and f"up to {high}"

    @property
    def expected(self) -> str:
        """Which values it takes, in words."""
        if self.settings.expected:
            return self.settings.expected
        if self.choices:
            *most, last = map(str, self.choices)
            each = f"{', '.join(most)} or {last}"
            return f"one or more of {each}" if self.several else each
        if get_origin(self.kind) is dict:
            return "numbers by name"
        entry = get_args(self.kind)[0] if self.several else self.kind
        kind = (_SEVERAL.get(entry, "one or more names") if self.several else _ONE.get(entry, ""), self.range)
        return (" of " if self.several else ", ").join(part for part in kind if part)

    def read(self, given: str | Sequence[str]) -> Any:
        """Return what text of the command line says, or the text where it says nothing of the kind."""
        texts = [given] if isinstance(given, str) else list(given)
        text = self.settings.separator.join(texts)
        if text in self.words:
            return text
        try:
            if get_origin(self.kind) is dict:
                return dict(_pair(part) for part in text.split(self.settings.separator))
            if get_origin(self.kind) is tuple:
                parts = [part.strip() for part in text.split(self.settings.separator)]
                kinds = get_args(self.kind)[:1] * len(parts) if self.several else get_args(self.kind)
                return tuple(kind(part) for kind, part in zip(kinds, parts, strict=True))
            kind = type(self.choices[0]) if self.choices else self.kind
            return kind(text) if kind in (int, float) else text
        except ValueError:
            return text

    def show(self, value: Any) -> str:
        """Return a value in the form that the command line takes."""
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, Mapping):
            return self.settings.separator.join(f"{name}={_short(number)}" for name, number in value.items())
        if isinstance(value, (tuple, list)):
            return self.settings.separator.join(map(_short, value))
        return _short(value) if self.kind is float else str(value)

    def as_words(self, value: Any) -> list[str]:
        """Return the words of the command line that give a value."""
        if self.kind is bool:
            return [self.flag if value else f"--no-{self.flag[2:]}"]
        return [self.flag, self.show(value)]

    def accept(self, value: Any) -> Any:
        """Return a value in the field's own type and form.

        Raises
        ------
        Refused
            If it is of another type, out of range, or none of the choices.
        """
        if (value is None and (self.optional or self.default is None)) or (
            isinstance(value, str) and value in self.words
        ):
            return value
        typed = self._typed(value)
        if typed is not MISSING and self.settings.form:
            typed = self.settings.form(typed)
        if typed is MISSING or not self._within(typed):
            raise self._refusal(value)
        return typed

    def _typed(self, value: Any) -> Any:
        """Return a value in the field's type, or MISSING where it is of another."""
        kinds = get_args(self.kind)
        if get_origin(self.kind) is Literal:
            kinds = (type(self.choices[0]),)
        elif get_origin(self.kind) is dict:
            if not isinstance(value, Mapping):
                return MISSING
            names, numbers = _all_of([kinds[0]] * len(value), value), _all_of([kinds[1]] * len(value), value.values())
            return MISSING if MISSING in (names, numbers) else dict(zip(names, numbers, strict=True))
        elif get_origin(self.kind) is tuple:
            if not isinstance(value, (list, tuple)) or not value:
                return MISSING
            return _all_of(kinds[:1] * len(value) if self.several else kinds, value)
        return _of_kind(kinds[0] if kinds else self.kind, value)

    def _within(self, value: Any) -> bool:
        spec = self.settings
        entries = list(value.values()) if isinstance(value, dict) else value if isinstance(value, tuple) else [value]
        for entry in entries:
            if self.choices and entry not in self.choices:
                return False
            if isinstance(entry, float) and not math.isfinite(entry):
                return False
            if (spec.least is not None and entry < spec.least) or (spec.most is not None and entry > spec.most):
                return False
            if (spec.above is not None and entry <= spec.above) or (spec.below is not None and entry >= spec.below):
                return False
        return spec.check is None or spec.check(value)

    def _refusal(self, value: Any) -> Refused:
        typed = self._typed(value)
        plain = isinstance(value, Real) or (isinstance(value, (tuple, list, Mapping)) and typed is not MISSING)
        finite = isinstance(typed, int) or (isinstance(typed, float) and math.isfinite(typed))
        expected = self.range if finite and self.range and not self.settings.expected else self.expected
        strange = [entry for entry in value if entry not in self.choices] if isinstance(typed, tuple) else []
        hint = did_you_mean(_brief(str, (strange or [value])[0]), map(str, self.choices), f"expected {expected}")
        shown = _brief(self.show if plain else repr, value)
        return Refused(f"{self.settings.called or self.name + ' is'} {shown}; {hint}")


def _of_kind(kind: Any, value: Any) -> Any:
    """Return a value in a type that is no collection, or MISSING where it is of another."""
    if isinstance(value, (str, Path)) and _NUL in str(value):
        # No file has such a name, and nothing else that takes text takes this.
        return MISSING
    if kind is Path:
        return Path(value) if isinstance(value, (str, Path)) else MISSING
    if kind in (int, float):
        if isinstance(value, bool) or not isinstance(value, Integral if kind is int else Real):
            return MISSING
        try:
            return kind(value)
        except OverflowError:
            return MISSING
    return value if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)) else MISSING


def _all_of(kinds: Sequence[Any], values: Iterable[Any]) -> Any:
    """Return a tuple of values in types of their own, or MISSING where one is of another."""
    found = list(values)
    if len(found) != len(kinds):
        return MISSING
    typed = tuple(_of_kind(kind, value) for kind, value in zip(kinds, found, strict=True))
    return MISSING if any(entry is MISSING for entry in typed) else typed


def _pair(text: str) -> tuple[str, float]:
    name, equals, number = text.partition("=")
    if not equals:
        raise ValueError(text)
    return name.strip(), float(number)


def printable(text: str) -> str:
    """Return text as it is, or escaped where it would not stay on one line of a terminal."""
    return text if text.isprintable() else repr(text)


def _brief(show: Callable[[Any], str], value: Any) -> str:
    """Return a value as text that a line has room for."""
    try:
        text = printable(show(value))
    except (ValueError, RecursionError):
        # Python writes no number of thousands of digits, and no lists in lists for ever.
        return f"a {type(value).__name__} that is too large to be shown"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def _short(value: Any) -> str:
    """Return an entry as text, a number with the fewest digits that say it."""
    brief = f"{value:g}" if isinstance(value, float) else str(value)
    return repr(value) if isinstance(value, float) and float(brief) != value else brief
