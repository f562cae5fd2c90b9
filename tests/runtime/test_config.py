"""A configuration file: what it says becomes the line, and what is wrong is said with its line number."""

from __future__ import annotations

import math
import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tomli_w
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lrp_edge.errors import LrpEdgeError
from lrp_edge.options import Option, groups_of, options_of
from lrp_edge.runtime.config import read_config
from lrp_edge.runtime.line import Line, build, run
from lrp_edge.runtime.pipeline import Pipeline
from tests.support.programs import free_port
from tests.support.scripted import lines

WHOLE = """
model = "line.onnx"
threads = 2

[source]
uri = "rtsp://camera.local/stream"
size = [480, 640]
roi = [0, 16, 640, 448]
rotate = 90
fps = 25
timeout = 3
credentials = "camera.txt"

[pipeline]
policy = "latest"
batch = 4
batch_wait_ms = 5.5
wait = true

[tiles]
size = [256, 256]
vote = "mean"

[verdict]
reject_if = "any region > 2.5 mm2"
mm_per_px = 0.05

[output]
folder = "results"
images = "defects"
budget_mb = 20_000
existing = "append"

[mqtt]
url = "mqtt://broker.local"
topic = "hall/3"

[webhook]
url = "http://mes.local/defects"
only = "all"

[viewer]
listen = "0.0.0.0:8080"
token_file = "/etc/lrp-edge/token"
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "line.toml"
    path.write_text(text)
    return path


def test_a_file_holds_the_whole_line(tmp_path: Path) -> None:
    line = build(read_config(written(tmp_path, WHOLE)))
    assert isinstance(line, Line)
    assert (line.model, line.threads) == (tmp_path / "line.onnx", 2)
    source = line.source
    assert (source.uri, source.size, source.roi) == ("rtsp://camera.local/stream", (480, 640), (0, 16, 640, 448))
    assert (source.rotate, source.fps, source.timeout, source.credentials) == (90, 25.0, 3.0, tmp_path / "camera.txt")
    assert (line.pipeline.policy, line.pipeline.batch, line.pipeline.batch_wait_ms) == ("latest", 4, 5.5)
    assert line.pipeline.wait is True
    assert (line.tiles.size, line.tiles.vote, line.tiles.overlap) == ((256, 256), "mean", 0.25)
    assert (line.verdict.reject_if, line.verdict.mm_per_px) == ("any region > 2.5 mm2", 0.05)
    assert (line.output.folder, line.output.images, line.output.existing) == (tmp_path / "results", "defects", "append")
    assert line.output.budget_mb == 20_000
    assert (line.mqtt.url, line.mqtt.topic, line.mqtt.outbox) == ("mqtt://broker.local", "hall/3", 1000)
    assert (line.webhook.only, line.viewer.token_file) == ("all", Path("/etc/lrp-edge/token"))


@pytest.mark.parametrize(
    ("text", "number", "words"),
    [
        ('model = "a"\n[source]\nuri = "0"\nrotat = 90\n', 4, "source.rotat is not known; did you mean rotate?"),
        ('model = "a"\n\n[sorce]\nuri = "0"\n', 3, "sorce is not known; did you mean source?"),
        ("batch = 3\n", 1, "batch is not known; expected one of"),
        ('[source]\nuri = "0"\n\nfps = "fast"\n', 4, "source.fps is 'fast'; expected a number, 0.01 to 10000"),
        ("[pipeline]\n# so\n\npolicy = 'newest'\n", 4, "pipeline.policy is 'newest'; expected latest or lossless"),
        ("[source]\nsize = [480]\n", 2, "source.size is [480]"),
        ("[source]\nsize = [480, 0]\n", 2, "size is 480x0; expected a height and width of 1 or more"),
        ("[pipeline]\nbatch = 'two'\n", 2, "pipeline.batch is 'two'"),
        ("[output]\nimages = 'some'\n", 2, "output.images is 'some'; expected all, defects or none"),
        ("[source]\nrotate = 45\n", 2, "rotation is 45; expected 0, 90, 180 or 270"),
        ('source = "0"\n', 1, "source is a table; write [source]"),
        ("[viewer]\nlisten = 8080\n", 2, "viewer.listen is 8080"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text: str, number: int, words: str, tmp_path: Path) -> None:
    path = written(tmp_path, text)
    with pytest.raises(LrpEdgeError) as refused:
        read_config(path)
    assert str(refused.value).startswith(f"{path}, line {number}: ")
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_text_that_is_no_toml(tmp_path: Path) -> None:
    with pytest.raises(LrpEdgeError, match=r"not valid TOML: .*line 2"):
        read_config(written(tmp_path, 'model = "a"\n[source\n'))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(LrpEdgeError, match="cannot be read"):
        read_config(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "no model is given"),
        ({"model": Path("a")}, "no source is given"),
        ({"model": Path("a"), "source": {"uri": "0"}}, "nothing takes the results"),
        ({"model": Path("a"), "source": {"uri": "0"}, "output": {"images": "some"}}, "images is 'some'"),
    ],
)
def test_a_line_without_something_that_it_needs(values: dict, words: str) -> None:
    with pytest.raises(LrpEdgeError, match=words):
        build(values)


#: Every option of a line with its table, "" for those that stand in none.
FIELDS = [("", option) for option in options_of(Line)] + [
    (table, option) for table, group in groups_of(Line).items() for option in options_of(group)
]
#: Any text that TOML can hold.
texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
scalars = st.one_of(
    st.booleans(),
    st.integers(),
    st.sampled_from([0, 1, 2**31, 2**63, -(2**63), 10**400, 10**4000]),
    st.floats(),
    texts,
    st.sampled_from(["", "\0", "a\0b", "a\nb", "a" * 70_000, "a" * 300]),
    st.datetimes(),
    st.dates(),
    st.times(),
)
#: Any value that TOML can hold.
toml_values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=6,
)


def outcome(values: dict[str, Any], folder: Path) -> tuple[Line | None, str]:
    """Write values to a file, and return the line of it and of what it needs besides, or why there is none."""
    path = folder / "line.toml"
    path.write_text(tomli_w.dumps(values), encoding="utf-8")
    try:
        found = {"model": Path("m.onnx")} | read_config(path)
        return build(found | {"source": {"uri": "0"} | found.get("source", {}), "show": True}), ""
    except LrpEdgeError as error:
        return None, str(error)


@pytest.mark.parametrize(("table", "option"), FIELDS, ids=[f"{table}.{option.name}" for table, option in FIELDS])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=toml_values)
@example(value=math.nan)
@example(value=math.inf)
@example(value=-math.inf)
@example(value=[math.nan, 1, 1, 1])
@example(value=[10**400, 10**400])
def test_any_value_makes_a_line_or_an_error_of_one_line(table: str, option: Option, value: Any, tmp_path: Path) -> None:
    values = {option.name: value}
    line, refusal = outcome({table: values} if table else values, tmp_path)
    assert refusal.isprintable()
    assert len(refusal) < 1000 + len(str(tmp_path))
    if line is None:
        return
    found = getattr(getattr(line, table) if table else line, option.name)
    for entry in found if isinstance(found, tuple) else [found]:
        assert not isinstance(entry, float) or math.isfinite(entry)
        assert "\0" not in str(entry)


@given(name=texts, table=st.one_of(st.none(), texts, st.sampled_from([table for table, _ in FIELDS if table])))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_name_is_known_or_refused_in_one_line(name: str, table: str | None, tmp_path: Path) -> None:
    assert outcome({name: 1} if table is None else {table: {name: 1}}, tmp_path)[1].isprintable()


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 5000 + "]" * 5000,
        "a = " + "{b = " * 5000 + "1" + "}" * 5000,
        "a." * 5000 + "a = 1",
        "threads = " + "9" * 5000,
        "threads = 0x" + "f" * 20_000,
        "[pipeline]\nbatch = -0x" + "f" * 20_000,
        "threads = 1e999999",
        "threads = 1979-05-27T07:32:00Z",
        "[[source]]\nuri = '0'",
        "threads = 1\nthreads = 2",
        'model = "\\u0000"',
        'model = "\0"',
        "\ufeffthreads = 1",
    ],
    ids=lambda text: text[:20],
)
def test_what_a_parser_may_stumble_over_is_one_line(text: str, tmp_path: Path) -> None:
    with pytest.raises(LrpEdgeError) as refused:
        read_config(written(tmp_path, text))
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 500 + len(str(tmp_path))


@pytest.mark.parametrize("existing", ["refuse", "append", "overwrite"])
@pytest.mark.parametrize(
    ("table", "name"), [(table, option.name) for table, option in FIELDS if option.kind is Path] + [("source", "uri")]
)
def test_a_path_that_is_too_long_for_the_system_is_one_line(
    table: str, name: str, existing: str, model: Path, tmp_path: Path
) -> None:
    cv2.imwrite(str(tmp_path / "0.png"), np.full((64, 64, 3), 200, np.uint8))
    values: dict[str, Any] = {
        "model": model,
        "source": {"uri": "rtsp://127.0.0.1:9/x" if name == "credentials" else str(tmp_path / "0.png")},
        "output": {"folder": tmp_path / "out", "existing": existing},
        "mqtt": {"url": "mqtts://127.0.0.1:9"} if table == "mqtt" else {},
        "viewer": {"listen": str(free_port())} if table == "viewer" else {},
    }
    long = f"{'a' * 300}.mp4"
    (values[table] if table else values)[name] = long if name == "uri" else tmp_path / long
    with pytest.raises(LrpEdgeError) as refused:
        run(build(values))
    assert str(refused.value).isprintable()


def ends(option: Option) -> list[float]:
    """The least and the greatest number that an option takes; of tuples neither."""
    spec = option.settings
    return [end for end in (spec.least, spec.most) if end is not None] if option.kind in (int, float) else []


@pytest.mark.parametrize(
    ("table", "name", "value"),
    [(table, option.name, end) for table, option in FIELDS for end in ends(option)],
)
def test_a_line_runs_at_both_ends_of_every_range(
    table: str, name: str, value: float, model: Path, tmp_path: Path
) -> None:
    for index in range(2):
        cv2.imwrite(str(tmp_path / f"{index}.png"), np.full((64, 64, 3), 200, np.uint8))
    values: dict[str, Any] = {
        "model": model,
        "threads": 1,
        "source": {"uri": str(tmp_path / "?.png"), "fps": 1000},
        "tiles": {"size": [32, 32]} if table == "tiles" else {},
        "pipeline": {},
        "verdict": {"reject_if": "total area > 1 px"},
        "output": {"folder": tmp_path / "out", "video": tmp_path / "line.avi"},
        "mqtt": {"url": "mqtt://127.0.0.1:9"} if table == "mqtt" else {},
        "webhook": {"url": "http://127.0.0.1:9", "only": "all", "retries": 0} if table == "webhook" else {},
        "viewer": {"listen": str(free_port())} if table == "viewer" else {},
    }
    (values[table] if table else values)[name] = value
    stopped = threading.Event()

    def stop(pipeline: Pipeline) -> None:
        # The slowest source has its second frame after minutes.
        if lines(tmp_path / "out"):
            stopped.set()

    pipeline = run(build(values), stopped=stopped, tick=stop)
    assert pipeline.counters.segmented >= 1
    assert all(line["name"] == "stain" for line in lines(tmp_path / "out"))
