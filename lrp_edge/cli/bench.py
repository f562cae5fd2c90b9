"""``lrp-edge bench``: latency and throughput of a model, and of its classifier alone."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lrp_edge.cli.options import MODEL, command, write_json
from lrp_edge.runtime.bench_options import SECONDS, BenchOptions, Duration

if TYPE_CHECKING:
    from lrp_edge.card import ModelCard
    from lrp_edge.runtime.bench import Classifier
    from lrp_edge.runtime.engines.base import UInt8

_USUAL = (512, 512)


def register(app: typer.Typer) -> None:
    """Add the verb."""
    command(app, "bench", bench)


def bench(model: Annotated[Path, MODEL], options: BenchOptions) -> None:
    """Measure latency and throughput, and what the mask costs compared with the classifier alone."""
    from lrp_edge.runtime.bench import bench as measure
    from lrp_edge.runtime.bench import check_batches
    from lrp_edge.runtime.engines import open_engine

    provider, threads = options.provider, options.threads
    start = perf_counter()
    with open_engine(model, provider, threads) as engine, tempfile.TemporaryDirectory() as folder:
        loaded = (perf_counter() - start) * 1e3
        check_batches(engine, options.batches)
        classifier, note = _classifier(model, provider, threads, Path(folder))
        found = measure(
            engine,
            _frames(engine.card, options),
            options.batches,
            Duration(SECONDS if options.seconds is None else options.seconds, options.iterations, options.warm_up),
            classifier,
            lambda text: typer.echo(f"{text} ...", err=True),
        )
    source = options.frames or f"random, seed {options.seed}"
    facts = {"frames": source, "warmUp": options.warm_up, "threads": threads}
    found = {"model": str(model), **facts, "loadMs": loaded, "classifierNote": note, **found}
    write_json(options.json, json.dumps(found, indent=2) + "\n")
    if options.json != "-":
        _print(found)


def _frames(card: ModelCard, options: BenchOptions) -> Sequence[UInt8] | UInt8:
    """Return real frames, or random ones of the size that is asked for or that the model takes."""
    from lrp_edge.runtime.bench import random_frames

    if options.frames:
        return _real_frames(card, options)
    usual = (int(card.profile["opt"][1]), int(card.profile["opt"][2])) if card.profile else card.input.size or _USUAL
    return random_frames(max(8, *options.batches), *(options.size or usual), card.input.channels, options.seed)


def _real_frames(card: ModelCard, options: BenchOptions) -> list[UInt8]:
    """Read frames; of several sizes only the asked one's."""
    from lrp_edge.errors import LrpEdgeError
    from lrp_edge.runtime import open_source
    from lrp_edge.runtime.config import SourceOptions

    text, size, found = options.frames, options.size, []
    how = SourceOptions(bits=options.bits, max_megapixels=options.max_megapixels)
    for frame in open_source(text, card.input.order, how):
        if frame.image is None:
            raise LrpEdgeError(f"{frame.error}; replace it, or leave it out")
        image = frame.image.reshape(*frame.image.shape[:2], card.input.channels)
        if size in (None, image.shape[:2]):
            found.append(image)
    if not found:
        asked = "" if size is None else f" of {size[0]}x{size[1]}"
        raise LrpEdgeError(f"{text} has no frame{asked}; choose another --size, or leave it out")
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

    from lrp_edge.export.read import read_proto, whole

    proto, _ = read_proto(model)
    with whole(model):
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
