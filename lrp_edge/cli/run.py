"""``lrp-edge run``: frames of a source through a model into results, for a folder or for months."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lrp_edge.cli.options import parse_numbers, parse_size

if TYPE_CHECKING:
    from lrp_edge.runtime.pipeline import Pipeline
    from lrp_edge.runtime.sources import Source

Given = dict[str, Any]


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("run")(run)


def run(
    model: Annotated[Path | None, typer.Argument(help="A file of lrp-edge export or lrp-edge compile.")] = None,
    source: Annotated[
        str | None,
        typer.Option(
            help="Image, folder, glob, video, or camera: 0, v4l2://, csi://, rtsp://, http://, gst://, aravis://."
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder for the results.")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file with any of these; options here go first.")] = None,
    provider: Annotated[
        str | None,
        typer.Option(
            help="cpu, cuda, tensorrt, nv_tensorrt_rtx or openvino, for an ONNX file [default: cuda, else cpu]."
        ),
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of one call on the CPU.")] = None,
    size: Annotated[str | None, typer.Option(help="Size of the frames, HxW; asked of a camera.")] = None,
    fps: Annotated[float | None, typer.Option(help="Frames a second, of a camera or for files.")] = None,
    roi: Annotated[str | None, typer.Option(help="Part of the frame, X,Y,WIDTH,HEIGHT.")] = None,
    rotate: Annotated[int | None, typer.Option(help="0, 90, 180 or 270 degrees clockwise.")] = None,
    loop: Annotated[bool | None, typer.Option("--loop", help="Begin again at the end of files.")] = None,
    hardware: Annotated[bool | None, typer.Option("--hardware", help="Decode in hardware where there is some.")] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds without a frame: camera lost [default: 5].")] = None,
    credentials: Annotated[Path | None, typer.Option(help="File with user:password of the camera.")] = None,
    policy: Annotated[
        str | None, typer.Option(help="latest or lossless [default: latest for cameras, else lossless].")
    ] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Frames in one call [default: 1].")] = None,
    batch_wait: Annotated[float | None, typer.Option(help="Milliseconds a frame waits for its batch.")] = None,
    queue: Annotated[int | None, typer.Option(min=1, help="Frames that may wait for the engine.")] = None,
    skip_bad: Annotated[
        bool | None,
        typer.Option("--skip-bad/--no-skip-bad", help="Go on after a bad frame [default: for cameras]."),
    ] = None,
    wait: Annotated[bool | None, typer.Option("--wait", help="Keep trying if the camera is not there.")] = None,
    stall: Annotated[
        float | None, typer.Option(help="Seconds of standstill to report, 0: never [default: 10].")
    ] = None,
    tile: Annotated[str | None, typer.Option(help="Run large frames in tiles of HxW.")] = None,
    overlap: Annotated[float | None, typer.Option(help="Overlap of tiles, as a share [default: 0.25].")] = None,
    vote: Annotated[str | None, typer.Option(help="Class over tiles: any, majority or mean [default: any].")] = None,
    reject_if: Annotated[
        str | None, typer.Option(help="Verdict, e.g. 'any region > 2.5 mm2' [default: a defect class].")
    ] = None,
    min_area: Annotated[int | None, typer.Option(min=1, help="Smallest region that counts, in pixels.")] = None,
    mm_per_px: Annotated[float | None, typer.Option(help="Millimetres of a pixel's side.")] = None,
    images: Annotated[str | None, typer.Option(help="Images of all, defects or none [default: all].")] = None,
    overlays: Annotated[bool | None, typer.Option("--overlays/--no-overlays", help="Draw overlays.")] = None,
    budget_mb: Annotated[float | None, typer.Option(help="Most MB of images; the oldest go first.")] = None,
    video: Annotated[Path | None, typer.Option(help="Write a video of the overlays.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results that are there.")] = False,
    append: Annotated[bool, typer.Option("--append", help="Go on with results that are there.")] = False,
    show: Annotated[bool | None, typer.Option("--show", help="Open a window.")] = None,
    view: Annotated[str | None, typer.Option(help="Serve a page to look at, [HOST:]PORT.")] = None,
    view_token_file: Annotated[Path | None, typer.Option(help="File with the page's token.")] = None,
    mqtt: Annotated[str | None, typer.Option(help="Send results to a broker, mqtt://HOST[:PORT].")] = None,
    mqtt_topic: Annotated[str | None, typer.Option(help="Prefix of its topics [default: lrp-edge].")] = None,
    webhook: Annotated[str | None, typer.Option(help="Post defects to this web address.")] = None,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Log more.")] = False,
) -> None:
    """Run a model over frames or a camera; write, show and send what it finds."""
    if overwrite and append:
        raise typer.BadParameter("give --overwrite or --append, not both", param_hint="--append")
    given: Given = {
        "model": model,
        "provider": provider,
        "threads": threads,
        "show": show,
        "source": {
            "uri": source,
            "size": size and parse_size(size),
            "fps": fps,
            "roi": roi and _box(roi),
            "rotate": rotate,
            "loop": loop,
            "hardware": hardware,
            "timeout": timeout,
            "credentials": credentials,
        },
        "pipeline": {
            "policy": policy,
            "batch": batch,
            "batch_wait_ms": batch_wait,
            "queue": queue,
            "skip_bad": skip_bad,
            "wait": wait,
            "stall": stall,
        },
        "tiles": {"size": tile and parse_size(tile), "overlap": overlap, "vote": vote},
        "verdict": {"reject_if": reject_if, "min_area": min_area, "mm_per_px": mm_per_px},
        "output": {
            "folder": output,
            "images": images,
            "overlays": overlays,
            "budget_mb": budget_mb,
            "video": video,
            "existing": "overwrite" if overwrite else "append" if append else None,
        },
        "viewer": {"listen": view, "token_file": view_token_file},
        "mqtt": {"url": mqtt, "topic": mqtt_topic},
        "webhook": {"url": webhook},
    }
    _run(given, config, verbose)


def _run(given: Given, config: Path | None, verbose: bool) -> None:
    from lrp_edge.runtime.line import build
    from lrp_edge.runtime.line import run as run_line

    values: Given = {}
    if config:
        from lrp_edge.runtime.config import read_config

        values = read_config(config)
    line = build(_merged(values, given))
    with _logging(verbose), _signals() as stop, _display() as display:
        pipeline = run_line(
            line, stopped=stop, begun=display.begin, progress=display.advance, tick=display.tick, say=typer.echo
        )
    for text in pipeline.summary():
        typer.echo(text)
    if line.output.folder:
        typer.echo(f"results in {line.output.folder}")
    if stop.signal == signal.SIGINT:
        raise typer.Exit(130)


def _merged(values: Mapping[str, Any], given: Mapping[str, Any]) -> Given:
    """Lay what was given on the command line over what the file says."""
    merged = dict(values)
    for key, value in given.items():
        if isinstance(value, Mapping):
            merged[key] = _merged(merged.get(key, {}), value)
        elif value is not None:
            merged[key] = value
    return merged


def _box(text: str) -> tuple[int, int, int, int]:
    numbers = parse_numbers(text)
    if len(numbers) != 4 or any(number != int(number) for number in numbers):
        raise typer.BadParameter(f"{text!r}; expected X,Y,WIDTH,HEIGHT in pixels", param_hint="--roi")
    x, y, width, height = map(int, numbers)
    return x, y, width, height


class _Stop(threading.Event):
    """Set by SIGINT and SIGTERM; a second one ends the process at once."""

    signal: int | None = None

    def handle(self, number: int, frame: Any) -> None:
        """Take a signal."""
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number
        self.set()


@contextmanager
def _signals() -> Iterator[_Stop]:
    stop = _Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, stop.handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _logging(verbose: bool) -> Iterator[None]:
    """Log what happens on stderr while a line runs."""
    log, handler = logging.getLogger("lrp_edge"), logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    before = log.level
    log.addHandler(handler)
    log.setLevel(logging.DEBUG if verbose else logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before)


@contextmanager
def _display() -> Iterator[_Display]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("frames"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        yield _Display(bar)


class _Display:
    """A bar with rate, latency and losses while a line runs, where there is a terminal."""

    def __init__(self, bar: Any) -> None:
        self._bar, self._task = bar, None

    def begin(self, source: Source, pipeline: Pipeline) -> None:
        """Show the bar."""
        self._task = self._bar.add_task("frames", total=source.length, note="")

    def advance(self, done: int) -> None:
        """Move it."""
        self._bar.advance(self._task, done)

    def tick(self, pipeline: Pipeline) -> None:
        """Bring its figures up to date."""
        if not self._bar.disable:
            status = pipeline.status()
            note = f"{status['fps']:.1f} fps, p99 {status['latency_ms']['total']['p99']:.0f} ms"
            self._bar.update(self._task, note=f"{note}, {status['counters']['dropped']} dropped")
