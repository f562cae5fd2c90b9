"""Results, verdicts and events for an MQTT broker."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import socket
import sys
import threading
from collections import deque
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from lrp_edge.errors import LrpEdgeError, needs_extra
from lrp_edge.options import accepted
from lrp_edge.runtime.config import MqttTable, is_mqtt_text
from lrp_edge.runtime.redaction import redact
from lrp_edge.runtime.result import Event, Result
from lrp_edge.runtime.sinks.base import ChosenSink, Which
from lrp_edge.runtime.sources.uri import RAW_PASSWORD, has_raw_password, parse
from lrp_edge.runtime.sources.uri import credentials as credentials_of

with needs_extra("mqtt"):
    from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags
    from paho.mqtt.enums import CallbackAPIVersion
    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode

_PORTS = {"mqtt": 1883, "mqtts": 8883}
_VERDICT = ("schema", "frame", "time", "reject", "name", "reason", "error")
_KEEPALIVE, _CONNECT, _LONGEST_DELAY = 15, 3.0, 30
# Less than what the pipeline gives a sink at the end.
_FLUSH = 3.0

_log = logging.getLogger("lrp_edge.mqtt")

#: Topic and payload.
Message = tuple[str, bytes]


class Mqtt(ChosenSink):
    """Publishes at QoS 1; what cannot be delivered waits in an outbox, in order, until the broker is back.

    Below the prefix there are the topics ``result`` and ``verdict`` for each frame, ``event``, and ``status``, which is
    retained: ``online``, or ``offline`` at the end and, as the broker's last will, when the line is gone.

    Parameters
    ----------
    url : str
        ``mqtt://HOST[:PORT]``, or ``mqtts://`` for TLS. User and password are taken from it, else from `credentials`,
        else from ``LRP_EDGE_MQTT_USER`` and ``LRP_EDGE_MQTT_PASSWORD`` of the environment.
    topic : str
        Prefix of the topics.
    only : {"all", "defects"}
        Which results are sent.
    outbox : int
        Results and events that may wait for the broker's acknowledgement; further ones are refused.
    client_id : str, optional
        The client id at the broker; random by default.
    credentials : path, optional
        File with ``user:password``.
    ca : path, optional
        PEM file of the authority that signed the broker's certificate; by default those that the system trusts.
    cert : path, optional
        PEM file with the line's own certificate and key.

    Raises
    ------
    LrpEdgeError
        If one of them cannot be used. An unreachable broker is not an error: the connection is retried.
    """

    name = "mqtt"

    def __init__(
        self,
        url: str,
        *,
        topic: str = "lrp-edge",
        only: Which = "all",
        outbox: int = 1000,
        client_id: str | None = None,
        credentials: Path | None = None,
        ca: Path | None = None,
        cert: Path | None = None,
    ) -> None:
        super().__init__(only)
        accepted(MqttTable, topic=topic, client_id=client_id)
        scheme, host, port = _broker(url)
        self._prefix, self._label = topic, f"{scheme}://{host}:{port}"
        self._outbox = _Outbox(outbox, self._label)
        self._link = _Link(self._label, f"{self._prefix}/status", self._outbox)
        self._client = Client(CallbackAPIVersion.VERSION2, client_id or f"lrp-edge-{secrets.token_hex(4)}")
        if login := _login(url, credentials):
            self._client.username_pw_set(*login)
        if scheme == "mqtts":
            _use_tls(self._client, ca, cert)
        elif ca or cert:
            raise LrpEdgeError(f"{self._label}: a certificate is given, but no TLS; expected mqtts://")
        self._link.attach(self._client)
        self._client.reconnect_delay_set(1, _LONGEST_DELAY)
        self._client.connect_timeout = _CONNECT
        # The outbox limits what is under way; a second limit would only put messages out of order.
        self._client.max_inflight_messages_set(0)
        self._client.connect_async(host, port, keepalive=_KEEPALIVE)
        self._sender = threading.Thread(target=self._send, name="mqtt sender", daemon=True)

    def open(self) -> None:
        self._sender.start()
        self._client.loop_start()

    def write(self, result: Result) -> None:
        line = result.as_dict()
        verdict = {key: line[key] for key in _VERDICT if key in line}
        self._outbox.put((self._message("result", line), self._message("verdict", verdict)))

    def event(self, event: Event) -> None:
        self._outbox.put((self._message("event", event.as_dict()),))

    def counts(self) -> dict[str, int]:
        return self._outbox.counts() | {"reconnects": self._link.reconnects}

    def close(self) -> None:
        flushed = self._outbox.flush(_FLUSH)
        self._outbox.end()
        if self._sender.is_alive():
            self._sender.join()
        if flushed:
            # They go out in this order, and a clean end recalls the last will. The outbox knows nothing of them.
            self._client.on_publish = None
            self._client.publish(self._link.status, "offline", retain=True)
            self._client.disconnect()
        elif isinstance(connection := self._client.socket(), socket.socket):
            # A broker that does not answer would hold up a clean end; like this it sends the last will.
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._client.loop_stop()
        # paho closes sockets of its own when it goes.
        del self._client
        if lost := self._outbox.abandon():
            raise LrpEdgeError(f"{self._label}: {lost} results and events were not acknowledged and are lost")

    def _message(self, topic: str, line: dict[str, Any]) -> Message:
        return f"{self._prefix}/{topic}", json.dumps(line, ensure_ascii=False).encode()

    def _send(self) -> None:
        while messages := self._outbox.take():
            for topic, payload in messages:
                self._client.publish(topic, payload, qos=1)


class _Link:
    """Follows the connection, and tells the outbox what can be sent and what has arrived; called in paho's thread."""

    def __init__(self, label: str, status: str, outbox: _Outbox) -> None:
        self._label, self.status, self._outbox = label, status, outbox
        self._status_ids: set[int] = set()
        self._connections, self._trouble = 0, ""

    @property
    def reconnects(self) -> int:
        """How often the connection came back."""
        return max(0, self._connections - 1)

    def attach(self, client: Client) -> None:
        """Have a client call this, and leave a last will."""
        client.on_connect, client.on_disconnect = self._connected, self._disconnected
        client.on_connect_fail, client.on_publish = self._unreachable, self._acknowledged
        client.will_set(self.status, "offline", qos=1, retain=True)

    def _connected(
        self, client: Client, userdata: Any, flags: ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if reason.is_failure:
            self._note(f"refuses the connection: {reason}")
            return
        self._connections += 1
        self._trouble = ""
        _log.info("%s: connected", self._label)
        self._status_ids.add(client.publish(self.status, "online", qos=1, retain=True).mid)

    def _disconnected(
        self, client: Client, userdata: Any, flags: DisconnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        self._outbox.hold()
        if reason.is_failure and not self._trouble:
            self._note(f"connection lost: {reason}")

    def _unreachable(self, client: Client, userdata: Any) -> None:
        # paho calls this while it handles the error, and does not hand it over.
        self._note(f"cannot be reached: {sys.exc_info()[1]}")

    def _acknowledged(
        self, client: Client, userdata: Any, mid: int, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if mid in self._status_ids:
            # By now paho has sent once more what was under way when the connection was lost: the order is kept.
            self._status_ids.discard(mid)
            self._outbox.release()
        else:
            self._outbox.acknowledge()

    def _note(self, trouble: str) -> None:
        """Log what is wrong, once."""
        if trouble != self._trouble:
            self._trouble = trouble
            _log.warning("%s: %s; trying again", self._label, trouble)


class _Outbox:
    """Messages, in groups, that wait to be sent or acknowledged; each group counts as one.

    paho has a queue too, but lets what is published while it connects go before what waits in it.
    Those under way are acknowledged in the order in which they were sent, as MQTT demands for QoS 1.
    """

    # Groups under way at a time: enough for a slow network, and few to be sent again.
    _WINDOW = 32

    def __init__(self, limit: int, label: str) -> None:
        if limit < 1:
            raise LrpEdgeError(f"the outbox for {label} has room for {limit} results; expected 1 or more")
        self._limit, self._label = limit, label
        self._waiting: deque[tuple[Message, ...]] = deque()
        self._under_way: deque[int] = deque()
        self._changed = threading.Condition()
        self._held, self._ended = True, False
        self._published = self._dropped = 0

    def counts(self) -> dict[str, int]:
        """Return how many were acknowledged, wait, and are lost."""
        with self._changed:
            waiting = len(self._waiting) + len(self._under_way)
            return {"published": self._published, "outbox_waiting": waiting, "outbox_dropped": self._dropped}

    def put(self, messages: tuple[Message, ...]) -> None:
        """Add a group; raise an LrpEdgeError if there is no room."""
        with self._changed:
            if self._ended or len(self._waiting) + len(self._under_way) >= self._limit:
                self._dropped += 1
                raise LrpEdgeError(
                    f"{self._label} has not acknowledged {self._limit} results; new ones are lost until it does"
                )
            self._waiting.append(messages)
            self._changed.notify_all()

    def take(self) -> tuple[Message, ...]:
        """Wait for the next group that is to be sent; empty at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self._may_send())
            if self._ended:
                return ()
            messages = self._waiting.popleft()
            self._under_way.append(len(messages))
            return messages

    def _may_send(self) -> bool:
        return not self._held and bool(self._waiting) and len(self._under_way) < self._WINDOW

    def acknowledge(self) -> None:
        """Note that a message was acknowledged."""
        with self._changed:
            self._under_way[0] -= 1
            if not self._under_way[0]:
                self._under_way.popleft()
                self._published += 1
            self._changed.notify_all()

    def hold(self) -> None:
        """Send nothing for now."""
        with self._changed:
            self._held = True

    def release(self) -> None:
        """Send again."""
        with self._changed:
            self._held = False
            self._changed.notify_all()

    def flush(self, seconds: float) -> bool:
        """Wait until all is acknowledged, and say whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting and not self._under_way, seconds)

    def end(self) -> None:
        """Send no more."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def abandon(self) -> int:
        """Count what is left as lost, and return how many that are."""
        with self._changed:
            lost = len(self._waiting) + len(self._under_way)
            self._waiting.clear()
            self._under_way.clear()
            self._dropped += lost
            return lost


def _broker(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port."""
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS[parts.scheme]
        host = parts.hostname or ""
        host.encode("idna")
    except (ValueError, KeyError):
        host = ""
    if not host or parts.path.strip("/") or parts.query or parts.fragment:
        raw = f"; {RAW_PASSWORD}, or given with credentials" if has_raw_password(url) else ""
        raise LrpEdgeError(
            f"broker {redact(url)} is not understood; expected mqtt://HOST[:PORT] or mqtts://HOST[:PORT]{raw}"
        )
    return parts.scheme, host, port


def _login(url: str, file: Path | None) -> tuple[str, str] | None:
    address = parse(url, _PORTS)
    parts = urlsplit(url)
    if file is not None or address.has_password:
        login = credentials_of(address, file)
    else:
        user = unquote(parts.username or "") or os.environ.get("LRP_EDGE_MQTT_USER")
        login = (user, os.environ.get("LRP_EDGE_MQTT_PASSWORD", "")) if user else None
    if login and not all(is_mqtt_text(part) for part in login if part):
        raise LrpEdgeError("user or password of the broker cannot be sent by MQTT; expected text without control signs")
    return login


def _use_tls(client: Client, ca: Path | None, cert: Path | None) -> None:
    try:
        # Without a password OpenSSL would ask for one on the terminal.
        client.tls_set(str(ca) if ca else None, str(cert) if cert else None, keyfile_password="" if cert else None)
    except (OSError, ValueError) as error:
        files = " and ".join(str(file) for file in (ca, cert) if file)
        raise LrpEdgeError(f"{files}: these certificates cannot be used ({error}); expected PEM files") from error
