"""What all verbs have in common: help, version, quiet, verbose, completion, and words of one meaning."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import lrp_edge
from lrp_edge.card import COMPOSITES, EXPLAINED, MASK_HEADS, PRECISIONS, SMOOTHINGS
from lrp_edge.cli import VERBS, app
from lrp_edge.errors import LrpEdgeError
from tests.support.command import assert_refused
from tests.support.command import lrp_edge as call
from tests.support.images import write_folder

COMMANDS = [(verb,) for verb in VERBS if verb != "data"]
COMMANDS += [("data", verb) for verb in ("check", "split", "clicks", "draw")]


def help_of(*words: str) -> str:
    done = CliRunner().invoke(app, [*words, "-h"], env={"COLUMNS": "200", "TERMINAL_WIDTH": "200"})
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize("words", [(), ("data",), *COMMANDS], ids=" ".join)
def test_short_and_long_help_are_the_same(words: tuple[str, ...]) -> None:
    done = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "200", "TERMINAL_WIDTH": "200"})
    assert done.output == help_of(*words)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_verb_has_the_common_options(words: tuple[str, ...]) -> None:
    text = help_of(*words)
    for flag in ("--quiet", "-q", "--verbose", "-v", "--version", "--help", "-h"):
        assert re.search(rf"(?<![\w-]){flag}(?![\w-])", text), flag
    # No markup ate a part of a help text.
    assert "[default: ]" not in text
    assert "\\[" not in text


@pytest.mark.parametrize("words", [(), *COMMANDS], ids=" ".join)
def test_the_version(words: tuple[str, ...]) -> None:
    done = CliRunner().invoke(app, [*words, "--version"])
    assert (done.exit_code, done.output) == (0, f"lrp-edge {lrp_edge.__version__}\n")


#: Arguments of each verb of which something is not there.
WRONG = {
    "train": ["none", "-o", "out"],
    "calibrate": ["none.safetensors", "none"],
    "evaluate": ["none.safetensors", "none"],
    "sweep": ["none.safetensors", "none", "-o", "file/below"],
    "export": ["none.safetensors", "-o", "out"],
    "compile": ["none.onnx"],
    "verify": ["none.onnx"],
    "inspect": ["none.onnx"],
    "run": ["none.onnx", "--source", "none", "-o", "out"],
    "bench": ["none.onnx"],
    "demo": ["-o", "file/below"],
    "data check": ["none"],
    "data split": ["none", "-o", "out"],
    "data clicks": ["none", "-o", "out"],
    "data draw": ["file/below"],
}


@pytest.mark.parametrize("flag", ["-q", "--quiet", "-v", "--verbose"])
@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_errors_are_raised_quiet_or_not(
    words: tuple[str, ...], flag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("in the way")
    done = CliRunner().invoke(app, [*words, *WRONG[" ".join(words)], flag])
    assert isinstance(done.exception, LrpEdgeError), done.output
    if flag.strip("-").startswith("q"):
        assert done.output == ""


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_quiet_and_verbose_exclude_each_other(words: tuple[str, ...]) -> None:
    done = CliRunner().invoke(app, [*words, *WRONG[" ".join(words)], "-q", "-v"])
    assert done.exit_code == 2
    assert "not both" in done.output


def test_quiet_prints_nothing_but_errors(model: Path, tmp_path: Path) -> None:
    data = write_folder(tmp_path / "data", {"ok": 4, "hole": 4})
    for words in (
        ("data", "check", data),
        ("data", "split", data, "-o", tmp_path / "split.json"),
        ("inspect", model),
        ("run", model, "--source", data, "-o", tmp_path / "out"),
        ("bench", model, "--iterations", 1, "--warm-up", 0, "--size", "16x16"),
    ):
        done = call(*words, "-q")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), words
    assert (tmp_path / "out" / "results.jsonl").exists()
    assert_refused(call("run", "-q", model, "--source", tmp_path / "none", "-o", tmp_path / "more"), "matches no file")
    assert_refused(call("train", "-q", tmp_path / "none", "-o", tmp_path / "run"), "none")


def test_quiet_leaves_what_was_asked_for(model: Path) -> None:
    assert json.loads(call("inspect", model, "-q", "--json").stdout)["tensors"]


def test_verbose_says_more(model: Path, tmp_path: Path) -> None:
    script = (
        "import logging; from lrp_edge.cli import app; from lrp_edge.cli import inspect as verb; import sys\n"
        "import lrp_edge.export.inspect as room\n"
        "own = room.inspect\n"
        "def look(*words):\n"
        "    for level in ('debug', 'info', 'warning', 'error'):\n"
        "        getattr(logging.getLogger('lrp_edge.test'), level)(f'a {level}')\n"
        "    return own(*words)\n"
        "room.inspect = look\n"
        "app(sys.argv[1:])"
    )
    for option, levels in (
        (None, ["warning", "error"]),
        ("-q", ["error"]),
        ("-v", ["debug", "info", "warning", "error"]),
    ):
        command = [sys.executable, "-c", script, "inspect", str(model), *([option] if option else [])]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert re.findall(r" a (\w+)", done.stderr) == levels


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("lrp-edge ru", {"run"}),
        ("lrp-edge run --pol", {"--policy"}),
        ("lrp-edge run --policy l", {"latest", "lossless"}),
        ("lrp-edge train --pooling g", {"gem"}),
    ],
)
def test_a_shell_completes(words: str, offered: set[str]) -> None:
    count = len(words.split()) - 1
    environment = os.environ | {"_LRP_EDGE_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(count)}
    command = [sys.executable, "-c", "from lrp_edge.cli import main; main()"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert set(done.stdout.split()) == offered, done.stderr


def test_completion_can_be_installed() -> None:
    assert "--install-completion" in help_of()


@pytest.mark.parametrize(
    ("flag", "verbs"),
    [("--masks", 7), ("--frames", 3), ("--json", 5), ("--false-alarms", 2), ("--false-alarm-rate", 4)],
)
def test_a_word_means_one_thing(flag: str, verbs: int) -> None:
    texts = [help_of(*words) for words in COMMANDS]
    rows = [line for text in texts for line in text.splitlines() if re.match(rf"│[* ]*{flag} ", line)]
    meanings = {re.split(r" {2,}", line.strip("│* "))[-1].partition(" (")[0].strip() for line in rows}
    assert (len(rows), len(meanings)) == (verbs, 1), meanings


def test_the_words_of_before_still_work(model: Path) -> None:
    found = CliRunner().invoke(app, ["inspect", str(model), "--json"])
    assert json.loads(found.output)["card"]
    assert "--truth" not in help_of("sweep")
    assert CliRunner().invoke(app, ["sweep", "a", "b", "-o", "c", "--truth", "nowhere"]).exit_code == 1
    assert "count is 0; expected 1 or more" in str(CliRunner().invoke(app, ["demo", "--frames", "0"]).exception)


def test_help_names_all_that_there_is() -> None:
    text = " ".join(help_of("export").replace("│", " ").split())
    for name in (*COMPOSITES, *EXPLAINED, *MASK_HEADS, *PRECISIONS, *SMOOTHINGS):
        assert name in text, name
    assert "guided:K" in text
    assert "evidence" in text
