"""How verbs are put on the command line: flags from option groups, and what all verbs have in common."""

from __future__ import annotations

import inspect
import io
import logging
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TextIO, get_args, get_origin

import typer
from typer.core import TyperCommand

from lrp_edge.errors import LrpEdgeError
from lrp_edge.options import Option, OptionGroup, Refused, groups_of, options_of
from lrp_edge.runtime.config import Line

#: For every verb and group of verbs.
SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"]}

_COMMON = "Common options"
_KEYWORD = inspect.Parameter.KEYWORD_ONLY
_kept: ContextVar[TextIO | None] = ContextVar("kept", default=None)


@dataclass(frozen=True)
class Declared:
    """Marks a verb's parameter as an option that a group declares: help, range and default are from there."""

    group: type[OptionGroup]
    name: str

    @property
    def option(self) -> Option:
        """The option."""
        (found,) = (one for one in options_of(self.group) if one.name == self.name)
        return found


def command(
    app: typer.Typer,
    name: str,
    function: Callable[..., None],
    group: type[OptionGroup] | None = None,
    *,
    level: int = logging.WARNING,
) -> None:
    """Add a verb.

    Parameters
    ----------
    app : typer.Typer
        Gets it.
    name : str
        Of the verb.
    function : callable
        What it does; its parameters are options and arguments as typer wants them, or are marked :class:`Declared`.
    group : type, optional
        Its options become flags. What was given of them is passed as `given`: values by name, and by table for the
        groups in it.
    level : int
        What is logged on stderr without ``--quiet`` and ``--verbose``.
    """
    flags = _flags(group) if group else {}
    shared = _shared(function)
    parameters = _parameters(function, group, flags)

    def call(**values: Any) -> None:
        quiet, verbose = values.pop("quiet"), values.pop("verbose")
        values.pop("version")
        if quiet and verbose:
            raise typer.BadParameter("give --quiet or --verbose, not both", param_hint="--verbose")
        found = {place: _read(option, values.pop("__".join(place))) for place, option in flags.items()}
        for key, option in shared.items():
            value = _read(option, values[key])
            values[key] = option.default if value is None else value
        if group:
            values["given"] = _nested(found)
        with ExitStack() as stack:
            # The handler keeps the stream that it finds: errors are logged in any case.
            stack.enter_context(_logging(logging.ERROR if quiet else logging.DEBUG if verbose else level))
            if quiet:
                stack.enter_context(_silence())
            function(**values)

    call.__name__, call.__doc__ = function.__name__, function.__doc__
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    app.command(name, cls=_Command, context_settings=SETTINGS)(call)


def _shared(function: Callable[..., None]) -> dict[str, Option]:
    """Return the options that a function's parameters are marked with, by parameter."""
    parameters = inspect.signature(function, eval_str=True).parameters
    marks = ((key, mark) for key, parameter in parameters.items() for mark in get_args(parameter.annotation)[1:])
    return {key: mark.option for key, mark in marks if isinstance(mark, Declared)}


def _parameters(
    function: Callable[..., None], group: type[OptionGroup] | None, flags: Mapping[tuple[str, ...], Option]
) -> list[inspect.Parameter]:
    """Return a verb's parameters as typer takes them, in the order in which a help text shows them."""
    shared = _shared(function)
    found = [
        _parameter(key, shared[key]) if key in shared else parameter.replace(kind=_KEYWORD)
        for key, parameter in inspect.signature(function, eval_str=True).parameters.items()
        if key != "given"
    ]
    found += [_parameter("__".join(place), option) for place, option in flags.items()]
    # Panels stand in the order of their first options.
    headings = [None, *([group.panel] if group else []), *dict.fromkeys(option.panel for option in flags.values())]
    found.sort(key=lambda parameter: headings.index(_panel(parameter)) if _panel(parameter) in headings else 0)
    return found + _common()


def _flags(group: type[OptionGroup]) -> dict[tuple[str, ...], Option]:
    """Return the options of a group, and of the groups in it, that have a flag, by their place."""
    own = {(option.name,): option for option in options_of(group) if option.flag}
    inner = groups_of(group).items()
    return {(table, *place): option for table, kind in inner for place, option in _flags(kind).items()} | own


def _parameter(name: str, option: Option) -> inspect.Parameter:
    """Return a parameter of typer's; it is None where nothing was given, and text where something was."""
    names = [f"{option.flag}/--no-{option.flag[2:]}" if option.kind is bool else option.flag]
    if option.short:
        names.insert(0, option.short)
    choices = list(map(str, option.choices))
    details: dict[str, Any] = {"help": option.help, "rich_help_panel": option.panel, "show_default": False}
    kind: Any = bool if option.kind is bool else Path if option.kind is Path else str
    if option.kind is not bool:
        details["metavar"] = option.metavar
    if choices:
        details["autocompletion"] = lambda: choices
    annotation = Annotated[kind | None, typer.Option(*names, **details)]
    return inspect.Parameter(name, _KEYWORD, default=None, annotation=annotation)


def _panel(parameter: inspect.Parameter) -> str | None:
    """Return the heading of a parameter of typer's."""
    details = get_args(parameter.annotation)[1:]
    return next((one.rich_help_panel for one in details if hasattr(one, "rich_help_panel")), None)


