from __future__ import annotations

from pathlib import Path

import pytest
from typer import Typer
from typer.testing import CliRunner

from lrp_edge.cli import train as verb
from lrp_edge.errors import LrpEdgeError
from tests.support.command import assert_refused, lrp_edge
from tests.support.images import write_folder

SIZES = {
    "--model": "vgg",
    "--width": 0.05,
    "--pools": 3,
    "--epochs": 1,
    "--mark-epochs": 0,
    "--patch": 48,
    "--batch": 4,
}
OPTIONS = [*(str(part) for item in SIZES.items() for part in item), "--no-progress"]


@pytest.fixture
def app() -> Typer:
    app = Typer(pretty_exceptions_enable=False)
    verb.register(app)
    return app


def test_train_writes_the_run_and_says_what_came_out(app: Typer, tmp_path: Path) -> None:
    write_folder(tmp_path / "data", {"fine": 10, "hole": 10})
    run = tmp_path / "run"
    result = CliRunner().invoke(app, [str(tmp_path / "data"), "-o", str(run), "--ok-class", "fine", *OPTIONS])
    assert result.exit_code == 0, result.output
    assert "test (6 images): accuracy " in result.output
    assert "recall fine " in result.output
    assert (
        "warning: a false-alarm rate of 0.02 needs 49 OK images for validation, and 1 allow 0.5 at least"
        in result.output
    )
    assert "; false alarms on OK frames like the 1 it is from: 50.00% at most on average" in result.output
    assert f"next: lrp-edge export {run / 'model.safetensors'}" in result.output
    assert result.stdout.splitlines()[-1].startswith("not usable: class: AUROC ")
    assert {path.name for path in run.iterdir()} == {
        "model.safetensors",
        "model.json",
        "split.json",
        "metrics.json",
        "metrics.csv",
        "config.toml",
        "curve.png",
        "tensorboard",
    }


def test_a_configuration_repeats_a_run_and_flags_come_before_it(app: Typer, tmp_path: Path) -> None:
    data = write_folder(tmp_path / "data", {"ok": 10, "hole": 10})
    first, second = tmp_path / "first", tmp_path / "second"
    assert CliRunner().invoke(app, [str(data), "-o", str(first), *OPTIONS]).exit_code == 0
    config = first / "config.toml"
    again = CliRunner().invoke(app, [str(data), "-o", str(second), "--config", str(config), "--no-progress"])
    assert again.exit_code == 0, again.output
    assert (second / "config.toml").read_text() == config.read_text()
    assert (second / "metrics.csv").read_text() == (first / "metrics.csv").read_text()
    other = [str(data), "-o", str(tmp_path / "third"), "--config", str(config), "--epochs", "2", "--no-progress"]
    assert CliRunner().invoke(app, other).exit_code == 0
    assert len((tmp_path / "third" / "metrics.csv").read_text().splitlines()) == 3
    for line, message in (
        ("\nepocs = 3", "config.toml, line 2: epocs is not known; did you mean epochs?"),
        ("epochs = true", "config.toml, line 1: epochs is true; expected a whole number, 1 or more"),
        ("a = ", "TOML"),
    ):
        config.write_text(line)
        result = CliRunner().invoke(app, [str(data), "-o", str(tmp_path / "bad"), "--config", str(config)])
        assert isinstance(result.exception, LrpEdgeError)
        assert message in str(result.exception)


def test_an_error_of_the_user_is_raised_as_one_and_bad_usage_exits_2(app: Typer, tmp_path: Path) -> None:
    missing = CliRunner().invoke(app, [str(tmp_path / "missing"), "-o", str(tmp_path / "run"), *OPTIONS])
    assert isinstance(missing.exception, LrpEdgeError)
    wrong = CliRunner().invoke(app, [str(tmp_path), "-o", str(tmp_path / "run"), "--epochs", "0"])
    assert str(wrong.exception) == "--epochs: epochs is 0; expected 1 or more"
    assert CliRunner().invoke(app, [str(tmp_path), "-o", str(tmp_path / "run"), "--epocs", "1"]).exit_code == 2
    assert CliRunner().invoke(app, [str(tmp_path)]).exit_code == 2
    assert not (tmp_path / "run").exists()


def test_a_truncated_file_is_one_line_on_stderr_and_exit_status_1(tmp_path: Path) -> None:
    write_folder(tmp_path / "data", {"ok": 3, "hole": 3})
    bad = tmp_path / "data" / "hole" / "001.png"
    bad.write_bytes(bad.read_bytes()[:100])
    assert_refused(lrp_edge("train", tmp_path / "data", "-o", tmp_path / "run", *OPTIONS), str(bad))
