"""Write docs/options.md: every option of every verb, from the classes that declare them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import typer

from lrp_edge.cli import app
from lrp_edge.cli.options import groups_in
from lrp_edge.options import MISSING, Option, OptionGroup, groups_of, options_of
from lrp_edge.runtime.config import Line
from lrp_edge.training.options import Options

PAGE = Path(__file__).parents[1] / "docs" / "options.md"
_HEAD = """# Options

Written by `make reference` from the classes that declare the options: a flag, a key of the TOML file and a keyword
argument are one option, checked in one place. A value that cannot be is refused in the same words in all three; on the
command line after the name of the flag, in a file after its line.

Every verb also takes `-h`/`--help`, `-q`/`--quiet` (prints errors only), `-v`/`--verbose` (logs more) and `--version`.
`lrp-edge --install-completion` lets the shell complete verbs, options and choices. What takes several values takes them
in one word, `--batch 1,4,8`, or one at a time, `--batch 1 --batch 4 --batch 8`.

Some words are options of several verbs, and mean the same in each: `--masks FOLDER` is pixel truth, `--frames FRAMES`
are real frames, `--json FILE` gets all figures (without a name, or with `-`, they are printed in place of tables),
`--split FILE` is a `split.json`, `--count N` is a number of drawn parts, `--false-alarms SHARE` is of the pixels of OK
images, and `--false-alarm-rate SHARE` of these images.
"""
_FILES = {
    Line: "`--config FILE` reads what follows from a file, by these keys; flags go first.",
    Options: "`--config FILE` reads what follows from a file, by these keys, as a run leaves it; flags go first.",
}


def verbs(of: typer.Typer = app, before: str = "") -> dict[str, dict[str, type[OptionGroup]]]:
    """Return the groups of options of every verb, by the verb's words and the group's parameter."""
    found = {}
    for each in of.registered_commands:
        function: Callable[..., None] = each.callback.verb  # type: ignore[union-attr]
        found[f"{before}{each.name}"] = groups_in(function)
    for inner in of.registered_groups:
        assert inner.typer_instance is not None
        found |= verbs(inner.typer_instance, f"{inner.name} ")
    return found


def page() -> str:
    """Return the page."""
    parts = [_HEAD]
    for verb, groups in verbs().items():
        parts.append(f"## `lrp-edge {verb}`\n")
        for kind in groups.values():
            parts += [f"{_FILES[kind]}\n"] if kind in _FILES else []
            parts.append(_section("Top of the file" if groups_of(kind) else "", kind))
            parts += [_section(f"`[{name}]`", table) for name, table in groups_of(kind).items()]
    return "\n".join(parts)


def _section(title: str, kind: type[OptionGroup]) -> str:
    lines = [f"### {title}\n"] if title else []
    lines += ["| key | flag | values | default | what |", "|---|---|---|---|---|"]
    lines += ["| " + " | ".join(_cells(option)) + " |" for option in options_of(kind)]
    return "\n".join(lines) + "\n"


def _cells(option: Option) -> Iterator[str]:
    yield f"`{option.name}`"
    flags = f"`{option.flag}`" if option.flag else ""
    yield f"`{option.settings.short}`, {flags}" if option.settings.short else flags
    yield option.expected
    yield option.usual or ("must be given" if option.default is MISSING else "")
    yield option.settings.help.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
