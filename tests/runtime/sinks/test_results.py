"""results.jsonl and events.jsonl: whole lines, whatever happens between them."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lrp_edge.errors import LrpEdgeError
from lrp_edge.runtime.regions import Region
from lrp_edge.runtime.result import Event
from lrp_edge.runtime.sinks.results import Results
from tests.support.disks import disk
from tests.support.scripted import lines, result, until


def write(folder: Path, indices: Iterator[int] | range, existing: str = "refuse") -> Results:
    sink = Results(folder, existing)
    sink.open()
    for index in indices:
        sink.write(result(index))
    sink.close()
    return sink


def test_a_line_has_what_the_documentation_says(tmp_path: Path) -> None:
    write(tmp_path, range(1, 2))
    assert lines(tmp_path) == [
        {
            "schema": 1,
            "frame": 1,
            "source": "camera",
            "time": "2023-11-14T22:13:20.250Z",
            "captured": 12.5,
            "label": 1,
            "name": "odd",
            "defect": True,
            "reject": False,
            "reason": "",
            "scores": [0.996078, 0.003922],
            "mask_fraction": 0.25,
            "regions": [],
            "regions_found": 0,
            "regions_area_px": 0,
            "queue_ms": 0.0,
            "engine_ms": 0.0,
            "latency_ms": 1.5,
        }
    ]


def test_events_have_a_file_of_their_own(tmp_path: Path) -> None:
    sink = Results(tmp_path)
    sink.open()
    sink.event(Event("lost", "source", "no frame for 5 s", 1_700_000_000.0, 7))
    sink.write(result(8))
    sink.close()
    assert lines(tmp_path, "events.jsonl") == [
        {
            "schema": 1,
            "time": "2023-11-14T22:13:20.000Z",
            "kind": "lost",
            "stage": "source",
            "message": "no frame for 5 s",
            "frame": 7,
        }
    ]


def test_results_are_refused_replaced_or_gone_on_with(tmp_path: Path) -> None:
    write(tmp_path, range(3))
    with pytest.raises(LrpEdgeError, match="--append or --overwrite"):
        Results(tmp_path)
    assert write(tmp_path, range(3, 5), "append").first == 3
    assert [line["frame"] for line in lines(tmp_path)] == [0, 1, 2, 3, 4]
    assert write(tmp_path, range(1), "overwrite").first == 0
    assert [line["frame"] for line in lines(tmp_path)] == [0]


def test_appending_cuts_what_a_power_cut_left_of_a_line(tmp_path: Path) -> None:
    write(tmp_path, range(3))
    path = tmp_path / "results.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"schema": 1, "frame": 3, "sour')
    assert write(tmp_path, range(3, 4), "append").first == 3
    assert path.read_bytes().startswith(whole)
    assert [line["frame"] for line in lines(tmp_path)] == [0, 1, 2, 3]


def test_a_file_that_holds_something_else_is_not_gone_on_with(tmp_path: Path) -> None:
    (tmp_path / "results.jsonl").write_text("a shopping list\n")
    with pytest.raises(LrpEdgeError, match="not a result"):
        Results(tmp_path, "append")


def test_appending_reads_no_more_than_the_end(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    with path.open("wb") as file:
        file.truncate(2**33)
        file.seek(0, os.SEEK_END)
        file.write(b'\n{"frame": 41}\n')
    assert Results(tmp_path, "append").first == 42


KILLED = """
import sys
sys.path[:0] = {path!r}
from tests.support.scripted import result
from lrp_edge.runtime.sinks.results import Results
sink = Results({folder!r})
sink.open()
print("ready", flush=True)
for index in range(10**9):
    sink.write(result(index))
