"""The command line: one file a verb, each a thin layer over a public function."""

from __future__ import annotations

import sys
from importlib import import_module
from io import TextIOWrapper
from typing import Annotated

import typer

from lrp_edge.cli.options import SETTINGS, Version
from lrp_edge.errors import LrpEdgeError, printable

VERBS = (
    "train",
    "calibrate",
    "evaluate",
    "sweep",
    "data",
    "export",
    "compile",
    "verify",
    "inspect",
    "run",
    "bench",
    "demo",
)

app = typer.Typer(
    help="One engine that answers with class and pixel mask.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings=SETTINGS,
    rich_markup_mode=None,
)


@app.callback()
def _options(
    version: Version = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """One engine that answers with class and pixel mask."""


for verb in VERBS:
    import_module(f"lrp_edge.cli.{verb}").register(app)


def main() -> None:
    """Run the command line; an error of the user is one line on stderr and exit status 1."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    # A name of a file that is not UTF-8 can be printed on stderr only.
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        app(arguments, prog_name="lrp-edge")
    except LrpEdgeError as error:
        if "--debug" in sys.argv:
            raise
        sys.exit(f"lrp-edge: {printable(str(error))}")
