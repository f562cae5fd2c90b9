"""An inspection line is run: its model, source and sinks, wired as :mod:`lrp_edge.runtime.config` describes them."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from lrp_edge.errors import LrpEdgeError, as_text
from lrp_edge.options import make
from lrp_edge.runtime.config import (
    Line,
    MqttTable,
    OutputTable,
    PipelineOptions,
    SourceTable,
    TilesTable,
    VerdictTable,
    ViewerTable,
    WebhookTable,
)
from lrp_edge.runtime.pipeline import Judgement, Pipeline, Segment
from lrp_edge.runtime.regions import Rule
from lrp_edge.runtime.segmenter import Segmenter
from lrp_edge.runtime.service import ServiceManager
from lrp_edge.runtime.sinks.base import Sink
from lrp_edge.runtime.sinks.folder import Lock, own_folder
from lrp_edge.runtime.sinks.results import Results
from lrp_edge.runtime.sources import Source, open_source

if TYPE_CHECKING:
    from lrp_edge.runtime.viewer import Viewer

__all__ = [
    "Line",
    "MqttTable",
    "OutputTable",
    "PipelineOptions",
    "SourceTable",
    "TilesTable",
    "VerdictTable",
    "ViewerTable",
    "WebhookTable",
    "build",
    "run",
]

_VIDEO_FPS = 25.0
_log = logging.getLogger("lrp_edge.line")


def build(values: Mapping[str, Any]) -> Line:
    """Make a line of values by table and key.

    Raises
    ------
    LrpEdgeError
        If model or source is missing, or a value is out of range.
    """
    if not values.get("model"):
        raise LrpEdgeError("no model is given; name a file of lrp-edge export or lrp-edge compile")
    if not values.get("source", {}).get("uri"):
        raise LrpEdgeError("no source is given; name one with --source, or uri in [source]")
    line: Line = make(Line, values)
    output = line.output
    if not (output.folder or output.video or line.mqtt.url or line.webhook.url or line.viewer.listen or line.show):
        raise LrpEdgeError("nothing takes the results; give -o FOLDER, --view, --mqtt, --webhook, --video or --show")
    return line


def run(
    line: Line,
    *,
    stopped: threading.Event | None = None,
    begun: Callable[[Source, Pipeline], None] = lambda source, pipeline: None,
    progress: Callable[[int], None] = lambda done: None,
    tick: Callable[[Pipeline], None] = lambda pipeline: None,
    say: Callable[[str], None] = lambda text: None,
) -> Pipeline:
    """Run a line until its source ends or it is stopped.

    Parameters
    ----------
    line : Line
        What to run.
    stopped : threading.Event, optional
        Set from elsewhere to stop.
    begun : callable
        Called with source and pipeline before the first frame.
    progress : callable
        Called with the number of results since the last call.
    tick : callable
        Called several times a second with the pipeline.
    say : callable
        Called with what the user should know at the start, such as the viewer's address.

    Returns
    -------
    Pipeline
        Ended, with its counters.

    Raises
    ------
    LrpEdgeError
        If something of the line is wrong or missing, before the first frame; or as :meth:`Pipeline.run`.
    """
    stopped = stopped or threading.Event()
    with ExitStack() as stack:
        segmenter = stack.enter_context(Segmenter(line.model, provider=line.provider, threads=line.threads))
        order = segmenter.card.input.order
        if segmenter.card.unusable:
            _log.warning("%s is not usable: %s", line.model, "; ".join(segmenter.card.unusable))
        judgement = _judgement(line.verdict)
        source = open_source(line.source.uri, order, line.source)
        _check_files(source, line.pipeline.skip_bad)
        folder = line.output.folder
        lock = stack.enter_context(own_folder(folder)) if folder else None
        results = Results(folder, line.output.existing, lock) if folder else None
        state: dict[str, Any] = {"model": as_text(line.model.name), "classes": list(segmenter.card.classes)}
        viewer = _viewer(line.viewer, order, lambda: state | pipeline.status())
        sinks = [
            *_files(line, order, segmenter.card.defects, lock),
            *_network(line, order),
            *_window(line, order, stopped),
        ]
        pipeline = Pipeline(
            _segment(segmenter, line.tiles),
            source,
            [*sinks, *([viewer] if viewer else []), *([results] if results else [])],
            line.pipeline,
            judgement,
            first=results.first if results else 0,
            progress=progress,
        )
        begun(source, pipeline)
        manager = ServiceManager()

        def opened() -> None:
            manager.ready()
            if viewer:
                say(f"viewer at {viewer.url}")

        def every_tenth() -> None:
            tick(pipeline)
            if manager.due:
                manager.alive(pipeline.status())

        pipeline.run(stopped, every_tenth, opened)
        manager.stopping()
        return pipeline


def _check_files(source: Source, skip_bad: bool | None) -> None:
    faults = [] if skip_bad else source.faults()
    if faults:
        raise LrpEdgeError(
            f"{len(faults)} of {source.length} frames cannot be read, first {faults[0]}; replace them, or --skip-bad"
        )


def _judgement(table: VerdictTable) -> Judgement:
    rule = Rule.parse(table.reject_if) if table.reject_if else None
    return Judgement(rule, table.min_area, table.mm_per_px, table.most_regions)


def _segment(segmenter: Segmenter, tiles: TilesTable) -> Segment:
    if tiles.size is None:
        return segmenter.batch
    from lrp_edge.runtime.tiles import tiler_for

    tiler = tiler_for(segmenter, tiles)
    return lambda frames: [tiler(frame) for frame in frames]


def _files(line: Line, order: str, defects: tuple[str, ...], lock: Lock | None) -> list[Sink]:
    output, sinks = line.output, list[Sink]()
    if output.folder and output.images != "none":
        from lrp_edge.runtime.sinks.images import Images

        budget = None if output.budget_mb is None else int(output.budget_mb * 1e6)
        images = Images(output.folder, order, overlays=output.overlays, only=output.images, budget=budget, lock=lock)
        sinks.append(images)
    if output.annotations:
        if not output.folder:
            raise LrpEdgeError("annotations are written into the folder of results; give -o FOLDER")
        from lrp_edge.runtime.sinks.annotations import Annotations

        form, only, existing = output.annotations, output.annotated, output.existing
        sinks.append(Annotations(output.folder, order, form, defects, only=only, existing=existing, lock=lock))
    if output.video:
        from lrp_edge.runtime.sinks.video import VideoFile

        fps = line.source.fps or _VIDEO_FPS
        sinks.append(VideoFile(output.video, order, fps=fps, existing=output.existing))
    return sinks


def _network(line: Line, order: str) -> list[Sink]:
    sinks = list[Sink]()
    if line.mqtt.url:
        from lrp_edge.runtime.sinks.mqtt import Mqtt

        sinks.append(
            Mqtt(
                line.mqtt.url,
                topic=line.mqtt.topic,
                only=line.mqtt.only,
                outbox=line.mqtt.outbox,
                client_id=line.mqtt.client_id,
                credentials=line.mqtt.credentials,
                ca=line.mqtt.ca,
                cert=line.mqtt.cert,
            )
        )
    if line.webhook.url:
        from lrp_edge.runtime.sinks.webhook import Webhook

        sinks.append(
            Webhook(
                line.webhook.url,
                order,
                only=line.webhook.only,
                timeout=line.webhook.timeout,
                retries=line.webhook.retries,
                image=line.webhook.image,
                secret=os.environ.get("LRP_EDGE_WEBHOOK_SECRET"),
            )
        )
    return sinks


def _window(line: Line, order: str, stopped: threading.Event) -> list[Sink]:
    if not line.show:
        return []
    from lrp_edge.runtime.sinks.window import Window

    return [Window(order, stopped.set)]


def _viewer(table: ViewerTable, order: str, status: Callable[[], dict[str, Any]]) -> Viewer | None:
    if not table.listen:
        return None
    from lrp_edge.runtime.viewer import Viewer

    token = os.environ.get("LRP_EDGE_VIEW_TOKEN")
    if table.token_file:
        try:
            token = table.token_file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise LrpEdgeError(f"{table.token_file}: the token cannot be read ({error.strerror})") from error
    return Viewer(table.listen, status=status, order=order, token=token or None, thumbnails=table.thumbnails)
