"""What a line tells systemd: that it is ready, that it is alive, and that it stops (``sd_notify(3)``)."""

from __future__ import annotations

import logging
import os
import socket
import time
from typing import Any

_PERIOD = 1.0
_log = logging.getLogger("lrp_edge.service")


class ServiceManager:
    """The service manager that started this process; does nothing where there is none.

    With ``WatchdogSec=`` in the unit, systemd restarts the service when its engine stops responding. A camera that is
    gone is not a reason for that: a restart would change nothing.
    """

    def __init__(self) -> None:
        self._address = os.environ.get("NOTIFY_SOCKET")
        self._told = 0.0

    def ready(self) -> None:
        """Say that frames are about to flow."""
        self._send("READY=1")

    def alive(self, status: dict[str, Any]) -> None:
        """Report status once a second; nothing while the engine is stalled."""
        if not self.due or "engine" in status["stalled"]:
            return
        self._told = time.monotonic()
        counters = status["counters"]
        text = f"{status['fps']:.1f} fps, {counters['segmented']} frames, {counters['rejected']} rejected"
        self._send(f"WATCHDOG=1\nSTATUS={text}, {counters['dropped']} dropped")

    @property
    def due(self) -> bool:
        """Whether it is time to say again how it goes."""
        return self._address is not None and time.monotonic() - self._told >= _PERIOD

    def stopping(self) -> None:
        """Say that it is stopping on purpose."""
        self._send("STOPPING=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        # An @ stands for the zero byte in front of an abstract socket's name.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
                channel.sendto(message.encode(), address)
        except OSError as error:
            # Parts keep passing the camera, whoever listens.
            _log.warning("the service manager at %s cannot be notified: %s", self._address, error)
            self._address = None
