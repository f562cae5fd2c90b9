"""What goes wrong for a user, and how it is said: what was found, what was expected, what to do."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any, TypeVar

T = TypeVar("T")
#: What moves the cursor, ends a line or turns the direction of writing, and halves of surrogate pairs.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class LrpEdgeError(Exception):
    """Base of all errors that a user can fix; the message is one line."""


@contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """Turn a failed import inside the block into an error that names the extra to install.

    Parameters
    ----------
    extra : str
        Name of the optional dependency group, e.g. ``"export"``.

    Raises
    ------
    LrpEdgeError
        If a third-party module that the block imports is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing == "lrp_edge":
            raise
        raise LrpEdgeError(f"this needs {missing}, which is not installed: pip install 'lrp-edge[{extra}]'") from error


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message; the name of its type where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def printable(text: str) -> str:
    """Return text as one line that does nothing to a terminal; a name of a file may hold anything but NUL and ``/``."""
    return _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def as_text(name: str) -> str:
    """Return the name of a file as text that can be encoded; of what is not UTF-8, each byte is escaped."""
    return name.encode("utf-8", "backslashreplace").decode()


def nearest(word: str, choices: Iterable[str]) -> str:
    """Return the choice that a mistyped word is likely to stand for, case ignored; empty where there is none."""
    known = {choice.lower(): choice for choice in choices}
    matches = get_close_matches(word.lower(), known, 1)
    return known[matches[0]] if matches else ""


def did_you_mean(word: str, choices: Iterable[str], then: str = "") -> str:
    """Ask whether the nearest choice was meant.

    Parameters
    ----------
    word : str
        What was given.
    choices : iterable of str
        What can be given.
    then : str
        What the message says after that.

    Returns
    -------
    str
        ``"did you mean CHOICE? THEN"``; `then` alone where no choice is near.
    """
    near = nearest(word, choices)
    return " ".join(part for part in (f"did you mean {near}?" if near else "", then) if part)


def look_up(kind: str, name: str, known: Mapping[str, T]) -> T:
    """Return what a name stands for among those of its kind.

    Raises
    ------
    LrpEdgeError
        If it stands for nothing: names the nearest that is known, and all of them.
    """
    if name not in known:
        hint = did_you_mean(name, known, f"expected one of {', '.join(known)}")
        raise LrpEdgeError(f"no {kind} {name!r}; {hint}")
    return known[name]


def check_names(subject: str, given: Collection[str], known: Collection[str], needed: Iterable[str] = ()) -> None:
    """Refuse parameters that something does not have, and the lack of those that it needs.

    Parameters
    ----------
    subject : str
        What has the parameters, as the message calls it.
    given, known, needed : collection of str
        Names that are given, that can be given, and that must be.

    Raises
    ------
    LrpEdgeError
        If one is not known, with the nearest that is, or one is missing.
    """
    for name in given:
        if name not in known:
            then = f"expected one of {', '.join(known)}" if known else "it has none: leave it out"
            raise LrpEdgeError(f"{subject} has no parameter {name!r}; {did_you_mean(name, known, then)}")
    if missing := [name for name in needed if name not in given]:
        raise LrpEdgeError(f"{subject} needs {' and '.join(missing)}; give a value for each")


def check_arguments(subject: str, function: Callable[..., Any], given: Collection[str]) -> None:
    """Refuse names that are not parameters of a function, and the lack of those without a default.

    Raises
    ------
    LrpEdgeError
        As :func:`check_names`.
    """
    parameters = inspect.signature(function).parameters.values()
    kinds = {each.kind for each in parameters}
    named = [each for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]
    known = [*(each.name for each in named), *(given if inspect.Parameter.VAR_KEYWORD in kinds else ())]
    check_names(subject, given, known, [each.name for each in named if each.default is each.empty])
