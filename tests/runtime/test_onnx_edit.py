"""Edits of ONNX files, as the `onnx` package reads them back."""

import contextlib

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from lrp_edge.errors import LrpEdgeError
from lrp_edge.runtime.onnx_edit import set_metadata, set_scalar
from tests.support.runtime_graphs import brightness_card, brightness_graph

NAME = "decision.threshold"


def model(*initializers, metadata=None):
    """Return a graph with an initializer of each kind, and some more."""
    others = [
        numpy_helper.from_array(np.arange(300, dtype=np.int64), "numbers"),
        numpy_helper.from_array(np.zeros((2, 3), np.float16), "half"),
        helper.make_tensor("listed", TensorProto.FLOAT, [2], [1.5, -2.5]),
    ]
    made = brightness_graph(brightness_card(), 3, None)
    made.graph.initializer.extend([*others[:2], *initializers, others[2]])
    for key, value in (metadata or {}).items():
        made.metadata_props.add(key=key, value=value)
    return made


def scalar(value, name=NAME, kind=np.float32):
    return numpy_helper.from_array(np.array(value, kind), name)


@given(st.floats(width=32, allow_nan=False), st.floats(width=32, allow_nan=False))
def test_one_constant_changes_and_nothing_else(before, after):
    expected = model(scalar(after))
    changed = set_scalar(model(scalar(before)).SerializeToString(), NAME, after)
    assert changed == expected.SerializeToString()
    onnx.checker.check_model(onnx.load_from_string(changed), full_check=True)


@given(st.dictionaries(st.text(), st.text(max_size=300), max_size=4), st.text(), st.text(max_size=20_000))
def test_one_value_of_the_metadata_changes_and_nothing_else(metadata, key, text):
    before = model(metadata=metadata)
    found = onnx.load_from_string(set_metadata(before.SerializeToString(), key, text))
    known = {entry.key: entry.value for entry in before.metadata_props}
    assert {entry.key: entry.value for entry in found.metadata_props} == {**known, key: text}
    assert len(found.metadata_props) == len({*known, key})
    for each in (before, found):
        each.ClearField("metadata_props")
    assert found == before


@given(st.integers(1, 30), st.binary(max_size=40))
def test_fields_that_are_not_known_are_kept(number, value):
    """Those of a later version of ONNX: here of all numbers that ModelProto does not have."""
    stray = bytes([(100 + number << 3 | 2) & 0x7F | 0x80, (100 + number << 3 | 2) >> 7, len(value)]) + value
    data = model(scalar(0.5)).SerializeToString() + stray
    assert stray in set_metadata(set_scalar(data, NAME, 0.25), "key", "text")


@pytest.mark.parametrize(
    ("initializers", "found"),
    [
        ([], 0),
        ([scalar(0.5), scalar(0.5)], 2),
        ([scalar([0.5])], 0),
        ([scalar(0.5, kind=np.float64)], 0),
        ([scalar(1, kind=np.int32)], 0),
        ([scalar(0.5, "other")], 0),
    ],
)
def test_a_file_has_one_such_constant_or_is_refused(initializers, found):
    with pytest.raises(LrpEdgeError, match=f"^the file has {found} initializers 'decision.threshold' of one float32"):
        set_scalar(model(*initializers).SerializeToString(), NAME, 0.5)


@given(st.data())
def test_what_is_cut_short_or_damaged_is_refused_or_read(data):
    """Whatever the bytes: an error of ours, or an edit; no other exception, and no endless loop."""
    whole = model(scalar(0.5)).SerializeToString()
    broken = bytearray(whole[: data.draw(st.integers(0, len(whole)))])
    for place in data.draw(st.lists(st.integers(0, max(0, len(broken) - 1)), max_size=5)) if broken else ():
        broken[place] = data.draw(st.integers(0, 255))
    with contextlib.suppress(LrpEdgeError):
        assert len(set_metadata(set_scalar(bytes(broken), NAME, 0.25), "key", "text")) >= len(broken)
