"""Write what is made of declarations: docs/options.md, and the C++ library's table of the model card's fields."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import typer

from lrp_edge.card import CHANNEL_ORDERS, EXPLAINED, PRECISIONS, SCHEMA
from lrp_edge.card.model import GROUPS
from lrp_edge.card.schema import DEEPEST, KINDS, LARGEST, Group
from lrp_edge.cli import app
from lrp_edge.cli.options import groups_in
from lrp_edge.options import MISSING, Option, OptionGroup, groups_of, options_of
from lrp_edge.runtime.config import Line
from lrp_edge.training.options import Options

_ROOT = Path(__file__).parents[1]
PAGE = _ROOT / "docs" / "options.md"
HEADER = _ROOT / "cpp_demo" / "src" / "card_schema.hpp"
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
_HEADER_HEAD = """/// @file
/// The fields of a model card. Written by `make reference` from lrp_edge/card, which says what it means.
#ifndef LRP_EDGE_SRC_CARD_SCHEMA_HPP
#define LRP_EDGE_SRC_CARD_SCHEMA_HPP

#include <array>
#include <cstddef>
#include <cstdint>

namespace lrp_edge {
"""
_HEADER_TYPES = """struct FieldRule {
  const char* name;
  Kind kind;
};

struct GroupRule {
  const char* name;  ///< Empty for the card itself.
  bool optional;     ///< Whether it may be null.
  bool closed;       ///< Whether it has no other fields.
  const FieldRule* fields;
  std::size_t size;
};
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


def header() -> str:
    """Return the header with the table of the card's fields."""
    kinds = list(KINDS.values())
    lines = [_HEADER_HEAD, "enum class Kind : unsigned char {", *(f"  {kind.name}," for kind in kinds), "};\n"]
    lines += [
        "/// What is expected of each kind, in words.",
        f"constexpr std::array<const char*, {len(kinds)}> kExpected{{",
    ]
    lines += [f'    "{kind.expected}",' for kind in kinds] + ["};\n", _HEADER_TYPES]
    for group in GROUPS:
        types = [f'    FieldRule{{"{name}", Kind::{KINDS[kind].name}}},' for name, kind in group.types.items()]
        lines += [f"constexpr std::array<FieldRule, {len(types)}> {_array(group)}{{", *types, "};\n"]
    texts = {"Needed": GROUPS[0].needed, "Others": GROUPS[0].others, "Orders": tuple(CHANNEL_ORDERS)}
    for name, values in {**texts, "Explained": EXPLAINED, "Precisions": PRECISIONS}.items():
        words = ", ".join(f'"{value}"' for value in values)
        lines.append(f"constexpr std::array<const char*, {len(values)}> k{name}{{{words}}};")
    lines += [f"\nconstexpr int kSchema = {SCHEMA};", f"constexpr int kDeepest = {DEEPEST};"]
    lines += [f"constexpr std::int64_t kLargest = {LARGEST};\n", "/// All groups, the card itself first."]
    lines += [f"constexpr std::array<GroupRule, {len(GROUPS)}> kGroups{{"]
    lines += [
        f'    GroupRule{{"{group.name}", {str(group.optional).lower()}, {str(group.closed).lower()}, '
        f"{_array(group)}.data(), {_array(group)}.size()}},"
        for group in GROUPS
    ]
    return "\n".join([*lines, "};\n", "}  // namespace lrp_edge", "", "#endif", ""])


def _array(group: Group) -> str:
    return f"k{group.name.capitalize() or 'Card'}Fields"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    HEADER.write_text(header(), encoding="utf-8")
