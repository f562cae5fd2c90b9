"""A model file that is damaged, or made to harm, is refused in one line when it is opened, or it answers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lrp_edge.errors import LrpEdgeError
from lrp_edge.runtime import Segmenter
from tests.support.damaged import bytes_changed, hostile, whole, with_functions

FRAME = np.full((4, 5, 3), 200, np.uint8)


def run(path: Path, provider: str) -> str:
    """Return the class of a frame, or what is wrong."""
    try:
        with Segmenter(path, provider=provider, threads=1) as segmenter:
            return segmenter(FRAME).name
    except LrpEdgeError as error:
        return "refused" if "\n" not in str(error) else "refused in several lines"


@pytest.mark.parametrize("provider", ["cpu", "openvino"])
def test_changed_bytes_are_refused_or_answer(tmp_path: Path, provider: str) -> None:
    if provider == "openvino":
        pytest.importorskip("openvino", reason="OpenVINO is not installed")
    path, answers = tmp_path / "model.onnx", []
    for data in bytes_changed(whole(), 150, seed=1):
        path.write_bytes(data)
        answers.append(run(path, provider))
    assert "refused" in answers
    assert set(answers) <= {"refused", "ok", "stain"}


@pytest.mark.parametrize("provider", ["cpu", "openvino"])
def test_what_is_made_to_harm_is_refused(tmp_path: Path, provider: str) -> None:
    if provider == "openvino":
        pytest.importorskip("openvino", reason="OpenVINO is not installed")
    (tmp_path / "models").mkdir()
    for name, data in hostile(tmp_path / "models").items():
        path = tmp_path / "models" / "model.onnx"
        path.write_bytes(data)
        assert run(path, provider) == "refused", name


def test_functions_that_call_one_another_do_not_end_the_process(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(with_functions(3000))
    program = "import sys; from lrp_edge.runtime import Segmenter; Segmenter(sys.argv[1], provider='cpu')"
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True)
    assert done.returncode == 1
    assert "3000 functions of its own; expected at most 100" in done.stderr
    path.write_bytes(with_functions(50))
    assert run(path, "cpu") == "stain"


def test_a_card_beside_that_is_not_utf_8_is_said(tmp_path: Path) -> None:
    (tmp_path / "model.engine").write_bytes(b"engine")
    (tmp_path / "model.json").write_bytes(b'{"schema": 1, "classes": ["\xff"]}')
    with pytest.raises(LrpEdgeError, match=r"model\.json: the model card is not UTF-8"):
        Segmenter(tmp_path / "model.engine")
