"""How verbs are put on the command line: flags from option groups, and what all verbs have in common."""

from __future__ import annotations

import inspect
import io
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any, TextIO, get_args, get_origin

import typer
from typer.core import TyperCommand

from lrp_edge.errors import LrpEdgeError, printable
from lrp_edge.options import MISSING, Option, OptionGroup, Refused, groups_of, make, options_of
from lrp_edge.runtime.config import Line

#: For every verb and group of verbs.
SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"]}

_COMMON = "Common options"
_KEYWORD = inspect.Parameter.KEYWORD_ONLY
_FORMER = "former"
_Place = tuple[str, ...]
_kept: ContextVar[TextIO | None] = ContextVar("kept", default=None)


def command(app: typer.Typer, name: str, function: Callable[..., None], *, level: int = logging.WARNING) -> None:
    """Add a verb.

    Parameters
    ----------
    app : typer.Typer
        Gets it.
    name : str
        Of the verb.
    function : callable
        What it does. Its parameters are arguments as typer wants them, or groups of options, which become flags: an
        :class:`OptionGroup` is made of what was given; a ``dict`` annotated with one gets what was given alone, by
        name, and by table for the groups in it.
    level : int
        What is logged on stderr without ``--quiet`` and ``--verbose``.
    """
    groups = groups_in(function)
    flags = {(key, *place): option for key, group in groups.items() for place, option in _flags(group).items()}
    parameters = _parameters(function, groups, flags)

    def call(**values: Any) -> None:
        quiet, verbose = values.pop("quiet"), values.pop("verbose")
        values.pop("version")
        if quiet and verbose:
            raise typer.BadParameter("give --quiet or --verbose, not both", param_hint="--verbose")
        given = _nested({place: _read(option, _given(place, option, values)) for place, option in flags.items()})
        for key, group in groups.items():
            found = given.get(key, {})
            values[key] = make(group, found) if _is_made(function, key) else found
        with ExitStack() as stack:
            # The handler keeps the stream that it finds: errors are logged in any case.
            stack.enter_context(_logging(logging.ERROR if quiet else logging.DEBUG if verbose else level))
            if quiet:
                stack.enter_context(_silence())
            function(**values)

    call.__name__, call.__doc__ = function.__name__, function.__doc__
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    call.verb = function  # type: ignore[attr-defined]
    app.command(name, cls=_Command, context_settings=SETTINGS)(call)


def groups_in(function: Callable[..., None]) -> dict[str, type[OptionGroup]]:
    """Return the groups of options that a verb takes, by its parameters."""
    found = {}
    for key, parameter in inspect.signature(function, eval_str=True).parameters.items():
        for kind in (parameter.annotation, *get_args(parameter.annotation)[1:]):
            if isinstance(kind, type) and issubclass(kind, OptionGroup):
                found[key] = kind
    return found


def _is_made(function: Callable[..., None], key: str) -> bool:
    """Return whether a parameter wants the group itself, and not only what was given of it."""
    return isinstance(inspect.signature(function, eval_str=True).parameters[key].annotation, type)


def _parameters(
    function: Callable[..., None], groups: Mapping[str, type[OptionGroup]], flags: Mapping[_Place, Option]
) -> list[inspect.Parameter]:
    """Return a verb's parameters as typer takes them, in the order in which a help text shows them."""
    found = [
        parameter.replace(kind=_KEYWORD)
        for key, parameter in inspect.signature(function, eval_str=True).parameters.items()
        if key not in groups
    ]
    for place, option in flags.items():
        found.append(_parameter("__".join(place), option))
        if option.settings.former:
            found.append(_parameter("__".join((*place, _FORMER)), option, former=True))
    # Panels stand in the order of their first options.
    panels = [*(group.panel for group in groups.values()), *(option.panel for option in flags.values())]
    headings = [None, *dict.fromkeys(panels)]
    found.sort(key=lambda parameter: headings.index(_panel(parameter)))
    return found + _common()


def _flags(group: type[OptionGroup]) -> dict[_Place, Option]:
    """Return the options of a group, and of the groups in it, that have a flag, by their place."""
    own = {(option.name,): option for option in options_of(group) if option.flag}
    inner = groups_of(group).items()
    return {(table, *place): option for table, kind in inner for place, option in _flags(kind).items()} | own


def _parameter(name: str, option: Option, former: bool = False) -> inspect.Parameter:
    """Return a parameter of typer's; it is None where nothing was given, and text where something was."""
    names = [option.settings.former if former else option.flag]
    if option.kind is bool:
        names = [f"{names[0]}/--no-{names[0][2:]}"]
    if option.settings.short and not former:
        names.insert(0, option.settings.short)
    choices = [*option.words, *map(str, option.choices)]
    details: dict[str, Any] = {"help": option.help, "rich_help_panel": option.panel, "show_default": False}
    kind: Any = bool if option.kind is bool else Path if option.kind is Path else str
    if option.kind is not bool:
        details["metavar"] = option.metavar
    if choices:
        details["autocompletion"] = lambda: choices
    kind = list[str] if option.several else kind
    default: Any = inspect.Parameter.empty
    if option.default is not MISSING:
        kind, default = kind | None, None
    annotation = Annotated[kind, typer.Option(*names, hidden=former, **details)]
    return inspect.Parameter(name, _KEYWORD, default=default, annotation=annotation)


def _panel(parameter: inspect.Parameter) -> str | None:
    """Return the heading of a parameter of typer's."""
    details = get_args(parameter.annotation)[1:]
    return next((one.rich_help_panel for one in details if hasattr(one, "rich_help_panel")), None)


def _given(place: _Place, option: Option, values: dict[str, Any]) -> Any:
    """Take out what was given of an option, by this name or a former one."""
    given = [values.pop("__".join(place))]
    if option.settings.former:
        given.append(values.pop("__".join((*place, _FORMER))))
    return next((one for one in given if one is not None and one != []), None)


def _read(option: Option, given: Any) -> Any:
    if given is None:
        return None
    try:
        return option.accept(option.read(given) if isinstance(given, (str, list)) else given)
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
MODEL = typer.Argument(help=next(one for one in options_of(Line) if one.name == "model").help)
Data = Annotated[Path, typer.Argument(help="A folder for each class, magnetic tiles, or a table (CSV).")]
Checkpoint = Annotated[Path, typer.Argument(help="A classifier that lrp-edge train left.")]


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


class _Formatter(logging.Formatter):
    """Lets nobody who names a file write lines of the log."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        return printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802
        return "\n".join(f"  {printable(line)}" for line in super().formatException(ei).splitlines())


@contextmanager
def _logging(level: int) -> Iterator[None]:
    """Log what happens on stderr while a verb is at work."""
    log, handler = logging.getLogger("lrp_edge"), logging.StreamHandler()
    handler.setFormatter(_Formatter("%(asctime)s %(levelname)s %(message)s"))
    before = log.level
    log.addHandler(handler)
    log.setLevel(level)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before)
