"""How options that several verbs share are read from text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import typer


def parse_size(text: str) -> tuple[int, int]:
    """Read ``HxW`` in pixels, e.g. ``480x640``."""
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if not match or "0" in match.groups():
        raise typer.BadParameter(f"{text!r}; expected HEIGHTxWIDTH in pixels, e.g. 480x640")
    return int(match[1]), int(match[2])


def parse_pairs(texts: Iterable[str]) -> dict[str, Any]:
    """Read ``NAME=NUMBER``, several times."""
    pairs = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            pairs[name] = float(value)
        except ValueError:
            raise typer.BadParameter(f"{text!r}; expected NAME=NUMBER, e.g. gamma=0.1") from None
    return pairs


def parse_numbers(text: str) -> tuple[float, ...]:
    """Read numbers separated by commas."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"{text!r}; expected numbers separated by commas") from None
