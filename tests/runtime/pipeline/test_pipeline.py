"""What a pipeline guarantees: every frame accounted for, with any behaviour of source, engine and sinks."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrp_edge.errors import LrpEdgeError
from lrp_edge.runtime.backoff import Backoff
from lrp_edge.runtime.pipeline import Judgement, Pipeline, PipelineOptions
from lrp_edge.runtime.pipeline.delivery import Delivery
from lrp_edge.runtime.pipeline.throttle import Throttle
from lrp_edge.runtime.regions import Rule
from lrp_edge.runtime.result import Event, Result
from lrp_edge.runtime.sinks.base import Sink
from lrp_edge.runtime.sources import Source
from tests.support.scripted import SMALL, Collect, Engine, Script, background, result, until

pytestmark = pytest.mark.usefixtures("leaves_nothing_behind")

QUICK = {"backoff": Backoff(0.001, 0.01)}


def run(source: Source, engine: Engine, *sinks: Sink, **options: object) -> Pipeline:
    pipeline = Pipeline(engine, source, sinks, PipelineOptions(**options), **QUICK)
    pipeline.run()
    return pipeline


def assert_accounted_for(pipeline: Pipeline) -> None:
    c = pipeline.counters
    assert c.captured == c.segmented + c.failed + c.unreadable + c.dropped


@pytest.mark.parametrize("batch", [1, 4])
def test_lossless_keeps_every_frame_in_order_behind_a_slow_engine_and_a_slow_record(batch: int) -> None:
    record = Collect("record", recording=True, depth=2, seconds=0.002)
    pipeline = run(Script(["frame"] * 150), Engine(0.001), record, batch=batch, queue=batch)
    assert record.ids == list(range(150))
    assert [int(result.frame.image.flat[0]) for result in record.results] == list(range(150))
    assert [result.segmentation.label for result in record.results] == [i % 2 for i in range(150)]
    assert pipeline.counters.as_dict() | {"defects": 75, "rejected": 75} == pipeline.counters.as_dict()
    assert pipeline.counters.dropped == 0
    assert record.closed == 1


def test_latest_runs_the_newest_frame_and_counts_what_it_leaves_out() -> None:
    gate, record = threading.Event(), Collect(recording=True)
    engine = Engine(gate=gate)
    source = Script(["frame", engine.begun.wait, *["frame"] * 39, gate.set])
    pipeline = run(source, engine, record, policy="latest")
    # The first went to the engine, which was held until all the others had come: of those the last one is left.
    assert record.ids == [0, 39]
    assert pipeline.counters.dropped == 38
    assert_accounted_for(pipeline)


@settings(max_examples=40, deadline=None)
@given(steps=st.lists(st.sampled_from(["frame", "bad", "bad"]), max_size=60), depth=st.integers(1, 3))
def test_latest_gives_every_unreadable_frame_its_line_and_drops_no_other_for_it(steps: list[str], depth: int) -> None:
    gate, record = threading.Event(), Collect(recording=True, depth=2, seconds=0.0005)
    engine = Engine(gate=gate)
    source = Script(["frame", engine.begun.wait, *steps, gate.set])
    pipeline = run(source, engine, record, policy="latest", skip_bad=True, queue=depth)
    bad = [index for index, step in enumerate(steps, 1) if step == "bad"]
    good = [index for index, step in enumerate(steps, 1) if step == "frame"]
    # The engine was held at the first until all had come: the newest that can wait are left.
    kept = [0, *good[-depth:]]
    found = [result.frame.index for result in record.results if result.error]
    assert found == bad
    assert pipeline.counters.dropped == len(good) - len(kept) + 1
    assert pipeline.counters.unreadable == len(bad)
    assert pipeline.counters.segmented == len(kept)
    assert record.ids == sorted(record.ids)
    assert set(record.ids) <= {*kept, *bad}
    assert_accounted_for(pipeline)


def test_a_burst_of_unreadable_frames_behind_a_slow_record_is_all_in_it() -> None:
    gate = threading.Event()
    record, engine = Collect(recording=True, depth=2, gate=gate), Engine()
    source = Script(["frame", engine.begun.wait, *["bad"] * 500, "frame", gate.set])
    pipeline = run(source, engine, record, policy="latest", skip_bad=True)
    assert record.ids == list(range(502))
    assert pipeline.counters.dropped == 0


def test_a_batch_is_of_one_size_and_waits_for_no_frame_that_does_not_fit() -> None:
    engine, record = Engine(), Collect(recording=True)
    steps = ["frame"] * 3 + ["large"] * 2 + ["bad"] + ["frame"] * 5
    run(Script(steps), engine, record, batch=4, batch_wait_ms=60_000, skip_bad=True)
    assert record.ids == list(range(11))
    assert engine.calls == [[0, 1, 2], [3, 4], [6, 7, 8, 9], [10]]
    assert [result.error for result in record.results if result.segmentation is None] == ["cut short"]


def test_a_batch_waits_no_longer_than_told() -> None:
    engine, record = Engine(), Collect(recording=True)
    # Nothing more comes until the first frame has gone through alone.
    source = Script(["frame", lambda: until(lambda: record.ids == [0]), *["frame"] * 4])
    run(source, engine, record, batch=4, batch_wait_ms=30)
    assert engine.calls[0] == [0]
    assert record.ids == list(range(5))


def test_a_source_that_is_lost_comes_back_with_new_ids() -> None:
    record, stopped = Collect(recording=True), threading.Event()
    steps = ["frame", "frame", "lost", "lost", "frame", "lost", "large", "bad"]
    source = Script(steps, live=True)
    pipeline = Pipeline(Engine(), source, [record], PipelineOptions(policy="lossless"), **QUICK)
    thread, errors = background(pipeline, stopped)
    until(lambda: len(record.results) == 5)
    stopped.set()
    thread.join()
    assert not errors
    assert record.ids == list(range(5))
    assert (pipeline.counters.reconnects, pipeline.counters.unreadable) == (2, 1)
    assert record.kinds == [
        ("lost", "source"),
        ("lost", "source"),
        ("reconnected", "source"),
        ("lost", "source"),
        ("reconnected", "source"),
        ("changed", "source"),
        ("unreadable", "source"),
    ]
    assert_accounted_for(pipeline)


def test_a_camera_that_was_never_there_is_an_error_unless_it_is_waited_for() -> None:
    with pytest.raises(LrpEdgeError, match="script lost; --wait"):
        run(Script(["lost", "frame"], live=True), Engine(), Collect())
    record, stopped = Collect(), threading.Event()
    pipeline = Pipeline(Engine(), Script(["lost", "frame"], live=True), [record], PipelineOptions(wait=True), **QUICK)
    thread, errors = background(pipeline, stopped)
    until(lambda: record.ids == [0])
    stopped.set()
    thread.join()
    assert not errors


@pytest.mark.parametrize("batch", [1, 3])
def test_a_frame_on_which_the_engine_fails_takes_no_other_with_it(batch: int) -> None:
    record = Collect(recording=True)
    pipeline = run(Script(["frame"] * 7), Engine(fails_on=[4]), record, batch=batch, skip_bad=True, batch_wait_ms=100)
    assert record.ids == list(range(7))
    assert [result.frame.index for result in record.results if result.error] == [4]
    assert (pipeline.counters.failed, pipeline.counters.segmented) == (1, 6)
    assert record.kinds == [("failed", "engine")]
    assert_accounted_for(pipeline)


@pytest.mark.parametrize("step", ["bad", "frame"])
def test_a_bad_frame_of_a_file_ends_the_run_after_those_before_it(step: str) -> None:
    record = Collect(recording=True)
    pipeline = Pipeline(
        Engine(fails_on=[3] if step == "frame" else []),
        Script(["frame"] * 3 + [step] + ["frame"] * 5),
        [record],
        PipelineOptions(batch=2),
    )
    with pytest.raises(LrpEdgeError, match="--skip-bad"):
        pipeline.run()
    assert record.ids == [0, 1, 2]
    assert_accounted_for(pipeline)


@pytest.mark.parametrize("newest", [False, True])
def test_a_sink_that_hangs_holds_up_nobody(newest: bool) -> None:
    gate = threading.Event()
    slow, record = Collect("slow", depth=4, newest=newest, gate=gate), Collect("record", recording=True)
    pipeline = Pipeline(Engine(), Script(["frame"] * 50), [slow, record], PipelineOptions())
    thread, errors = background(pipeline, threading.Event())
    until(lambda: len(record.results) == 50)
    gate.set()
    thread.join()
    assert not errors
    counts = pipeline.counts["slow"]
    assert counts["delivered"] == len(slow.results)
    assert counts["delivered"] + counts["dropped"] == 50
    # One was at work, four waited: the newest, or those that came first.
    assert slow.ids[-4:] == [46, 47, 48, 49] if newest else slow.ids[:4] == [0, 1, 2, 3]
    assert len(slow.ids) <= 5


def test_a_sink_that_never_ends_is_given_up() -> None:
    gate = threading.Event()
    stuck, record = Collect("stuck", depth=4, gate=gate), Collect("record", recording=True)
    pipeline = run(Script(["frame"] * 20), Engine(), stuck, record, drain=0.2)
    assert record.ids == list(range(20))
    gate.set()
    until(lambda: stuck.closed)
    assert pipeline.counts["stuck"] == {"delivered": 0, "dropped": 20, "failed": 0, "waiting": 0}


def test_a_sink_that_fails_is_counted_and_reported_once_until_it_recovers() -> None:
    flaky = Collect("flaky", fails_on=[2, 3, 4, 8], depth=100)
    record = Collect("record", recording=True)
    pipeline = run(Script(["frame"] * 12), Engine(), flaky, record)
    assert pipeline.counts["flaky"] == {"delivered": 8, "dropped": 0, "failed": 4, "waiting": 0}
    assert record.kinds == [("failed", "flaky"), ("recovered", "flaky")] * 2
    assert record.ids == list(range(12))


def test_lossless_ends_where_its_record_fails_and_the_record_has_no_hole() -> None:
    record = Collect("record", recording=True, fails_on=[5])
    pipeline = Pipeline(Engine(), Script(["frame"] * 500), [record], PipelineOptions())
    with pytest.raises(LrpEdgeError, match="no room"):
        pipeline.run()
    assert record.ids == [0, 1, 2, 3, 4]
    assert pipeline.counters.captured < 500
    assert_accounted_for(pipeline)
    counts = pipeline.counts["record"]
    assert counts["delivered"] + counts["failed"] == pipeline.counters.segmented


@settings(max_examples=40, deadline=None)
@given(
    fails_on=st.lists(st.lists(st.integers(0, 30), max_size=2), min_size=1, max_size=3),
    depth=st.integers(1, 4),
    slow=st.sampled_from([0.0, 0.001]),
)
def test_the_final_record_names_no_more_than_all_others_have_written(
    fails_on: list[list[int]], depth: int, slow: float
) -> None:
    others = [
        Collect(f"record {number}", recording=True, fails_on=fails, depth=depth, seconds=slow)
        for number, fails in enumerate(fails_on)
    ]
    written: list[bool] = []

    class Final(Collect):
        def write(self, result: Result) -> None:
            written.append(all(result.frame.index in other.ids for other in others))
            super().write(result)

    final = Final("final", recording=True, final=True)
    # It stands first, and is nevertheless the last to get a result.
    pipeline = Pipeline(Engine(), Script(["frame"] * 25), [final, *others], PipelineOptions())
    first = min((frame for fails in fails_on for frame in fails if frame < 25), default=None)
    if first is None:
        pipeline.run()
    else:
        with pytest.raises(LrpEdgeError, match="no room"):
            pipeline.run()
    assert final.ids == list(range(25 if first is None else first))
    assert all(written)
    assert final.closed == 1


def test_latest_writes_a_record_without_waiting_for_what_it_names() -> None:
    gate = threading.Event()
    images = Collect("images", recording=True, gate=gate)
    final = Collect("final", recording=True, final=True)
    source = Script(["frame", lambda: until(lambda: final.ids == [0]), gate.set])
    run(source, Engine(), images, final, policy="latest")
    assert images.ids == final.ids == [0]


def test_latest_goes_on_where_its_record_fails() -> None:
    record, engine = Collect("record", recording=True, fails_on=[0]), Engine()
    source = Script(["frame", engine.begun.wait, *["frame"] * 29], period=0.001)
    pipeline = run(source, engine, record, policy="latest")
    assert pipeline.counts["record"]["failed"] == 1
    assert pipeline.counts["record"]["delivered"] == pipeline.counters.segmented - 1 > 0


@pytest.mark.parametrize("stage", ["engine", "source", "slow"])
def test_a_stage_that_stands_still_is_reported_and_so_is_its_going_on(stage: str) -> None:
    gate, stopped = threading.Event(), threading.Event()
    record, slow = Collect("record", recording=True), Collect("slow", gate=gate if stage == "slow" else None)
    source = Script(["frame", *([gate.wait] if stage == "source" else []), "frame"], live=True)
    engine = Engine(gate=gate if stage == "engine" else None)
    pipeline = Pipeline(engine, source, [slow, record], PipelineOptions(stall=0.1), **QUICK)
    thread, errors = background(pipeline, stopped)
    until(lambda: stage in pipeline.status()["stalled"])
    gate.set()
    until(lambda: ("recovered", stage) in record.kinds)
    stopped.set()
    thread.join()
    assert not errors
    about = [kind for kind, where in record.kinds if where == stage and kind in ("stalled", "recovered")]
    assert about[:2] == ["stalled", "recovered"]
    assert pipeline.counters.stalls >= 1


def test_what_was_captured_is_finished_when_it_is_stopped() -> None:
    gate, stopped = threading.Event(), threading.Event()
    record = Collect(recording=True)
    source = Script(["frame"] * 1000)
    pipeline = Pipeline(Engine(gate=gate), source, [record], PipelineOptions(queue=5))
    thread, errors = background(pipeline, stopped)
    # One is with the engine, five wait, one waits for room.
    until(lambda: pipeline.counters.captured == 7)
    stopped.set()
    until(source.interrupted.is_set)
    gate.set()
    thread.join()
    assert not errors
    assert record.ids == list(range(7))
    assert_accounted_for(pipeline)


def test_the_verdict_is_the_rules() -> None:
    record = Collect(recording=True)
    rule = Rule.parse("any region > 1.4 mm2")
    pipeline = Pipeline(
        Engine(), Script(["frame", "frame", "large", "large"]), [record], judgement=Judgement(rule, 1, 0.48)
    )
    pipeline.run()
    # Odd frames have one row of mask: 6 and 8 pixels of 0.2304 mm².
    assert [result.reject for result in record.results] == [False, False, False, True]
    assert record.results[3].reason == "any region 1.843 mm² > 1.4 mm²"
    assert (pipeline.counters.defects, pipeline.counters.rejected) == (2, 1)
    line = record.results[3].as_dict()
    assert line["regions"] == [
        {"box": [0, 0, 8, 1], "area_px": 8, "extent_px": 8.0, "relevance": 1.0, "area_mm2": 1.8432, "extent_mm": 3.84}
    ]


def test_a_rule_in_millimetres_needs_a_scale() -> None:
    with pytest.raises(LrpEdgeError, match="--mm-per-px"):
        Judgement(Rule.parse("any region > 1 mm2"))


def test_a_sink_that_cannot_open_stops_the_run_before_its_first_frame() -> None:
    class Refuses(Sink):
        def open(self) -> None:
            raise LrpEdgeError("no display")

    first, source = Collect("first"), Script(["frame"])
    with pytest.raises(LrpEdgeError, match="no display"):
        run(source, Engine(), first, Refuses())
    assert (first.closed, first.results, source.interrupted.is_set()) == (1, [], True)


def test_a_source_in_a_call_has_ended_when_a_sink_cannot_open() -> None:
    reading = threading.Event()

    class Refuses(Sink):
        def open(self) -> None:
            reading.wait()
            raise LrpEdgeError("no display")

    source = Script(["frame", reading.set, lambda: time.sleep(0.3), "frame"])
    pipeline = Pipeline(Engine(), source, [Refuses()])
    with pytest.raises(LrpEdgeError, match="no display"):
        pipeline.run()
    assert not pipeline.capture.is_alive()


def test_a_source_that_was_never_there_opens_no_sink() -> None:
    class Opened(Sink):
        def open(self) -> None:
            raise AssertionError("a sink was opened")

    with pytest.raises(LrpEdgeError, match="script lost"):
        run(Script(["lost"], live=True), Engine(), Opened())


steps = st.lists(st.sampled_from(["frame", "frame", "frame", "large", "bad", "lost"]), max_size=40)


@settings(max_examples=60, deadline=None)
@given(
    steps=steps,
    policy=st.sampled_from(["latest", "lossless"]),
    batch=st.integers(1, 4),
    fails_on=st.lists(st.integers(0, 40), max_size=3),
    depth=st.integers(1, 3),
)
def test_every_frame_has_one_fate(steps: list[str], policy: str, batch: int, fails_on: list[int], depth: int) -> None:
    stopped = threading.Event()
    source = Script(["frame", *steps, stopped.set], live=True)
    record, display = Collect("record", recording=True, depth=depth), Collect("display", newest=True, depth=1)
    engine = Engine(fails_on=fails_on)
    pipeline = Pipeline(engine, source, [display, record], PipelineOptions(policy=policy, batch=batch), **QUICK)
    pipeline.run(stopped)
    c, ids = pipeline.counters, record.ids
    assert c.captured == source.given
    assert_accounted_for(pipeline)
    assert ids == sorted(set(ids))
    for found in record.results:
        if found.segmentation is not None:
            assert int(found.frame.image.flat[0]) == found.frame.index
            assert found.segmentation.scores[1] == np.float32(found.frame.index / 255)
    if policy == "lossless":
        assert ids == list(range(source.given))
        assert c.dropped == 0
    offered = {counts["delivered"] + counts["dropped"] + counts["failed"] for counts in pipeline.counts.values()}
    assert len(offered) == 1
    assert c.segmented + c.failed <= offered.pop() <= c.captured
    assert all(counts["waiting"] == 0 for counts in pipeline.counts.values())


def test_the_log_holds_back_what_it_says_over_and_over(caplog: pytest.LogCaptureFixture) -> None:
    record = Collect(recording=True, depth=1000)
    run(Script(["bad"] * 300), Engine(), record, skip_bad=True)
    said = [entry for entry in caplog.records if "unreadable" in entry.getMessage()]
    assert 10 <= len(said) < 100
    assert set(record.kinds) == {("unreadable", "source")}


def test_events_that_find_no_room_are_counted() -> None:
    gate = threading.Event()
    record = Collect(gate=gate)
    delivery = Delivery(record, False, lambda kind, message, frame: None, pytest.fail)
    delivery.start()
    delivery.offer(result(0))
    for index in range(300):
        delivery.tell(Event("unreadable", "source", "cut short", 0.0, index))
    gate.set()
    delivery.finish()
    delivery.join()
    assert len(record.events) + delivery.events_dropped == 300
    assert [event.frame for event in record.events] == list(range(256))


def test_a_throttle_lets_a_few_through_and_tells_how_many_it_held_back() -> None:
    now = 0.0
    throttle = Throttle(burst=2, seconds=10.0, clock=lambda: now)
    assert [throttle.passes("a") for _ in range(4)] == [0, 0, None, None]
    assert throttle.passes("b") == 0
    now = 9.9
    assert throttle.passes("a") is None
    now = 10.0
    assert [throttle.passes("a") for _ in range(3)] == [3, 0, None]


def test_large_frames_wait_in_fewer_places(monkeypatch: pytest.MonkeyPatch) -> None:
    gate, stopped = threading.Event(), threading.Event()
    monkeypatch.setattr("lrp_edge.runtime.pipeline.queues.LARGEST", 2 * np.prod(SMALL))
    pipeline = Pipeline(Engine(gate=gate), Script(["frame"] * 30), [Collect(recording=True)], PipelineOptions(queue=9))
    thread, errors = background(pipeline, stopped)
    # One is with the engine, two wait, one waits for room.
    until(lambda: pipeline.counters.captured == 4)
    time.sleep(0.05)
    assert pipeline.counters.captured == 4
    gate.set()
    thread.join()
    assert not errors
    assert pipeline.counters.segmented == 30
