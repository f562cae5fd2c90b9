"""Programs that tests start, stop, freeze, and start again where they were."""

from __future__ import annotations

import signal
import socket
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Sequence

import pytest

from tests.support.scripted import until


def free_port() -> int:
    """Return a port of the loopback interface that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    """Say whether somebody takes connections on a port of the loopback interface."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Program(ABC):
    """A server in a process of its own.

    Where it ends at once, tests are skipped: it lacks something that is not installed. One that has run here before, or
    that is known to lack nothing, must run.
    """

    def __init__(self, command: Sequence[str], *, must_run: bool = False) -> None:
        self._command, self._process, self._must_run = command, None, must_run
        self._log = tempfile.TemporaryFile()  # noqa: SIM115

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._process = subprocess.Popen(self._command, stdout=self._log, stderr=self._log)
        until(self._is_up, 60)
        self._must_run = True

    def _is_up(self) -> bool:
        if self._process.poll() is not None:
            self._log.seek(0)
            report = pytest.fail if self._must_run else pytest.skip
            report(f"{self._command[0]} ends at once: {self._log.read().decode()[-300:]}")
        return self._answers()

    @abstractmethod
    def _answers(self) -> bool:
        """Say whether it takes requests."""

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it, even where it is frozen."""
        if self._process is not None:
            self._process.send_signal(number)
            self.thaw()
            self._process.wait()
            self._process = None

    def kill(self) -> None:
        """End it as a power cut does."""
        self.stop(signal.SIGKILL)

    def freeze(self) -> None:
        """Leave its connections open and send nothing any more."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it continue."""
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End it for good."""
        self.kill()
        self._log.close()
