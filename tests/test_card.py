"""The model card survives JSON, and refuses what does not fit."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrp_edge.card import DecisionSpec, InputSpec, MaskSpec, ModelCard, defect_names
from lrp_edge.errors import LrpEdgeError

CARD = ModelCard(("ok", "crack"), ("crack",))

sizes = st.none() | st.tuples(st.integers(1, 9999), st.integers(1, 9999))
inputs = st.builds(
    InputSpec,
    order=st.sampled_from(["BGR", "RGB", "GRAY"]),
    mean=st.tuples(*[st.floats(-1, 1)] * 3),
    size=sizes,
    resize=sizes,
    max_batch=st.integers(1, 64),
)
shares = st.none() | st.floats(0, 1)
decisions = st.none() | st.builds(
    DecisionSpec, st.floats(0, 1, exclude_max=True), st.integers(0, 9999), shares, shares, shares, st.text(), st.text()
)
heads = st.builds(
    MaskSpec,
    st.sampled_from(["otsu", "gmm"]),
    st.dictionaries(st.text(), st.floats(0, 1)),
    area_classes=st.sampled_from([(), ("crack",)]),
)


@given(inputs, heads, decisions, st.sampled_from(["predicted", "contrast", "defect", "crack"]), st.integers(1, 32))
def test_json_round_trip(spec, head, decision, explained, stride):
    card = CARD.replace(
        input=spec,
        mask=head,
        decision=decision,
        explained=explained,
        relevance_stride=stride,
        provenance={"date": "today"},
    )
    assert ModelCard.from_json(card.to_json()) == card


def test_a_card_of_before_the_threshold_has_no_decision():
    old = json.loads(CARD.to_json())
    del old["decision"]
    assert ModelCard.from_json(json.dumps(old)) == CARD
    assert CARD.decision is None


def deciding(defects=("crack",), **changes):
    """Return a card's text with a decision of which some fields are others."""
    card = {**json.loads(CARD.to_json()), "defects": defects}
    return json.dumps({**card, "decision": {"threshold": 0.5, **changes}})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        pytest.param("[" * 100_000, "nested too deeply", id="deep"),
        ("[]", "the model card has no schema"),
        ('{"schema": 99}', "has schema 99"),
        (json.dumps({"schema": 1}), "does not fit its schema \\('classes' is missing\\); export the model again"),
        (json.dumps({**json.loads(CARD.to_json()), "defects": ["dent"]}), "defect 'dent' is not among"),
        (json.dumps({**json.loads(CARD.to_json()), "surprise": 1}), r"\(the card has no field 'surprise'\)"),
        (json.dumps({**json.loads(CARD.to_json()), "input": ["BGR"]}), r"\(input is array; expected an object\)"),
        (json.dumps({**json.loads(CARD.to_json()), "input": []}), r"\(input is array; expected an object\)"),
        (
            json.dumps({**json.loads(CARD.to_json()), "relevance_stride": 0}),
            "relevance_stride is 0; it must be 1 or more",
        ),
        (
            json.dumps({**json.loads(CARD.to_json()), "mask": {"area_classes": ["ok"]}}),
            "area class 'ok' is not among the defects; expected some of crack",
        ),
        (json.dumps({**json.loads(CARD.to_json()), "mask": ["otsu"]}), r"\(mask is array; expected an object\)"),
        (json.dumps({**json.loads(CARD.to_json()), "decision": 0.5}), r"\(decision is number; expected an object\)"),
        (deciding(threshold=1), "decision threshold is 1; expected a number from 0 on, below 1"),
        (deciding(threshold=float("nan")), r"\(decision.threshold is null; expected a number\)"),
        (deciding(threshold=None), r"\(decision.threshold is null; expected a number\)"),
        (deciding(seen="much"), r"\(decision.seen is string; expected a number or null\)"),
        (deciding(("ok", "crack")), "all or none of the classes ok, crack are defects; expected some of each"),
        (deciding(()), "all or none of the classes ok, crack are defects; expected some of each"),
    ],
)
def test_bad_cards(text, message):
    with pytest.raises(LrpEdgeError, match=message):
        ModelCard.from_json(text)


def test_a_card_from_before_outlines_and_stages_means_the_same():
    former = json.loads(CARD.replace(mask=MaskSpec("otsu", {"floor": 0.1, "spread": 90.0}, "guided:9")).to_json())
    del former["relevance_stride"], former["mask"]["area_classes"]
    card = ModelCard.from_json(json.dumps(former))
    assert card.relevance_stride == 1
    assert card.mask == MaskSpec("otsu", {"floor": 0.1, "spread": 90.0}, "guided:9")


WORDS = re.compile(r"__|keyword|argument|NoneType|TypeError|KeyError|'(list|str|dict)'")
values = (
    st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.text()) | st.dictionaries(st.text(), st.text())
)


@given(st.sampled_from(["", "input", "mask", "decision"]), st.data())
def test_whatever_does_not_fit_is_said_in_plain_words(group, draw):
    card = json.loads(CARD.replace(decision=DecisionSpec()).to_json())
    place = card[group] if group else card
    name = draw.draw(st.sampled_from(sorted(place)) | st.text())
    value = place[name] = draw.draw(values)
    try:
        ModelCard.from_json(json.dumps(card))
    except LrpEdgeError as error:
        message = str(error)
    else:
        return
    shown = message.replace(repr(name), "").replace(repr(value), "")
    assert not WORDS.search(shown), message
    assert "\n" not in message


@pytest.mark.parametrize("ok", ["OK", "good", "MT_Free", "No_Defect"])
def test_the_ok_class_is_known_by_its_name(ok):
    assert defect_names(("crack", ok, "dent")) == ("crack", "dent")


def test_the_ok_class_can_be_named():
    assert defect_names(("a", "b"), "b") == ("a",)
    with pytest.raises(LrpEdgeError, match="name it with --ok-class"):
        defect_names(("a", "b"))
    with pytest.raises(LrpEdgeError, match="not among the classes"):
        defect_names(("a", "b"), "c")
