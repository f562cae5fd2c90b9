"""Options are declared once, and checked alike on the command line, in a file and in Python."""

from __future__ import annotations

import ast
import dataclasses
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import pytest
import tomli_w
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import lrp_edge
from lrp_edge import card
from lrp_edge.backbones import library
from lrp_edge.classifiers import FAMILIES, SMALLEST_SIDE
from lrp_edge.cli import app as cli
from lrp_edge.cli.options import command
from lrp_edge.errors import LrpEdgeError
from lrp_edge.evaluation import METHODS, evaluate, open_predictor
from lrp_edge.evaluation.options import EvaluateOptions, SweepOptions
from lrp_edge.evaluation.sweep import sweep
from lrp_edge.export import to_engine, to_onnx
from lrp_edge.export.inspect import inspect
from lrp_edge.export.options import CompileOptions, ExportOptions
from lrp_edge.export.verify import verify
from lrp_edge.export.verify.options import Limits, VerifyOptions
from lrp_edge.export.verify.parity import Tolerance
from lrp_edge.options import MISSING, Option, OptionGroup, groups_of, make, options_of, read_toml
from lrp_edge.relevance.composites import COMPOSITES
from lrp_edge.relevance.masks import HEADS
from lrp_edge.relevance.smoothing import smoothing_from
from lrp_edge.relevance.targets import target_from
from lrp_edge.runtime.bench import Duration, bench
from lrp_edge.runtime.bench_options import BenchOptions
from lrp_edge.runtime.config import Line
from lrp_edge.runtime.pipeline import Judgement
from lrp_edge.synthetic import write_dataset
from lrp_edge.training.options import LIBRARIES, LITE, PRECISIONS, RECIPES, Options, _is_patch
from tools import reference

VERBS = reference.verbs()
GROUPS = list(
    dict.fromkeys(
        kind for groups in VERBS.values() for group in groups.values() for kind in (group, *groups_of(group).values())
    )
)
PACKAGE = Path(lrp_edge.__file__).parent
FIELDS = [(kind, option) for kind in GROUPS for option in options_of(kind)]
#: Text of a terminal: what a shell can hand over, and no line breaks.
TEXT = st.text(st.characters(codec="ascii", exclude_categories=("Cc",)), max_size=8)
#: Text that can stand among others, or beside a number.
NAMES = st.from_regex(r"[A-Za-z0-9_:.][A-Za-z0-9_:.-]{0,7}", fullmatch=True)
NUMBERS = st.one_of(
    st.integers(-3, 200), st.sampled_from([0, 1, 90, 10**400]), st.floats(-2, 2), st.floats(allow_nan=True)
)
ANYTHING = st.one_of(
    NUMBERS,
    TEXT,
    st.booleans(),
    st.lists(st.integers(-1, 99), max_size=5),
    st.lists(TEXT, max_size=3),
    st.dictionaries(NAMES, NUMBERS, max_size=2),
)


def of_its_kind(option: Option) -> st.SearchStrategy[Any]:
    """Values of an option's type, in and out of its range."""
    if option.words:
        return st.one_of(st.sampled_from(option.words), of_its_kind(dataclasses.replace(option, words=())))
    if get_origin(option.kind) is dict:
        return st.dictionaries(NAMES, st.one_of(st.integers(-9, 9), st.floats()), min_size=1, max_size=3)
    if option.several:
        known = [st.sampled_from(option.choices)] if option.choices else []
        entry = {int: st.integers(-1, 99), float: st.floats(), str: st.one_of(NAMES, *known)}[get_args(option.kind)[0]]
        return st.lists(entry, min_size=1, max_size=4)
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
    return {other: "some" for other in needed(kind) if other != name}


def needed(kind: type[OptionGroup]) -> list[str]:
    return [option.name for option in options_of(kind) if option.default is MISSING]


def in_python(kind: type[OptionGroup], option: Option, value: Any) -> tuple[str, Any]:
    return outcome(lambda: kind(**{option.name: value}, **others(kind, option.name)))


def in_a_file(kind: type[OptionGroup], option: Option, value: Any, folder: Path) -> tuple[str, Any]:
    path = folder / "options.toml"
    path.write_text(tomli_w.dumps({option.name: value}), encoding="utf-8")
    answer, found = outcome(lambda: make(kind, read_toml(path, kind, extra="config") | others(kind, option.name)))
    return answer, found.removeprefix(f"{path}, line 1: ") if answer == "refuses" else found


