"""The line's metrics for Prometheus."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from lrp_edge.errors import needs_extra

with needs_extra("viewer"):
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
    from prometheus_client.metrics_core import Metric
    from prometheus_client.registry import Collector

_COUNTERS = {
    "captured": ("frames_captured", "Frames that the source gave."),
    "dropped": ("frames_dropped", "Frames that went stale before the engine took them."),
    "unreadable": ("frames_unreadable", "Frames without pixels."),
    "segmented": ("frames_segmented", "Frames with a result."),
    "failed": ("frames_failed", "Frames on which the engine failed."),
    "defects": ("defects", "Frames classified as a defect."),
    "rejected": ("rejected", "Frames that the verdict rejects."),
    "reconnects": ("reconnects", "Times that a lost source came back."),
    "stalls": ("stalls", "Times that a stage stalled."),
}
_QUANTILES = {"p50": "0.5", "p99": "0.99"}


class LineCollector(Collector):
    """Reads the line's status on each scrape.

    Parameters
    ----------
    status : callable
        Returns the snapshot.
    """

    def __init__(self, status: Callable[[], dict[str, Any]]) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics, in base units."""
        status = self._status()
        line = {key: str(status[key]) for key in ("model", "source", "policy")}
        yield InfoMetricFamily("lrp_edge_line", "What runs.", value=line)
        yield GaugeMetricFamily("lrp_edge_running", "Whether frames are on their way.", value=status["running"])
        yield GaugeMetricFamily("lrp_edge_uptime_seconds", "Time since the start.", value=status["uptime_s"])
        yield GaugeMetricFamily("lrp_edge_frames_per_second", "Results in the last seconds.", value=status["fps"])
        for key, (name, text) in _COUNTERS.items():
            yield CounterMetricFamily(f"lrp_edge_{name}", text, value=status["counters"][key])
        yield _latencies(status["latency_ms"])
        yield _stalled(status)
        yield from _sinks(status["sinks"])


def registry(status: Callable[[], dict[str, Any]]) -> CollectorRegistry:
    """Return a registry with nothing but the line's metrics."""
    own = CollectorRegistry()
    own.register(LineCollector(status))
    return own


def _latencies(latencies: dict[str, dict[str, float]]) -> Metric:
    family = GaugeMetricFamily(
        "lrp_edge_latency_seconds", "Time of the last frames, by stage.", labels=("stage", "quantile")
    )
    for stage, values in latencies.items():
        for key, quantile in _QUANTILES.items():
            family.add_metric((stage, quantile), values[key] / 1e3)
    return family


def _stalled(status: dict[str, Any]) -> Metric:
    family = GaugeMetricFamily("lrp_edge_stalled", "Whether a stage is stalled.", labels=("stage",))
    for stage in dict.fromkeys(("source", "engine", *status["sinks"], *status["stalled"])):
        family.add_metric((stage,), stage in status["stalled"])
    return family


def _sinks(sinks: dict[str, dict[str, int]]) -> Iterator[Metric]:
    for key in sorted({key for counts in sinks.values() for key in counts}):
        name = re.sub(r"\W", "_", f"lrp_edge_sink_{key}", flags=re.ASCII)
        # What waits grows and shrinks; all else is counted.
        kind = GaugeMetricFamily if key.endswith("waiting") else CounterMetricFamily
        family = kind(name, f"Results of an output by outcome: {key}.", labels=("sink",))
        for sink, counts in sinks.items():
            if key in counts:
                family.add_metric((sink,), counts[key])
        yield family
