"""results.jsonl and events.jsonl: whole lines, whatever happens between them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lrp_edge.errors import LrpEdgeError
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
