"""What is logged and printed of names that somebody else has chosen."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrp_edge.cli.options import _logging
from lrp_edge.errors import printable
from tests.support.command import assert_refused

CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
FORGED = "a\n2025-01-01 00:00:00,000 WARNING all is well\x1b[2K\r\u202e\x9b.png"
names = st.binary(max_size=20).map(os.fsdecode) | st.text(st.characters(), max_size=20)


@given(text=names)
def test_printable_text_is_one_line_and_tells_what_was_there(text: str) -> None:
    shown = printable(text)
    assert not CONTROL.search(shown)
    if not CONTROL.search(text):
        assert shown == text
    elif "\\" not in text:
        assert shown.encode("raw_unicode_escape").decode("unicode_escape", "surrogatepass") == text


@given(name=names)
def test_a_name_writes_no_line_of_the_log(name: str) -> None:
    written = log_of(lambda log: log.warning("%s: skipped", name))
    assert len(written.splitlines()) == 1
    assert not CONTROL.search(written.rstrip("\n"))


def test_an_exception_writes_no_line_of_the_log() -> None:
    def fail(log: logging.Logger) -> None:
        try:
            raise OSError(FORGED)
        except OSError:
            log.exception("it failed")

    first, *trace = log_of(fail).splitlines()
    assert first.endswith("ERROR it failed")
    assert all(line.startswith("  ") and not CONTROL.search(line) for line in trace)
    assert "WARNING all is well" in "".join(trace)


def log_of(call: Callable[[logging.Logger], None]) -> str:
    """Return what a function that gets the log writes to stderr in a verb."""
    with contextlib.redirect_stderr(io.StringIO()) as written, _logging(logging.INFO):
        call(logging.getLogger("lrp_edge.source"))
    return written.getvalue()


@pytest.mark.parametrize("name", [FORGED, os.fsdecode(b"Pr\xfcfung.png")])
def test_an_error_is_one_line_whatever_the_file_is_called(tmp_path: Path, name: str) -> None:
    words = [sys.executable, "-m", "lrp_edge", "inspect", name]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)
    assert_refused(done, printable(name))
    assert not CONTROL.search(done.stderr.rstrip("\n"))
