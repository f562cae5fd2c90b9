"""A folder of results is one run's: what a second one is told, and what is left when the first has gone."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest

from lrp_edge.errors import LrpEdgeError
from lrp_edge.pictures.folders import LOCK
from lrp_edge.runtime.line import build, run
from lrp_edge.runtime.sinks.folder import Lock, own_folder
from lrp_edge.runtime.sinks.images import Images
from lrp_edge.runtime.sinks.results import Results
from tests.support.scripted import lines, result, until

HOLDS = """
import sys
sys.path[:0] = {path!r}
from pathlib import Path
from lrp_edge.runtime.sinks.folder import own_folder
with own_folder(Path({folder!r})):
    print("ready", flush=True)
    sys.stdin.read()
"""


@contextmanager
def another_run(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Hold a folder in another process."""
    code = HOLDS.format(path=sys.path, folder=str(folder))
    process = subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == "ready\n"
        yield process
        process.stdin.close()


def values(model: Path, source: Path, folder: Path, existing: str = "refuse", **output: object) -> dict[str, object]:
    return {
        "model": model,
        "threads": 1,
        "source": {"uri": str(source)},
        "output": {"folder": folder, "existing": existing, **output},
    }


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    folder = tmp_path / "frames"
    folder.mkdir()
    for index in range(3):
        cv2.imwrite(str(folder / f"{index}.png"), np.full((16, 24, 3), 100 * index, np.uint8))
    return folder


@pytest.mark.parametrize("existing", ["refuse", "append", "overwrite"])
@pytest.mark.parametrize("old", [False, True])
def test_a_second_run_is_refused_and_changes_nothing(
    existing: str, old: bool, model: Path, frames: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    if old:
        run(build(values(model, frames, folder)))
    with another_run(folder):
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        with pytest.raises(LrpEdgeError, match=f"another run writes to {folder}; choose another folder, or") as refused:
            run(build(values(model, frames, folder, existing)))
        assert "\n" not in str(refused.value)
        assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_two_runs_at_once_in_one_process_are_two_runs(model: Path, frames: Path, tmp_path: Path) -> None:
    folder, stopped = tmp_path / "out", threading.Event()
    first = build(values(model, frames, folder) | {"source": {"uri": str(frames), "loop": True, "fps": 50}})
    thread = threading.Thread(target=run, args=(first,), kwargs={"stopped": stopped})
    thread.start()
    try:
        until(lambda: len(lines(folder)) > 2)
        with pytest.raises(LrpEdgeError, match="another run writes to"):
            run(build(values(model, frames, folder, "append")))
    finally:
        stopped.set()
        thread.join()
    ids = [line["frame"] for line in lines(folder)]
    assert ids == list(range(len(ids)))
    assert not (folder / LOCK).exists()
    assert run(build(values(model, frames, folder, "append"))).counters.segmented == 3


def test_the_lock_ends_with_its_process(tmp_path: Path) -> None:
    with another_run(tmp_path / "out") as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert (tmp_path / "out" / LOCK).exists()
    with own_folder(tmp_path / "out"):
        pass
    assert list((tmp_path / "out").iterdir()) == []


def test_what_nobody_wrote_to_is_removed(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    for name in ("new/deep/out", "old"):
        with own_folder(tmp_path / name):
            assert (tmp_path / name / LOCK).is_file()
    assert list(tmp_path.iterdir()) == [tmp_path / "old"]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(LrpEdgeError, match=r"cannot write to .*; choose another folder"),
        own_folder(tmp_path / "file/x"),
    ):
        pass


def test_a_folder_that_was_removed_is_taken_again_unless_another_has_it(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with own_folder(folder) as lock:
        results, images = Results(folder, lock=lock), Images(folder, "BGR", lock=lock)
        results.open()
        images.open()
        shutil.rmtree(folder)
        images.write(result(0))
        results.write(result(0))
        assert [line["frame"] for line in lines(folder)] == [0]
        with pytest.raises(LrpEdgeError, match="another run"):
            Lock(folder / LOCK, "another run")
        shutil.rmtree(folder)
        with another_run(folder):
            for sink in (results, images):
                with pytest.raises(LrpEdgeError, match="another run writes to"):
                    sink.write(result(1))
            assert sorted(path.name for path in folder.iterdir()) == [LOCK]
        results.close()
        images.close()


def sources(folder: Path) -> list[str]:
    return [Path(line["source"]).name for line in lines(folder)]


@pytest.mark.parametrize("place", ["results", "deep/results", "."])
@pytest.mark.parametrize("existing", ["overwrite", "append"])
def test_what_a_run_wrote_is_no_part_of_the_next(
    place: str, existing: str, model: Path, frames: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, names = frames / place, ["0.png", "1.png", "2.png"]
    run(build(values(model, frames, folder)))
    assert "left out" not in caplog.text
    for times in range(2, 4):
        run(build(values(model, frames, folder, existing)))
        assert sources(folder) == names * (times if existing == "append" else 1)
    (first, _) = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
    assert first.startswith(f"source {frames}: left out: ")
    assert "6 outputs of lrp-edge" in first


def test_patterns_leave_out_what_runs_wrote_unless_they_name_it(model: Path, frames: Path, tmp_path: Path) -> None:
    folder = frames / "results"
    run(build(values(model, frames, folder)))
    masks = [f"00000{index}_{index}.png" for index in range(3)]
    for pattern, found in (
        ("**/*.png", ["0.png", "1.png", "2.png"]),
        ("results/masks/*.png", masks),
        ("*/overlays/*.png", masks),
        ("results/masks", masks),
    ):
        out = tmp_path / pattern.replace("*", "_").replace("/", "_")
        run(build(values(model, frames / pattern, out)))
        assert sources(out) == found


def test_images_of_others_in_folders_of_such_names_are_parts(model: Path, frames: Path, tmp_path: Path) -> None:
    (frames / "masks").mkdir()
    for name in ("000001_a.png", "a.png"):
        shutil.copy(frames / "0.png", frames / "masks" / name)
    run(build(values(model, frames, tmp_path / "out")))
    assert sources(tmp_path / "out") == ["0.png", "1.png", "2.png", "000001_a.png", "a.png"]
    (frames / "results.jsonl").touch()
    run(build(values(model, frames, tmp_path / "more")))
    assert sources(tmp_path / "more") == ["0.png", "1.png", "2.png", "a.png"]
