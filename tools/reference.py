"""Write docs/options.md: every option of `run` and `train`, from the classes that declare them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lrp_edge.options import MISSING, Option, OptionGroup, groups_of, options_of
from lrp_edge.runtime.config import Line
from lrp_edge.training.options import Options

PAGE = Path(__file__).parents[1] / "docs" / "options.md"
_HEAD = """# Options

Written by `make reference` from the classes that declare the options: a flag, a key of the TOML file and a keyword
argument are one option, checked in one place. A value that cannot be is refused in the same words in all three; on the
command line after the name of the flag, in a file after its line.

Every verb also takes `-h`/`--help`, `-q`/`--quiet` (prints errors only), `-v`/`--verbose` (logs more) and `--version`.
`lrp-edge --install-completion` lets the shell complete verbs, options and choices.

Some words are options of several verbs, and mean the same in each: `--masks FOLDER` is pixel truth, `--frames FRAMES`
are real frames, `--json FILE` gets all figures (without a name, or with `-`, they are printed in place of tables),
`--split FILE` is a `split.json`, `--count N` is a number of drawn parts.
"""


def page() -> str:
    """Return the page."""
    parts = [_HEAD]
    parts.append("## `lrp-edge run`\n\n`--config FILE` reads them from a file; flags go first.\n")
    parts.append(_section("Top of the file", "", Line))
    parts += [_section(f"`[{name}]`", f"{name}.", kind) for name, kind in groups_of(Line).items()]
    parts.append("## `lrp-edge train`\n\n`--config FILE` reads them from a file, as a run leaves; flags go first.\n")
    parts.append(_section("", "", Options))
    return "\n".join(parts)


def _section(title: str, prefix: str, kind: type[OptionGroup]) -> str:
    lines = [f"### {title}\n"] if title else []
    lines += ["| key | flag | values | default | what |", "|---|---|---|---|---|"]
    lines += ["| " + " | ".join(_cells(option)) + " |" for option in options_of(kind)]
    return "\n".join(lines) + "\n"


def _cells(option: Option) -> Iterator[str]:
    yield f"`{option.name}`"
    flags = f"`{option.flag}`" if option.flag else ""
    yield f"`{option.short}`, {flags}" if option.short else flags
    yield option.expected
    yield option.usual or ("must be given" if option.default is MISSING else "")
    yield option.text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
