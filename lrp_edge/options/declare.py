"""How options are declared: as fields of a dataclass, each with its help text, range and choices."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING
from types import UnionType
from typing import Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

from lrp_edge.errors import LrpEdgeError, did_you_mean
from lrp_edge.options.values import Option, Settings, printable

_KEY = "lrp_edge.option"
#: Pixels of a frame of 16384 x 16384, more than any sensor has.
MOST_PIXELS = 2**28


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
    form: Callable[[Any], Any] | None = None,
    expected: str = "",
    called: str = "",
    usual: str = "",
    flag: str | None = None,
    short: str = "",
    former: str = "",
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
        Its range: at least, at most, more than, less than. For a tuple, and for values by name, that of each entry.
    choices : iterable
        All values that it, or each entry of a tuple, may have, where its type is not a ``Literal`` that lists them.
    check : callable, optional
        Whether a value of the right type is allowed; `expected` then says which values are.
    form : callable, optional
        Brings a value of the right type to the form in which it is kept, e.g. ``str.upper``, before it is checked.
    expected : str
        Description of the expected values in messages, in place of type, range and choices.
    called : str
        How a message begins, in place of ``"NAME is"``.
    usual : str
        What the help text calls the default, where that is found only when it is needed.
    flag : str, optional
        Its name on the command line, by default ``--`` and the field's name; ``""`` for none.
    short : str
        Its short name on the command line, e.g. ``"-o"``.
    former : str
        A flag that it had before: still taken, and not shown.
    metavar : str
        Placeholder of its value in the help text.
    separator : str
        What stands between the entries of a tuple on the command line. The flag of a tuple of any length, and of a
        dict of numbers by name, which are given as ``NAME=NUMBER``, may also be repeated.
    panel : str
        The heading that it stands under in the help text, in place of its group's.
    """
    settings = Settings(
        help, least, most, above, below, tuple(choices), check, form, expected, called, usual, flag, short, former,
        metavar, separator, panel,
    )  # fmt: skip
    return dataclasses.field(default=default, metadata={_KEY: settings})


def frame_size(help: str, **more: Any) -> Any:
    """Declare height and width in pixels, ``tuple[int, int]`` or None by default; more as for :func:`option`."""
    form: dict[str, Any] = {
        "expected": f"a height and width of 1 or more, and no more than {MOST_PIXELS} pixels",
        "check": _can_be_frame,
        "metavar": "HxW",
        "separator": "x",
    }
    return option(None, help, least=1, **form | more)


def _can_be_frame(size: tuple[int, int]) -> bool:
    return size[0] * size[1] <= MOST_PIXELS


_SAME: Any = object()


def like(group: type[Any], name: str, default: Any = _SAME, **changes: Any) -> Any:
    """Declare the option of another group here too: the same text, range and choices.

    Parameters
    ----------
    group : type
        Declares it.
    name : str
        Of its field there.
    default : object
        Another default.
    **changes
        What else is not the same, e.g. ``panel`` or ``usual``; see :func:`option`.
    """
    (declared,) = (each for each in dataclasses.fields(group) if each.name == name)
    settings = dataclasses.replace(declared.metadata[_KEY], **changes)
    flag = f"--{name.replace('_', '-')}" if settings.flag is None else settings.flag
    settings = dataclasses.replace(settings, flag=flag)
    return dataclasses.field(default=declared.default if default is _SAME else default, metadata={_KEY: settings})


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


def options_of(kind: type[Any]) -> tuple[Option, ...]:
    """Return the options that a dataclass declares, in order, without those of the groups in it."""
    # mypy takes a type[...] for something that has no hash, which a cache needs.
    hashable: Any = kind
    return _options_of(hashable)


@functools.cache
def _options_of(kind: Any) -> tuple[Option, ...]:
    hints, found = get_type_hints(kind), []
    # What a group adds to another comes first.
    own_first = sorted(dataclasses.fields(kind), key=lambda declared: declared.name not in kind.__annotations__)
    for declared in own_first:
        if settings := declared.metadata.get(_KEY):
            own, words, optional = _members(hints[declared.name])
            panel = settings.panel or kind.panel
            found.append(Option(declared.name, own, words, optional, declared.default, panel, settings))
    return tuple(found)


def _members(hint: Any) -> tuple[Any, tuple[str, ...], bool]:
    """Return the type of an annotation's values, the words that may stand in their place, and whether None may."""
    members = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    kinds = [member for member in members if member is not type(None)]
    literals = [kind for kind in kinds if get_origin(kind) is Literal and len(kinds) > 1]
    (own,) = (kind for kind in kinds if kind not in literals)
    return own, tuple(word for literal in literals for word in get_args(literal)), type(None) in members


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


def accepted(kind: type[OptionGroup], **values: Any) -> dict[str, Any]:
    """Return some of a group's options, checked and in the types of its fields.

    Raises
    ------
    LrpEdgeError
        If a value cannot be.
    """
    declared = {one.name: one for one in options_of(kind)}
    return {name: declared[name].accept(value) for name, value in values.items()}


def check_name(kind: type[OptionGroup], name: str, prefix: str = "") -> None:
    """Refuse a name that a group does not have, with the nearest one that it has."""
    known = [*(declared.name for declared in options_of(kind)), *groups_of(kind)]
    if name not in known:
        hint = did_you_mean(name, known) or f"expected one of {', '.join(known)}"
        raise LrpEdgeError(f"{prefix}{printable(name)} is not known; {hint}")
