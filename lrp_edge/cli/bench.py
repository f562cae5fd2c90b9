"""``lrp-edge bench``: latency and throughput of a model, and of its classifier alone."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lrp_edge.cli.options import MODEL, Declared, Json, command, parse_size, real_frames, write_json
from lrp_edge.runtime.config import Line

if TYPE_CHECKING:
    from lrp_edge.card import ModelCard
    from lrp_edge.runtime.bench import Classifier
    from lrp_edge.runtime.engines.base import UInt8

_USUAL = (512, 512)


def register(app: typer.Typer) -> None:
    """Add the verb."""
    command(app, "bench", bench)


def bench(
    model: Annotated[Path, MODEL],
    provider: Annotated[str | None, Declared(Line, "provider")],
    threads: Annotated[int | None, Declared(Line, "threads")],
    size: Annotated[
        str,
        typer.Option(help="Size of the frames, HxW (default: the model's, else 512x512).", rich_help_panel="Frames"),
    ] = "",
    batch: Annotated[str, typer.Option(help="Frames in one call, several by comma, e.g. 1,4,8.")] = "1",
    seconds: Annotated[float | None, typer.Option(min=0, help="Seconds for each batch size (default: 3).")] = None,
    iterations: Annotated[int | None, typer.Option(min=1, help="Calls for each batch size, instead.")] = None,
    warm_up: Annotated[int, typer.Option(min=0, help="Calls before that.")] = 10,
    frames: Annotated[str, real_frames("random ones")] = "",
    seed: Annotated[int, typer.Option(help="Seed of the random frames.", rich_help_panel="Frames")] = 0,
    json_file: Json = None,
) -> None:
    """Measure latency and throughput, and what the mask costs compared with the classifier alone."""
    from lrp_edge.runtime.bench import Duration, check_batches, random_frames
    from lrp_edge.runtime.bench import bench as measure
    from lrp_edge.runtime.engines import open_engine

    if seconds is not None and iterations is not None:
        raise typer.BadParameter("give --seconds or --iterations, not both", param_hint="--iterations")
    batches = _batches(batch)
    start = perf_counter()
    with open_engine(model, provider, threads) as engine, tempfile.TemporaryDirectory() as folder:
        loaded = (perf_counter() - start) * 1e3
        check_batches(engine, batches)
        classifier, note = _classifier(model, provider, threads, Path(folder))
        pictures = (
            _real_frames(frames, engine.card, size)
            if frames
            else random_frames(max(8, *batches), *_size(engine.card, size), engine.card.input.channels, seed)
        )
        found = measure(
            engine,
            pictures,
            batches,
            Duration(3.0 if seconds is None else seconds, iterations, warm_up),
            classifier,
            lambda text: typer.echo(f"{text} ...", err=True),
        )
    facts = {"frames": frames or f"random, seed {seed}", "warmUp": warm_up, "threads": threads}
    found = {"model": str(model), **facts, "loadMs": loaded, "classifierNote": note, **found}
    write_json(json_file, json.dumps(found, indent=2) + "\n")
    if json_file != "-":
        _print(found)


def _batches(text: str) -> tuple[int, ...]:
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < 1:
        raise typer.BadParameter(f"{text!r}; expected whole numbers by comma, e.g. 1,4,8", param_hint="--batch")
    return numbers


def _size(card: ModelCard, asked: str) -> tuple[int, int]:
    if asked:
        return parse_size(asked)
    if card.profile:
        height, width = card.profile["opt"][1:]
        return int(height), int(width)
    return card.input.size or _USUAL


def _real_frames(text: str, card: ModelCard, size: str) -> list[UInt8]:
    """Read frames; of several sizes only the asked one's."""
    from lrp_edge.errors import LrpEdgeError
    from lrp_edge.runtime import open_source

    found = []
    for frame in open_source(text, card.input.order):
        if frame.image is None:
            raise LrpEdgeError(f"{frame.error}; replace it, or leave it out")
        image = frame.image.reshape(*frame.image.shape[:2], card.input.channels)
        if not size or image.shape[:2] == parse_size(size):
            found.append(image)
    if not found:
        raise LrpEdgeError(f"{text} has no frame of {size}; choose another --size, or leave it out")
    return found


def _classifier(
    model: Path, provider: str | None, threads: int | None, folder: Path
) -> tuple[Classifier | None, str | None]:
    """Open the classifier alone, or say why it cannot be measured."""
    from importlib.util import find_spec

    from lrp_edge.runtime.engines import cuts_by_itself, open_scores

    if model.suffix == ".engine":
        return None, "classifier alone: not in an engine; measure the .onnx file"
    if not cuts_by_itself(provider):
        if find_spec("onnx") is None:
            return None, "classifier alone: needs lrp-edge[export]"
        model = cut_to_scores(model, folder / "classifier.onnx")
    return open_scores(model, provider, threads), None


def cut_to_scores(model: Path, output: Path) -> Path:
    """Write the part of an exported file that ``scores`` needs: the classifier, with its preprocessing."""
    import onnx
    from onnx.utils import Extractor

    proto = onnx.load(model)
    part = Extractor(proto).extract_model(["image"], ["scores"])
    part.metadata_props.extend(proto.metadata_props)
    onnx.save(part, output)
    return output


def _print(found: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    alone = "ratio" in found["batches"][0]
    stages = [name for name in ("h2dMs", "computeMs", "d2hMs") if name in found["batches"][0]]
    title = f"{found['engine']}, {found['precision']}, frames {'x'.join(map(str, found['frame'][:2]))}, milliseconds"
    columns = ["batch", "p50", "p90", "p99", "mean", "frames/s", *(name[:-2] for name in stages)]
    table = Table(*columns, *(("classifier p50", "times") if alone else ()), title=title)
    for row in found["batches"]:
        times = row["latencyMs"]
        figures = [times[name] for name in ("median", "p90", "p99", "mean")]
        cells = [str(row["batch"]), *(f"{value:.2f}" for value in figures), f"{row['framesPerSecond']:.1f}"]
        cells += [f"{row[name]['median']:.2f}" for name in stages]
        if alone:
            cells += [f"{row['classifierMs']['median']:.2f}", f"{row['ratio']:.2f}"]
        table.add_row(*cells)
    Console().print(table)
    for line in _lines(found):
        typer.echo(line)


def _lines(found: dict[str, Any]) -> list[str]:
    host, device = found["hostPeakMiB"], found["deviceMiB"]
    memory = ([f"host peak {host:.0f} MiB"] if host else []) + ([f"GPU {device:.0f} MiB"] if device is not None else [])
    lines = [f"loaded in {found['loadMs']:.0f} ms; {', '.join(memory)}; frames: {found['frames']}"]
    for row in found["batches"]:
        if "framesPerSecondInFlight" in row:
            lines.append(f"batch {row['batch']}, calls overlapping: {row['framesPerSecondInFlight']:.1f} frames/s")
        if found["gate"]:
            parts = {"with": row["latencyWithDefectMs"], "without": row["latencyWithoutDefectMs"]}
            times = [f"{name} a defect p50 {part['median']:.2f} ms" for name, part in parts.items() if part]
            lines.append(f"batch {row['batch']}: {row['defectShare']:.0%} decided defect; calls {', '.join(times)}")
    return lines + ([found["classifierNote"]] if found["classifierNote"] else [])
