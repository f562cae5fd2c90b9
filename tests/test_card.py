"""The model card survives JSON, and refuses what does not fit."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrp_edge.card import InputSpec, MaskSpec, ModelCard, defect_names
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
heads = st.builds(MaskSpec, st.sampled_from(["otsu", "gmm"]), st.dictionaries(st.text(), st.floats(0, 1)))


@given(inputs, heads, st.sampled_from(["predicted", "contrast", "defect", "crack"]))
def test_json_round_trip(spec, head, explained):
    card = CARD.replace(input=spec, mask=head, explained=explained, provenance={"date": "today"})
    assert ModelCard.from_json(card.to_json()) == card


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        pytest.param("[" * 100_000, "nested too deeply", id="deep"),
        ("[]", "has schema 'list'"),
        ('{"schema": 99}', "has schema 99"),
        (json.dumps({"schema": 1}), "does not fit its schema"),
        (json.dumps({**json.loads(CARD.to_json()), "defects": ["dent"]}), "defect 'dent' is not among"),
        (json.dumps({**json.loads(CARD.to_json()), "surprise": 1}), "does not fit its schema"),
        (json.dumps({**json.loads(CARD.to_json()), "input": ["BGR"]}), "does not fit its schema"),
        (json.dumps({**json.loads(CARD.to_json()), "input": []}), "does not fit its schema"),
        (json.dumps({**json.loads(CARD.to_json()), "mask": ["otsu"]}), "does not fit its schema"),
    ],
)
def test_bad_cards(text, message):
    with pytest.raises(LrpEdgeError, match=message):
        ModelCard.from_json(text)


@pytest.mark.parametrize("ok", ["OK", "good", "MT_Free", "No_Defect"])
def test_the_ok_class_is_known_by_its_name(ok):
    assert defect_names(("crack", ok, "dent")) == ("crack", "dent")


def test_the_ok_class_can_be_named():
    assert defect_names(("a", "b"), "b") == ("a",)
    with pytest.raises(LrpEdgeError, match="name it with --ok-class"):
        defect_names(("a", "b"))
    with pytest.raises(LrpEdgeError, match="not among the classes"):
        defect_names(("a", "b"), "c")
