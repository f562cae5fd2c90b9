"""The text of a card: JSON whose fields are each of a type, in the same words here and in C++.

C++ has the same table of fields and types, which ``make reference`` writes. What JSON is, and what a value of each type
is, ``cpp_demo/src/card_json.cpp`` and ``card_fields.cpp`` say again, and a test compares.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lrp_edge.errors import LrpEdgeError

#: Containers around a value, at most: what is deeper by far than any card exhausts the stack of what goes through it.
DEEPEST = 100
#: The largest whole number; C++ keeps them in 32 bits.
LARGEST = 2**31 - 1
_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\\": "\\\\"}
_JSON_NAMES = {dict: "object", list: "array", str: "string", bool: "boolean", type(None): "null"}


class Misfit(Exception):  # noqa: N818
    """A field is missing, unknown, or not of its type."""


@dataclass(frozen=True)
class Kind:
    """A type of fields.

    Attributes
    ----------
    name : str
        What C++ calls it.
    expected : str
        What is expected, in words.
    fits : callable
        Says whether a value of JSON is one.
    """

    name: str
    expected: str
    fits: Callable[[Any], bool]


@dataclass(frozen=True)
class Group:
    """An object of the card, or the card itself.

    Attributes
    ----------
    name : str
        Its field in the card; empty for the card itself.
    types : dict of str to str
        Names of its fields, and of each the annotation of its type, a key of :data:`KINDS`.
    needed : tuple of str
        Those without which it is none; what was added later has a default.
    others : tuple of str
        Fields that it may have besides, which are checked otherwise.
    optional : bool
        Whether it may be null.
    closed : bool
        Whether it has no other fields.
    """

    name: str
    types: Mapping[str, str]
    needed: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    optional: bool = False
    closed: bool = True


def parse(text: str, source: str) -> Any:
    """Return what JSON text says.

    Parameters
    ----------
    text : str
        As Python writes it: NaN and the infinities, which JSON does not have, are read as null.
    source : str
        Where it was found, for the error.

    Raises
    ------
    LrpEdgeError
        If it is not JSON, is nested too deeply, or has numbers or texts that are none.
    """
    try:
        # Windows' editors begin a file with it.
        data = json.loads(text.removeprefix("\ufeff"), parse_int=_whole, parse_float=_fraction, parse_constant=_null)
        _check_depth(data)
        # Halves of a surrogate pair are no text that could be written again.
        json.dumps(data, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        why = "nested too deeply" if isinstance(error, RecursionError) else error
        raise LrpEdgeError(f"{source}: the model card is not JSON ({why}); export the model again") from error
    return data


def check(data: Mapping[str, Any], groups: Iterable[Group]) -> None:
    """Compare the fields of a card with their types, the card's own first.

    Raises
    ------
    Misfit
        If one is missing, unknown, or not of its type.
    """
    for group in groups:
        found = data.get(group.name, {}) if group.name else data
        if found is None and group.optional:
            continue
        if not isinstance(found, dict):
            raise Misfit(f"{group.name} is {json_name(found)}; expected an object")
        for name in group.needed:
            if name not in found:
                raise Misfit(f"{quoted(name)} is missing")
        for name, annotation in group.types.items():
            kind = KINDS[annotation]
            if name in found and not kind.fits(found[name]):
                place = f"{group.name}.{name}" if group.name else name
                raise Misfit(f"{place} is {json_name(found[name])}; expected {kind.expected}")
        unknown = sorted(found.keys() - group.types.keys() - set(group.others))
        if group.closed and unknown:
            raise Misfit(f"{group.name or 'the card'} has no field {quoted(unknown[0])}")


def json_name(value: Any) -> str:
    """Return what JSON calls a value's type."""
    return _JSON_NAMES.get(type(value), "number")


def quoted(text: object) -> str:
    """Return text in quotes, with control characters escaped, as C++ writes it; ``repr`` escapes more by version."""
    shown = str(text)
    quote = '"' if "'" in shown and '"' not in shown else "'"
    return quote + "".join(_escaped(sign, quote) for sign in shown) + quote


def quoted_list(texts: Collection[str]) -> str:
    """Return texts in quotes as a list."""
    return f"[{', '.join(map(quoted, texts))}]"


def _escaped(sign: str, quote: str) -> str:
    if sign == quote:
        return f"\\{sign}"
    if sign < " " or sign == "\x7f" or sign == "\\":
        return _ESCAPES.get(sign, f"\\x{ord(sign):02x}")
    return sign


def _whole(digits: str) -> int:
    _fraction(digits)
    return int(digits)


def _fraction(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError("a number is too large")
    return value


def _null(word: str) -> None:
    del word


def _check_depth(data: Any) -> None:
    level = [data]
    for _ in range(DEEPEST + 1):
        inner = (each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list))
        level = [value for values in inner for value in values]
        if not level:
            return
    raise RecursionError


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: Any, least: int = -LARGEST - 1) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= LARGEST


def _is_list(value: Any, fits: Callable[[Any], bool]) -> bool:
    return isinstance(value, list) and all(map(fits, value))


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_shape(value: Any, axes: int) -> bool:
    return _is_list(value, lambda extent: _is_whole(extent, 1)) and len(value) == axes


def _is_profile(value: Any) -> bool:
    ends = ("min", "opt", "max")
    return isinstance(value, dict) and (
        not value or (sorted(value) == sorted(ends) and all(_is_shape(value[end], 3) for end in ends))
    )


#: Types of fields by their annotation.
KINDS = {
    "str": Kind("kText", "text", _is_text),
    "bool": Kind("kTruth", "true or false", lambda value: isinstance(value, bool)),
    "int": Kind("kWhole", "a whole number", _is_whole),
    "float": Kind("kNumber", "a number", _is_number),
    "float | None": Kind("kNumberOrNull", "a number or null", lambda value: value is None or _is_number(value)),
    "tuple[str, ...]": Kind("kTexts", "a list of texts", lambda value: _is_list(value, _is_text)),
    "tuple[float, ...]": Kind("kNumbers", "a list of numbers", lambda value: _is_list(value, _is_number)),
    "dict[str, float]": Kind(
        "kNumbersByName",
        "numbers by name",
        lambda value: isinstance(value, dict) and all(map(_is_number, value.values())),
    ),
    "dict[str, Any]": Kind("kObject", "an object", lambda value: isinstance(value, dict)),
    "Profile": Kind("kProfile", "{} or min, opt and max, each of frames, height and width", _is_profile),
    "tuple[int, int] | None": Kind(
        "kSizeOrNull", "null or height and width", lambda value: value is None or _is_shape(value, 2)
    ),
}