"""


def test_a_killed_process_leaves_whole_lines_of_consecutive_frames(tmp_path: Path) -> None:
    code = KILLED.format(path=sys.path, folder=str(tmp_path))
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    try:
        until(lambda: (tmp_path / "results.jsonl").stat().st_size >= 50_000, 60)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    assert (tmp_path / "results.jsonl").read_bytes().endswith(b"\n")
    found = [line["frame"] for line in lines(tmp_path)]
    assert found == list(range(len(found)))
    assert len(found) > 50


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with disk(tmp_path / "disk", "64k") as folder:
        yield folder


def write_until_it_fails(sink: Results) -> int:
    """Return how many results went through."""
    for index in range(10_000):
        try:
            sink.write(result(index))
        except LrpEdgeError:
            return index
    raise AssertionError("the disk does not fill")


def test_a_full_disk_costs_whole_lines_and_goes_on_once_there_is_room(small_disk: Path) -> None:
    (small_disk / "ballast").write_bytes(bytes(40_000))
    sink = Results(small_disk / "out")
    sink.open()
    written = write_until_it_fails(sink)
    with pytest.raises(LrpEdgeError, match="No space left on device; free space"):
        sink.write(result(written + 1))
    (small_disk / "ballast").unlink()
    sink.write(result(written + 2))
    sink.close()
    found = [line["frame"] for line in lines(small_disk / "out")]
    assert found == [*range(written), written + 2]


def test_appending_takes_no_name_of_an_image_that_is_there(tmp_path: Path) -> None:
    write(tmp_path, range(3))
    (tmp_path / "results.jsonl").rename(tmp_path / "results.jsonl.1")
    for part, name in (("masks", "000007_a.png"), ("overlays", "1000012_a.png"), ("masks", "99_a.png")):
        (tmp_path / part).mkdir(exist_ok=True)
        (tmp_path / part / name).touch()
    assert Results(tmp_path, "append").first == 1_000_013
    assert write(tmp_path, range(2_000_000, 2_000_001), "append").first == 1_000_013
    assert Results(tmp_path, "append").first == 2_000_001


def test_what_is_no_number_is_null(tmp_path: Path) -> None:
    sink, odd = Results(tmp_path), result(1)
    assert odd.segmentation is not None
    odd.segmentation.scores[:] = (np.nan, np.inf)
    odd.regions = (Region(0, 0, 1, 1, 1, 1.0, float("-inf")),)
    sink.open()
    sink.write(odd)
    sink.close()
    (line,) = lines(tmp_path)
    assert (line["scores"], line["regions"][0]["relevance"]) == ([None, None], None)
    assert not {"NaN", "Infinity"} & {*re.findall(r"\w+", (tmp_path / "results.jsonl").read_text())}


def filler(frame: int, length: int) -> bytes:
    """A line of a frame, of a length with its newline."""
    line = json.dumps({"frame": frame, "regions": ""})
    return json.dumps({"frame": frame, "regions": "x" * max(0, length - len(line) - 1)}).encode() + b"\n"


#: Lengths of lines, also next to those of the blocks that a file is read in, and longer than 4 MiB.
lengths = st.one_of(
    st.integers(30, 200),
    st.integers(2**16 - 2, 2**16 + 2),
    st.integers(2**17 - 2, 2**17 + 2),
    st.just(2**22 + 5),
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(whole=st.lists(lengths, max_size=3), torn=st.one_of(st.just(0), lengths))
def test_appending_goes_on_after_lines_of_any_length(whole: list[int], torn: int, tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    kept = b"".join(filler(index * 7, length) for index, length in enumerate(whole))
    path.write_bytes(kept + filler(10**6, torn)[: torn // 2])
    sink = write(tmp_path, range(99, 100), "append")
    assert sink.first == (7 * len(whole) - 6 if whole else 0)
    assert path.read_bytes()[: len(kept)] == kept
    assert [line["frame"] for line in lines(tmp_path)] == [*range(0, 7 * len(whole), 7), 99]


def unlinked(path: Path) -> None:
    path.unlink()


def rotated(path: Path) -> None:
    path.rename(path.with_name(f"rotated-{len(list(path.parent.iterdir()))}.jsonl"))


def rotated_and_made(path: Path) -> None:
    rotated(path)
    path.touch()


def replaced(path: Path) -> None:
    path.with_name("other").write_text('{"frame": -1}')
    path.with_name("other").replace(path)


def removed_with_its_folder(path: Path) -> None:
    shutil.rmtree(path.parent)


STEPS = [unlinked, rotated, rotated_and_made, replaced, removed_with_its_folder]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("name", ["results.jsonl", "events.jsonl"])
def test_a_file_that_goes_while_it_is_written_is_made_anew_and_that_is_said(
    step: Callable[[Path], None], name: str, tmp_path: Path
) -> None:
    folder, said = tmp_path / "out", list[tuple[str, str]]()
    sink = Results(folder)
    sink.notice = lambda kind, message: said.append((kind, message))
    sink.open()
    for index in range(3):
        sink.write(result(index))
        sink.event(Event("changed", "source", "other size", 0.0, index))
    step(folder / name)
    for index in range(3, 5):
        sink.write(result(index))
        sink.event(Event("changed", "source", "other size", 0.0, index))
    sink.close()
    last = [line["frame"] for line in lines(folder, name) if line.get("kind") != "reopened"][-2:]
    assert last == [3, 4]
    times = 2 if step is removed_with_its_folder else 1
    assert sink.counts() == {"reopened": times}
    assert [kind for kind, _ in said] == ["reopened"] * times
    assert f"{folder / name} was moved or removed" in "".join(message for _, message in said)
    events = [event for event in lines(folder, "events.jsonl") if event.get("kind") == "reopened"]
    assert sorted(event["message"] for event in events) == sorted(message for _, message in said)
    assert {event["stage"] for event in events} == {"results"}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.one_of(st.none(), st.sampled_from(STEPS)), max_size=12))
def test_no_line_goes_to_a_file_that_is_gone(steps: list[Callable[[Path], None] | None], tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    path = tmp_path / "out" / "results.jsonl"
    sink, expected = Results(path.parent), set[int]()
    sink.open()
    for index, step in enumerate(steps):
        if step is None:
            sink.write(result(index))
            expected.add(index)
        elif path.exists():
            if step in (unlinked, replaced):
                expected -= {line["frame"] for line in lines(path.parent)}
            expected = set() if step is removed_with_its_folder else expected
            step(path)
    sink.close()
    files = list(path.parent.glob("*.jsonl")) if path.parent.exists() else []
    found = [
        line.get("frame") for file in files if file.name != "events.jsonl" for line in lines(file.parent, file.name)
    ]
    assert sorted(frame for frame in found if frame != -1) == sorted(expected)


def test_a_run_without_a_result_leaves_no_new_file(tmp_path: Path) -> None:
    write(tmp_path / "new", range(0))
    assert list(tmp_path.iterdir()) == []
    write(tmp_path / "old", range(3))
    write(tmp_path / "old", range(0), "append")
    assert len(lines(tmp_path / "old")) == 3


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LrpEdgeError, match="cannot write to"):
        Results(tmp_path / "file" / "below").open()