def as_a_flag(kind: type[OptionGroup], option: Option, value: Any, *, split: bool = False) -> tuple[str, Any]:
    """Say a value on the command line; split gives each entry a flag of its own."""
    found: list[Any] = []

    def probe(given: Annotated[dict[str, Any], kind]) -> None:
        """Keep what is given."""
        found.append(make(kind, others(kind, option.name) | given))

    probe.__annotations__["given"] = Annotated[dict[str, Any], kind]
    app = typer.Typer(pretty_exceptions_enable=False)
    command(app, "probe", probe)
    if split and not isinstance(value, str):
        parts = [{key: each} for key, each in value.items()] if isinstance(value, dict) else [[each] for each in value]
        words = [word for part in parts for word in option.as_words(part)]
    else:
        words = option.as_words(value)
    if option.flag == "--json":
        # It may stand without a name.
        words = ["=".join(words)]
    for other in options_of(kind):
        words += [other.flag, "some"] if other.name in needed(kind) and other != option and other.flag else []
    done = CliRunner().invoke(app, words)
    if isinstance(done.exception, LrpEdgeError):
        # What two options cannot be together is said without the flag of one.
        flag, _, message = str(done.exception).partition(": ")
        return "refuses", message if flag.startswith(option.flag) else str(done.exception)
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
        text = option.choices and not option.several and not isinstance(own, type(option.choices[0]))
        expected = repr(in_python(kind, option, str(own) if text else own))
        assert repr(as_a_flag(kind, option, own)) == expected
        if option.several:
            assert repr(as_a_flag(kind, option, own, split=True)) == expected


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (Line, {"model": 3}, "model is 3; expected a path"),
        (Line, {"model": "a", "threads": 0}, "threads is 0; expected 1 to 256"),
        (Line, {"model": "a", "show": 1}, "show is 1; expected true or false"),
        (Line, {"model": "a", "thread": 1}, "thread is not known; did you mean threads?"),
        (Line, {"model": "a", "pipeline": {"policy": "latst"}}, "policy is 'latst'; did you mean latest? expected"),
        (Line, {"model": "a", "tiles": {"overlap": 1}}, "overlap is 1; expected 0 to 0.9"),
        (Line, {"model": "a", "source": {"fps": float("nan")}}, "fps is nan; expected a number, 0.01 to 10000"),
        (Options, {"epochs": 2.5}, "epochs is 2.5; expected a whole number, 1 or more"),
        (Options, {"val": 0.5, "test": 0.5}, "test is 0.5 with a val of 0.5"),
        (Options, {"model": "cnn"}, "model is 'cnn'; expected efficientnet_lite0, timm:NAME, torchvision"),
        (Options, {"model": "vgg", "weights": "imagenet"}, "weights is imagenet, which vgg does not have; give a file"),
        (Options, {"model": "unet", "cut": "3"}, "cut is '3', and unet is not cut"),
        (Options, {"cut": "8"}, "cut is '8'; expected a stage of efficientnet_lite0, 1 to 7"),
        (Options, {"guided": 0.2}, "guided is for windows, and patch is 0, whole images"),
        (Options, {"mark_surface": "synthetic"}, "mark_surface is for windows, and patch is 0, whole images"),
        (Options, {"patch": 64, "soil": 0.5}, "soil is for whole images, and patch is 64"),
        (Options, {"dense_negatives": 0.0, "area_prior": 0.1}, "area_prior has the weight of dense_negatives"),
        (Options, {"model": "a:b", "area_prior": 0.1}, "area_prior is for networks with a head of ours, which a:b"),
        (Options, {"model": "unet", "patch": 0, "guided": 0.0}, "patch is 0; expected 32 or more"),
        (ExportOptions, {"size": "dynamc"}, "size is 'dynamc'; expected dynamic, or a height and width of 1 or more"),
        (ExportOptions, {"composite": "epsilonplus"}, "composite is 'epsilonplus'; did you mean EpsilonPlus?"),
        (ExportOptions, {"order": "rbg"}, "order is 'rbg'; did you mean RGB? expected BGR, RGB or GRAY"),
        (ExportOptions, {"mean": []}, "mean is []; expected one or more numbers"),
        (ExportOptions, {"std": [0.2, 0.0]}, "std is 0.2,0; expected one or more numbers of more than 0"),
        (
            ExportOptions,
            {"composite_parameters": {"gamma": "x"}},
            "composite_parameters is {'gamma': 'x'}; expected num",
        ),
        (ExportOptions, {"close": 4}, "close is 4; expected an odd number of pixels, or 0 for none"),
        (CompileOptions, {"batch": [1, 2]}, "batch is 1,2; expected MOST, or LEAST,USUAL,MOST frames"),
        (CompileOptions, {"optimization_level": 6}, "optimization_level is 6; expected 0 to 5"),
        (VerifyOptions, {"backends": ["cpu", "opnvino"]}, "backends are cpu,opnvino; did you mean openvino?"),
        (EvaluateOptions, {"part": "validation"}, "part is 'validation'; expected train, val or test"),
        (SweepOptions, {"composites": "EpsilonPlus"}, "composites are 'EpsilonPlus'; did you mean EpsilonPlus?"),
        (BenchOptions, {"seconds": 1, "iterations": 1}, "give --seconds or --iterations, not both"),
    ],
)
def test_what_is_said(kind: type[OptionGroup], values: dict[str, Any], message: str) -> None:
    with pytest.raises(LrpEdgeError) as refused:
        make(kind, values)
    assert str(refused.value).startswith(message)


