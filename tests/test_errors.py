"""How errors are worded: whatever is mistyped, a plain sentence that says what was expected."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrp_edge import classifiers
from lrp_edge.card import MaskSpec
from lrp_edge.errors import LrpEdgeError, check_arguments, did_you_mean, first_line, nearest
from lrp_edge.relevance import composites, masks, rules

#: What Python calls things, which says nothing to a user.
INSIDE = re.compile(r"__|keyword|argument|positional|NoneType|object|TypeError|KeyError|\.py")
NAMES = st.text("abcdefghijklmnopqrstuvwxyzäß_0123456789- ", min_size=1, max_size=12)

BUILDERS: dict[str, Callable[[str], Any]] = {
    **{
        f"composite {name}": lambda unknown, name=name: composites.composite_from(name, {unknown: 1.0})
        for name in composites.COMPOSITES
    },
    **{f"rule {name}": lambda unknown, name=name: composites.rule_from(name, **{unknown: 1.0}) for name in rules.RULES},
    **{
        f"mask head {name}": lambda unknown, name=name: masks.check(MaskSpec(name, {unknown: 1.0}))
        for name in masks.HEADS
    },
    **{
        f"classifier {name}": lambda unknown, name=name: classifiers.build({"family": name, unknown: 1})
        for name in classifiers.FAMILIES
    },
}


def said(build: Callable[[], Any]) -> str:
    with pytest.raises(LrpEdgeError) as error:
        build()
    return str(error.value)


@given(NAMES.map(lambda name: f"x_{name}"))
@pytest.mark.parametrize("subject", BUILDERS)
def test_an_unknown_parameter_is_named_in_plain_words(subject: str, unknown: str) -> None:
    message = said(lambda: BUILDERS[subject](unknown))
    assert message.startswith(f"{subject} has no parameter {unknown!r}; ")
    assert not INSIDE.search(message.replace(repr(unknown), ""))
    assert "expected one of" in message or message.endswith("it has none: leave it out")


@given(NAMES)
@pytest.mark.parametrize(
    ("kind", "build"),
    [
        ("composite", lambda name: composites.composite_from(name, {})),
        ("rule", composites.rule_from),
        ("mask head", lambda name: masks.check(MaskSpec(name))),
    ],
)
def test_an_unknown_name_is_refused_in_plain_words(kind: str, build: Callable[[str], Any], name: str) -> None:
    message = said(lambda: build(name))
    assert message.startswith(f"no {kind} {name!r}; ")
    assert "expected one of" in message
    assert not INSIDE.search(message.replace(repr(name), ""))


def test_what_a_function_needs_is_named() -> None:
    assert said(lambda: composites.composite_from("EpsilonGammaBox", {"low": 0})) == (
        "composite EpsilonGammaBox needs high; give a value for each"
    )
    assert said(lambda: classifiers.build({"family": "vgg", "chanels": 3})).startswith(
        "classifier vgg has no parameter 'chanels'; did you mean channels? expected one of variant, channels"
    )
    check_arguments("anything", lambda **names: names, {"whatever": 1})


def test_a_network_of_wrong_types_is_refused_in_plain_words() -> None:
    message = said(lambda: classifiers.build({"family": "vgg", "channels": "three", "classes": 2}))
    assert message.startswith("classifier vgg cannot be built with channels 'three', classes 2; expected a number")
    assert not INSIDE.search(message)


@pytest.mark.parametrize(
    ("word", "choices", "found"),
    [("Otzu", ("fixed", "otsu"), "otsu"), ("rtxx", ("rtx",), "rtx"), ("", ("a",), ""), ("qqq", ("otsu",), "")],
)
def test_the_nearest_choice_whatever_its_case(word: str, choices: tuple[str, ...], found: str) -> None:
    assert nearest(word, choices) == found
    asked = f"did you mean {found}?" if found else ""
    assert did_you_mean(word, choices) == asked
    assert did_you_mean(word, choices, "expected one") == f"{asked} expected one".strip()


@pytest.mark.parametrize(("text", "line"), [("a\nb", "a"), (" \n a \n", "a"), ("", "ValueError"), ("\n", "ValueError")])
def test_the_first_line_of_any_error(text: str, line: str) -> None:
    assert first_line(ValueError(text)) == line


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("def make(n): ...", "made:make cannot be called with no argument: made:make needs n; give a value for each"),
        ("make = 3", "made:make is int; expected a function that returns a torch.nn.Module"),
        ("def make(): return len(3)", "made:make fails when it is called"),
    ],
)
def test_a_factory_that_cannot_be_called(body: str, message: str, tmp_path: Any, monkeypatch: Any) -> None:
    (tmp_path / "made.py").write_text(body)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(importlib.sys.modules, "made", raising=False)
    from lrp_edge.factory import load_factory

    assert said(lambda: load_factory("made:make")).startswith(message)
    monkeypatch.delitem(importlib.sys.modules, "made", raising=False)
