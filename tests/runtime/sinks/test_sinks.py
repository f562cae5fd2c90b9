"""Which results are taken by sinks that can be restricted to defects."""

from __future__ import annotations

import pytest

from lrp_edge.errors import LrpEdgeError
from lrp_edge.runtime.sinks.base import ChosenSink
from lrp_edge.runtime.sinks.mqtt import Mqtt
from lrp_edge.runtime.sinks.webhook import Webhook
from tests.support.scripted import result, unread


def test_of_defects_only_those_are_taken_that_are_one_or_rejected() -> None:
    results = [result(0), result(1), result(2), unread(3)]
    results[2].reject = True
    assert [ChosenSink("defects").wants(each) for each in results] == [False, True, True, False]
    assert all(ChosenSink("all").wants(each) for each in results)


def test_a_broker_gets_all_and_a_web_server_defects_unless_they_are_told_otherwise() -> None:
    assert Mqtt("mqtt://127.0.0.1").wants(result(0))
    assert not Mqtt("mqtt://127.0.0.1", only="defects").wants(result(0))
    assert not Webhook("http://127.0.0.1").wants(result(0))
    assert Webhook("http://127.0.0.1", only="all").wants(result(0))


def test_another_choice_is_refused() -> None:
    with pytest.raises(LrpEdgeError, match="takes 'some'; expected all or defects"):
        ChosenSink("some")