@given(
    model=st.sampled_from([LITE, "timm:resnet18", "vgg", "unet", "own:net"]),
    weights=st.sampled_from([None, "none", "a.pth"]),
    given_epochs=st.sampled_from([None, 3]),
)
def test_defaults_go_by_the_start(model: str, weights: str | None, given_epochs: int | None) -> None:
    options = Options(model=model, weights=weights, epochs=given_epochs)  # type: ignore[arg-type]
    pretrained = model in (LITE, "timm:resnet18") and weights != "none"
    recipe = RECIPES["pretrained" if pretrained else "scratch"]
    assert options.weights == (weights or ("imagenet" if pretrained else "none"))
    expected = recipe | ({"epochs": given_epochs} if given_epochs else {})
    assert {name: getattr(options, name) for name in recipe} == expected


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


def test_the_table_of_the_card_s_fields_in_cpp_is_up_to_date() -> None:
    assert reference.HEADER.read_text(encoding="utf-8") == reference.header(), "run make reference"


@pytest.mark.parametrize(
    ("kind", "words", "found"),
    [
        (ExportOptions, "--set gamma=0.1 --set low=-1", {"composite_parameters": {"gamma": 0.1, "low": -1.0}}),
        (ExportOptions, "--set gamma=1 --set gamma=2", {"composite_parameters": {"gamma": 2.0}}),
        (ExportOptions, "--mean 0.5,0.4,0.3", {"mean": (0.5, 0.4, 0.3)}),
        (ExportOptions, "--mean 0.5 --mean 0.4,0.3", {"mean": (0.5, 0.4, 0.3)}),
        (ExportOptions, "--size dynamic --resize 8x9", {"size": "dynamic", "resize": (8, 9)}),
        (ExportOptions, "--order gray --network-order rgb", {"order": "GRAY", "network_order": "RGB"}),
        (ExportOptions, "--false-alarms 0.2", {"false_alarm_rate": 0.2}),
        (ExportOptions, "--false-alarms 0.2 --false-alarm-rate 0.1", {"false_alarm_rate": 0.1}),
        (ExportOptions, "--no-gate", {"gate": False}),
        (CompileOptions, "--batch 8", {"batch": (1, 1, 8)}),
        (CompileOptions, "--hardware-compatible AMPERE-PLUS", {"hardware_compatible": "ampere_plus"}),
        (VerifyOptions, "--backend cpu --backend types", {"backends": ("cpu", "types")}),
        (BenchOptions, "--batch 1,4 --batch 8", {"batches": (1, 4, 8)}),
        (SweepOptions, "--heads card;fixed:fraction=0.2", {"heads": ("card", "fixed:fraction=0.2")}),
    ],
)
def test_several_values_and_former_flags(kind: type[OptionGroup], words: str, found: dict[str, Any]) -> None:
    taken: list[Any] = []

    def probe(options: OptionGroup) -> None:
        """Keep what is given."""
        taken.append(options)

    probe.__annotations__["options"] = kind
    app = typer.Typer(pretty_exceptions_enable=False)
    command(app, "probe", probe)
    done = CliRunner().invoke(app, words.split(), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert taken == [kind(**found)]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: to_onnx("x", "y", false_alarm_rate=2), "false_alarm_rate is 2; expected 0 to 1"),
        (lambda: to_engine("x", batch=(0, 1, 1)), "batch is 0,1,1; expected MOST, or LEAST,USUAL,MOST frames"),
        (lambda: inspect("x", (0, 4)), "size is 0x4; expected a height and width of 1 or more"),
        (lambda: verify(["x"], most=0), "most is 0; expected 1 or more"),
        (lambda: verify(["x"], tolerance={"ious": 1}), "ious is not known; did you mean iou?"),
        (lambda: verify(["x"], tolerance={"iou": -1}), "iou is -1; expected 0 or more"),
        (lambda: evaluate("x", "y", part="validation"), "part is 'validation'; expected train, val or test"),
        (lambda: open_predictor("x", "saliency"), "method is 'saliency'; expected lrp, gradcam or inverted-gray"),
        (lambda: sweep("x", None, smoothings=()), "smoothings are (); expected one or more names"),
        (lambda: bench(None, [], (0,)), "batches is 0; expected one or more whole numbers of 1 or more"),
        (lambda: Duration(warm_up=-1), "warm_up is -1; expected 0 or more"),
        (lambda: Judgement(min_area=0), "min_area is 0; expected 1 to 268435456"),
        (lambda: write_dataset("x", 7), "count is 7; expected 8 or more"),
    ],
)
def test_functions_refuse_as_the_command_line_does(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(LrpEdgeError) as refused:
        call()
    assert str(refused.value).startswith(message)


def test_a_former_flag_is_not_shown() -> None:
    former = {verb: option.settings.former for verb, groups in VERBS.items() for kind in groups.values()
              for option in options_of(kind) if option.settings.former}  # fmt: skip
    assert former == {"sweep": "--truth", "demo": "--frames", "export": "--false-alarms"}
    for verb, flag in former.items():
        shown = CliRunner().invoke(cli, [verb, "--help"], env={"COLUMNS": "200", "TERMINAL_WIDTH": "200"}).output
        assert f"{flag} " not in shown


def test_an_option_like_another_says_the_same() -> None:
    texts = {(option.flag, option.settings.help) for _, option in FIELDS if option.flag == "--seed"}
    assert texts == {("--seed", "Random seed.")}


def test_no_two_options_of_a_verb_have_one_flag() -> None:
    for groups in VERBS.values():
        kinds = [kind for group in groups.values() for kind in (group, *groups_of(group).values())]
        flags = [
            flag for kind in kinds for option in options_of(kind) for flag in (option.flag, option.settings.former)
        ]
        given = [flag for flag in flags if flag]
        assert len(given) == len(set(given))


def test_names_that_cannot_be_imported_without_torch_are_the_true_ones() -> None:
    assert set(card.COMPOSITES) == set(COMPOSITES)
    assert set(card.MASK_HEADS) == set(HEADS)
    for name in card.SMOOTHINGS:
        smoothing_from(name.replace("K", "5").replace("SIGMA", "1.5"))
    for name in card.EXPLAINED:
        target_from(name, 2, [1])
    patch = next(option for option in options_of(Options) if option.name == "patch")
    assert patch.expected == f"0 or {SMALLEST_SIDE} and more"
    assert [_is_patch(side) for side in (0, SMALLEST_SIDE - 1, SMALLEST_SIDE)] == [True, False, True]
    assert set(LIBRARIES) == set(library.LIBRARIES)
    assert {LITE, *LIBRARIES} < set(FAMILIES)
    precision = next(option for option in options_of(Options) if option.name == "precision")
    assert set(precision.choices) == {"auto", *PRECISIONS}
    exported = next(option for option in options_of(ExportOptions) if option.name == "precision")
    assert exported.choices == card.PRECISIONS
    method = next(option for option in options_of(EvaluateOptions) if option.name == "method")
    assert set(method.choices) == set(METHODS)
    assert {option.name for option in options_of(Limits)} == {field.name for field in dataclasses.fields(Tolerance)}
