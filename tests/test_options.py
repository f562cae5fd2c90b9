"""Options are declared once, and checked alike on the command line, in a file and in Python."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
import tomli_w
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from lrp_edge import card
from lrp_edge.classifiers import SMALLEST_SIDE
from lrp_edge.cli.options import command
from lrp_edge.errors import LrpEdgeError
from lrp_edge.options import MISSING, Option, OptionGroup, groups_of, make, options_of, read_toml
from lrp_edge.relevance.composites import COMPOSITES
from lrp_edge.relevance.masks import HEADS
from lrp_edge.relevance.smoothing import smoothing_from
from lrp_edge.relevance.targets import target_from
from lrp_edge.runtime.config import Line
from lrp_edge.training.options import PRECISIONS, Options
from tools import reference

GROUPS = [Line, *groups_of(Line).values(), Options]
PACKAGE = Path(card.__file__).parent
FIELDS = [(kind, option) for kind in GROUPS for option in options_of(kind)]
#: Text of a terminal: what a shell can hand over, and no line breaks.
TEXT = st.text(st.characters(codec="ascii", exclude_categories=("Cc",)), max_size=8)
NUMBERS = st.one_of(
    st.integers(-3, 200), st.sampled_from([0, 1, 90, 10**400]), st.floats(-2, 2), st.floats(allow_nan=True)
)
ANYTHING = st.one_of(
    NUMBERS, TEXT, st.booleans(), st.lists(st.integers(-1, 99), max_size=5), st.lists(TEXT, max_size=3)
)


def of_its_kind(option: Option) -> st.SearchStrategy[Any]:
    """Values of an option's type, in and out of its range."""
    if option.choices:
        return st.one_of(st.sampled_from(option.choices), TEXT if isinstance(option.choices[0], str) else NUMBERS)
    if get_origin(option.kind) is tuple:
        return st.lists(st.integers(-1, 99), min_size=len(get_args(option.kind)), max_size=len(get_args(option.kind)))
    return {int: st.integers(), float: st.floats(), bool: st.booleans(), Path: TEXT, str: TEXT}[option.kind]


def outcome(call: Callable[[], Any]) -> tuple[str, Any]:
    try:
        return "takes", call()
    except LrpEdgeError as error:
        return "refuses", str(error)


def others(kind: type[OptionGroup], name: str) -> dict[str, Any]:
    """What must be given besides."""
    needed = [option.name for option in options_of(kind) if option.default is MISSING]
    return {other: "some" for other in needed if other != name}


def in_python(kind: type[OptionGroup], option: Option, value: Any) -> tuple[str, Any]:
    return outcome(lambda: kind(**{option.name: value}, **others(kind, option.name)))


def in_a_file(kind: type[OptionGroup], option: Option, value: Any, folder: Path) -> tuple[str, Any]:
    path = folder / "options.toml"
    path.write_text(tomli_w.dumps({option.name: value}), encoding="utf-8")
    answer, found = outcome(lambda: make(kind, read_toml(path, kind, extra="config") | others(kind, option.name)))
    return answer, found.removeprefix(f"{path}, line 1: ") if answer == "refuses" else found


def as_a_flag(kind: type[OptionGroup], option: Option, value: Any) -> tuple[str, Any]:
    found: list[Any] = []

    def probe(given: dict[str, Any]) -> None:
        """Keep what is given."""
        found.append(make(kind, given | others(kind, option.name)))

    app = typer.Typer(pretty_exceptions_enable=False)
    command(app, "probe", probe, kind)
    if option.kind is bool:
        words = [option.flag if value else f"--no-{option.flag[2:]}"]
    else:
        text = option.show(value) if isinstance(value, list) else str(value)
        words = [option.flag, text]
    done = CliRunner().invoke(app, words)
    if isinstance(done.exception, LrpEdgeError):
        return "refuses", str(done.exception).split(": ", 1)[1]
    assert done.exit_code == 0, done.output
    return "takes", found[0]


@pytest.mark.parametrize(("kind", "option"), FIELDS, ids=[f"{kind.__name__}.{option.name}" for kind, option in FIELDS])
@settings(max_examples=10)
@given(data=st.data())
def test_all_three_ways_take_and_refuse_the_same(
    kind: type[OptionGroup], option: Option, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp()
    value = data.draw(st.one_of(of_its_kind(option), ANYTHING))
    assert repr(in_a_file(kind, option, value, folder)) == repr(in_python(kind, option, value))
    own = data.draw(of_its_kind(option))
    if option.flag:
        # A number for a choice of numbers must be a whole one; as text, another says another thing.
        text = option.choices and not isinstance(own, type(option.choices[0]))
        assert repr(as_a_flag(kind, option, own)) == repr(in_python(kind, option, str(own) if text else own))


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (Line, {"model": 3}, "model is 3; expected a path"),
        (Line, {"model": "a", "threads": 0}, "threads is 0; expected 1 or more"),
        (Line, {"model": "a", "show": 1}, "show is 1; expected true or false"),
        (Line, {"model": "a", "thread": 1}, "thread is not known; did you mean threads?"),
        (Line, {"model": "a", "pipeline": {"policy": "latst"}}, "policy is 'latst'; did you mean latest? expected"),
        (Line, {"model": "a", "tiles": {"overlap": 1}}, "overlap is 1; expected 0 to less than 1"),
        (Line, {"model": "a", "source": {"fps": float("nan")}}, "fps is nan; expected a number, more than 0"),
        (Options, {"epochs": 2.5}, "epochs is 2.5; expected a whole number, 1 or more"),
        (Options, {"val": 0.5, "test": 0.5}, "test is 0.5 beside a val of 0.5"),
        (Options, {"model": "cnn"}, "model is 'cnn'; expected vgg, module:factory or unet"),
    ],
)
def test_what_is_said(kind: type[OptionGroup], values: dict[str, Any], message: str) -> None:
    with pytest.raises(LrpEdgeError) as refused:
        make(kind, values)
    assert str(refused.value).startswith(message)


def test_each_option_has_a_help_text_that_stands_in_one_place() -> None:
    texts = Counter(
        node.value
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value
    )
    for kind, option in FIELDS:
        own = [text for text in texts if option.help.startswith(text) and text.endswith(".")]
        assert len(own) == 1, (kind.__name__, option.name, own)
        assert texts[own[0]] == 1, (kind.__name__, option.name)


def test_the_page_of_options_is_up_to_date() -> None:
    assert reference.PAGE.read_text(encoding="utf-8") == reference.page(), "run make reference"


def test_no_two_options_of_a_verb_have_one_flag() -> None:
    for kinds in (GROUPS[:-1], GROUPS[-1:]):
        flags = [option.flag for kind in kinds for option in options_of(kind) if option.flag]
        assert len(flags) == len(set(flags))


def test_names_that_cannot_be_imported_without_torch_are_the_true_ones() -> None:
    assert set(card.COMPOSITES) == set(COMPOSITES)
    assert set(card.MASK_HEADS) == set(HEADS)
    for name in card.SMOOTHINGS:
        smoothing_from(name.replace("K", "5").replace("SIGMA", "1.5"))
    for name in card.EXPLAINED:
        target_from(name, 2, [1])
    patch = next(option for option in options_of(Options) if option.name == "patch")
    assert patch.range == f"{SMALLEST_SIDE} or more"
    precision = next(option for option in options_of(Options) if option.name == "precision")
    assert set(precision.choices) == {"auto", *PRECISIONS}
