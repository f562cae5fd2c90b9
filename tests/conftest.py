"""Settings for all tests."""

import gc
import os
import signal
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from hypothesis import settings

# A shared machine may pause for longer than any deadline; in CI the same examples are drawn each time.
settings.register_profile("lrp-edge", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("lrp-edge")

# Some tests import ONNX Runtime before anything of ours, which says so too.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# A shell has what it starts in the background ignore Ctrl-C, which the programs that the tests interrupt would inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Escape what was captured of names that are not UTF-8, which workers cannot send to the one that reports."""
    report = yield
    report.sections = [(name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections]
    return report


@pytest.fixture(autouse=True, scope="session")
def _engine_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep engines out of the user's own cache; subprocesses inherit it."""
    os.environ["LRP_EDGE_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def session_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for the session, the same for all workers."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(autouse=True, scope="session")
def _exports(session_folder: Path) -> None:
    """Name the folder in which exported files are kept for the session."""
    os.environ["LRP_EDGE_TEST_EXPORTS"] = str(session_folder / "exports")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder in which this test alone keeps engines."""
    monkeypatch.setenv("LRP_EDGE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def write_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that writes a graph of known answers and returns its path."""
    import onnx

    from tests.support.runtime_graphs import brightness_card, brightness_graph

    def write(order: str = "BGR", size: tuple[int, int] | None = None, max_batch: int = 3) -> Path:
        card = brightness_card(order, size, max_batch)
        path = tmp_path_factory.mktemp("model") / "model.onnx"
        onnx.save(brightness_graph(card, card.input.channels, size), path)
        return path

    return write


@pytest.fixture(scope="session")
def model(write_model: Callable[..., Path]) -> Path:
    """A model of colour frames of any size."""
    return write_model()


def pytest_collection_finish() -> None:
    """Spare the garbage collector what the tests' modules imported: searching it is an eighth of each export."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run that left out more than it may: CI installs all components, and counts what it cannot have."""
    most = os.environ.get("LRP_EDGE_MOST_SKIPS")
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if most is None or reporter is None or session.exitstatus != pytest.ExitCode.OK:
        return
    reasons = [report.longrepr[2] for report in reporter.stats.get("skipped", [])]
    missing = sorted({reason for reason in reasons if "not installed" in reason})
    if missing or len(reasons) > int(most):
        reporter.ensure_newline()
        reporter.write_line(f"{len(reasons)} tests were skipped, expected at most {most}: {'; '.join(missing)}")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