def _read(option: Option, given: Any) -> Any:
    if given is None:
        return None
    try:
        return option.accept(option.read(given) if isinstance(given, str) else given)
    except Refused as error:
        form = f" {option.metavar}" if get_origin(option.kind) is tuple else ""
        raise LrpEdgeError(f"{option.flag}{form}: {error}") from error


def _nested(found: Mapping[tuple[str, ...], Any]) -> dict[str, Any]:
    """Return what was given, by table."""
    nested: dict[str, Any] = {}
    for (*tables, name), value in found.items():
        if value is not None:
            table = nested
            for key in tables:
                table = table.setdefault(key, {})
            table[name] = value
    return nested


def merged(values: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Lay what was given on the command line over what a file says."""
    both = dict(values)
    for key, value in given.items():
        both[key] = merged(both.get(key, {}), value) if isinstance(value, Mapping) else value
    return both


def print_version(asked: bool) -> None:
    """Print the version and stop, for ``--version``."""
    if asked:
        import lrp_edge

        typer.echo(f"lrp-edge {lrp_edge.__version__}")
        raise typer.Exit


#: A file that runs, as an argument.
MODEL = typer.Argument(help=Declared(Line, "model").option.help)
# What several verbs take means the same in each of them.
Data = Annotated[Path, typer.Argument(help="A folder for each class, magnetic tiles, or a table (CSV).")]
Masks = Annotated[
    Path | None,
    typer.Option(help="Folder with pixel truth under the images' names.", metavar="FOLDER", rich_help_panel="Data"),
]
SplitFile = Annotated[
    Path | None,
    typer.Option(
        "--split",
        help="split.json of a training run or of lrp-edge data split.",
        metavar="FILE",
        rich_help_panel="Data",
    ),
]
Part = Annotated[Literal["train", "val", "test"], typer.Option(help="Part of the split.", rich_help_panel="Data")]
OkClass = Annotated[
    str | None,
    typer.Option(help="The class without defect (default: known by its name).", metavar="NAME", rich_help_panel="Data"),
]
Weights = Annotated[
    Path | None, typer.Option(help="Weights for module:factory (state dict).", metavar="FILE", rich_help_panel="Model")
]
Checkpoint = Annotated[Path, typer.Argument(help="A classifier that lrp-edge train left.")]
#: Figures that are printed as JSON replace the tables.
Json = Annotated[
    str | None,
    typer.Option("--json", metavar="FILE", help="Write all figures as JSON to a file; with - or no name, print them."),
]


def real_frames(otherwise: str) -> Any:
    """Return the option ``--frames``, which means the same in all verbs; `otherwise` says what is taken without it."""
    return typer.Option(
        help=f"Real frames: file, folder, glob or video (default: {otherwise}).",
        metavar="FRAMES",
        rich_help_panel="Frames",
    )


def either(names: Iterable[str]) -> str:
    """Say "a, b or c"."""
    *most, last = names
    return f"{', '.join(most)} or {last}"


def write_json(target: str | None, text: str) -> None:
    """Write the JSON text that ``--json`` asked for, or print it, behind ``--quiet`` too."""
    if target == "-":
        typer.echo(text.rstrip("\n"), file=kept())
    elif target is not None:
        from lrp_edge.files import write_text

        write_text(Path(target), text)


Version = Annotated[
    bool,
    typer.Option(
        "--version", callback=print_version, is_eager=True, help="Print the version.", rich_help_panel=_COMMON
    ),
]


def _common() -> list[inspect.Parameter]:
    quiet = typer.Option("--quiet", "-q", help="Print errors only.", rich_help_panel=_COMMON)
    verbose = typer.Option("--verbose", "-v", help="Log more.", rich_help_panel=_COMMON)
    annotations = {"quiet": Annotated[bool, quiet], "verbose": Annotated[bool, verbose], "version": Version}
    return [
        inspect.Parameter(name, _KEYWORD, default=False, annotation=annotation)
        for name, annotation in annotations.items()
    ]


class _Command(TyperCommand):
    """A verb: its help text has panels, and its ``--json`` may stand without a file, to print."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        # The list of verbs, and errors, are plain text and need no rich, whose import takes most of the time of them.
        super().__init__(*arguments, **(named | {"rich_markup_mode": "rich"}))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments."""
        args = list(args)
        if "--json" in args and "--json" in (name for option in self.params for name in option.opts):
            place = args.index("--json") + 1
            if place == len(args) or (args[place].startswith("-") and args[place] != "-"):
                args.insert(place, "-")
        return super().parse_args(ctx, args)


class _Nowhere(io.StringIO):
    """Takes all and keeps nothing; it stays open, since loggers hold on to the streams that they find."""

    def write(self, text: str) -> int:
        return len(text)


_NOWHERE = _Nowhere()


@contextmanager
def _silence() -> Iterator[None]:
    token = _kept.set(sys.stdout)
    try:
        with redirect_stdout(_NOWHERE), redirect_stderr(_NOWHERE):
            yield
    finally:
        _kept.reset(token)


def kept() -> TextIO:
    """Return standard output, that behind ``--quiet`` too: for what was asked for by name, and for faults."""
    return _kept.get() or sys.stdout


@contextmanager
def _logging(level: int) -> Iterator[None]:
    """Log what happens on stderr while a verb is at work."""
    log, handler = logging.getLogger("lrp_edge"), logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    before = log.level
    log.addHandler(handler)
    log.setLevel(level)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before)


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
