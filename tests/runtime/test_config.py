"""A configuration file: what it says becomes the line, and what is wrong is said with its line number."""

from __future__ import annotations

from pathlib import Path

import pytest

from lrp_edge.errors import LrpEdgeError
from lrp_edge.runtime.config import read_config
from lrp_edge.runtime.line import Line, build

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
        ('[source]\nuri = "0"\n\nfps = "fast"\n', 4, "source.fps is 'fast'; expected a number, more than 0"),
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
