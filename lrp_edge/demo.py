"""The main workflow end to end, on a synthetic line: export, verify, compile, run, and a page to open."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrp_edge.card import MaskSpec, ModelCard
from lrp_edge.errors import LrpEdgeError, needs_extra
from lrp_edge.files import whole, write_text
from lrp_edge.runtime.overlay import draw_relevance
from lrp_edge.runtime.pipeline import Pipeline
from lrp_edge.runtime.result import Result, Segmentation
from lrp_edge.runtime.segmenter import Segmenter
from lrp_edge.runtime.sinks.base import Sink
from lrp_edge.runtime.sinks.images import Images
from lrp_edge.runtime.sinks.results import Results
from lrp_edge.runtime.sources import Frame, Source
from lrp_edge.synthetic import KINDS, SIZE, draw

with needs_extra("export"):
    import jinja2
with needs_extra("cpu"):
    import cv2

CHECKPOINT = Path(__file__).parent / "assets" / "surfaces.safetensors"
_TEMPLATE = Path(__file__).parent / "assets" / "demo.html"
#: Far from the seeds that the shipped checkpoint was trained on.
_FIRST_PART = 10_000_000_019

UInt8 = NDArray[np.uint8]


@dataclass(frozen=True)
class Part:
    """A part of the line, and what the model said of it.

    Attributes
    ----------
    frame : int
        Its number.
    truth : str
        What was drawn.
    name, score : str, float
        The predicted class and its score.
    defect : bool
        Whether that is a defect.
    overlap, union : int
        Pixels that the mask and the drawn one have in common, and that either has.
    image : str
        Name of its pictures in ``frames/``, ``overlays/``, ``relevance/``, ``truth/`` and ``masks/``.
    """

    frame: int
    truth: str
    name: str
    score: float
    defect: bool
    overlap: int
    union: int
    image: str

    @property
    def right(self) -> bool:
        """Whether the class is the drawn one."""
        return self.name == self.truth

    @property
    def iou(self) -> float:
        """IoU of the mask with the drawn one; 1 where both are empty."""
        return self.overlap / self.union if self.union else 1.0


def demo(
    output: str | Path, *, frames: int = 48, seed: int = 0, say: Callable[[str], None] = lambda line: None
) -> Path:
    """Export the shipped checkpoint, verify and compile it, and run it over a synthetic inspection line.

    Parameters
    ----------
    output : path
        Folder for the model, the engine, overlays, masks, ``results.jsonl``, ``results.csv`` and ``index.html``.
    frames : int
        Parts on the line.
    seed : int
        Same seed, same line.
    say : callable
        Called with each line of progress.

    Returns
    -------
    Path
        The page to open.

    Raises
    ------
    LrpEdgeError
        If an extra is missing or the folder cannot be written.
    """
    from lrp_edge.checkpoint import load_checkpoint
    from lrp_edge.export import to_onnx

    output = Path(output)
    _, card = load_checkpoint(CHECKPOINT)
    calibration = [draw("ok", _FIRST_PART - 1 - i)[0][..., None] for i in range(64)]
    model = to_onnx(
        CHECKPOINT, output, card=demo_card(card), calibration=calibration, false_alarm_rate=0.02, name="surfaces"
    )
    segmenter = Segmenter(model)
    parity = segmenter.card.parity
    say(f"exported {model} ({model.stat().st_size / 1e6:.1f} MB)")
    say(
        f"verified against PyTorch in float64: labels {parity['label_agreement']:.0%} alike, scores within "
        f"{parity['scores_max']:.1e}, relevance within {parity['relevance_max']:.1e} of its maximum"
    )
    engine = _compile(model, say)
    line = _Drawn(frames, seed)
    album = _Album(output, line.truths)
    results = Results(output, existing="overwrite")
    pipeline = Pipeline(segmenter.batch, line, [Images(output, "GRAY"), album, results])
    pipeline.run()
    parts = album.parts
    for text in pipeline.summary():
        say(text)
    _write_table(output / "results.csv", parts)
    page = _write_page(output, parts, pipeline.latencies.engine.percentiles(), segmenter.card, model, engine)
    say(f"open {page}")
    return page


def demo_card(card: ModelCard) -> ModelCard:
    """Return the card of the demo's export: fixed size, masks calibrated on defect-free parts, with two means."""
    return card.replace(
        input=replace(card.input, size=SIZE),
        explained="contrast",
        composite="Segmentation",
        mask=MaskSpec("calibrated", {"two_means": 3}, "gaussian:1.0"),
    )


def _compile(model: Path, say: Callable[[str], None]) -> Path | None:
    """Compile where TensorRT-RTX can be installed: x86-64 Linux and Windows."""
    from importlib.util import find_spec

    from lrp_edge.export import to_engine

    if find_spec("tensorrt_rtx") is None:
        say("no engine: TensorRT-RTX is not installed (it has wheels for x86-64 Linux and Windows); going on")
        return None
    engine = to_engine(model, say=say)
    say(f"compiled {engine} ({engine.stat().st_size / 1e6:.1f} MB)")
    return engine


class _Drawn(Source):
    """Synthetic parts, drawn on request; every second one has a defect.

    Attributes
    ----------
    truths : dict of int to uint8 [H, W]
        The drawn masks of the parts that nobody has taken out yet.
    """

    def __init__(self, count: int, seed: int) -> None:
        super().__init__()
        self.name, self.length, self._seed = "drawn line", count, seed
        self.truths: dict[int, UInt8] = {}

    def __iter__(self) -> Iterator[Frame]:
        for index in range(self.length or 0):
            kind = KINDS[(index * 5 + self._seed) % 8 // 2] if index % 2 else "ok"
            image, self.truths[index] = draw(kind, _FIRST_PART + 1_000_003 * self._seed + index)
            yield Frame(index, f"{kind}.png", image[..., None], time.time(), time.perf_counter())


class _Album(Sink):
    """Keeps each part next to its ground truth, and writes its images."""

    name, recording = "album", True

    def __init__(self, output: Path, truths: dict[int, UInt8]) -> None:
        self.parts: list[Part] = []
        self._output, self._truths = output, truths

    def open(self) -> None:
        for folder in ("frames", "truth", "relevance"):
            (self._output / folder).mkdir(parents=True, exist_ok=True)

    def write(self, result: Result) -> None:
        frame, found = result.frame, result.segmentation
        assert found is not None
        assert frame.image is not None
        truth, kind = self._truths.pop(frame.index), Path(frame.source).stem
        name = f"{frame.index:06d}_{kind}.png"
        _pictures(self._output, name, frame.image, truth, found)
        score, counts = float(found.scores[found.label]), (found.mask & truth, found.mask | truth)
        overlap, union = (int(np.count_nonzero(pixels)) for pixels in counts)
        self.parts.append(Part(frame.index, kind, found.name, score, found.defect, overlap, union, name))


def _pictures(output: Path, name: str, image: UInt8, truth: UInt8, result: Segmentation) -> None:
    for folder, pixels in (("frames", image), ("truth", truth), ("relevance", draw_relevance(result))):
        (output / folder / name).write_bytes(cv2.imencode(".png", pixels)[1].tobytes())


def _write_table(path: Path, parts: Sequence[Part]) -> None:
    with whole(path) as draft, draft.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("frame", "drawn", "decided", "score", "iou"))
        for part in parts:
            writer.writerow((part.frame, part.truth, part.name, f"{part.score:.4f}", f"{part.iou:.4f}"))


def figures(parts: Sequence[Part]) -> dict[str, Any]:
    """Return the line's figures: class accuracy, verdicts, and IoU of the masks over parts with a defect.

    That is the mean over the parts, and pooled over all their pixels.
    """
    if not parts:
        raise LrpEdgeError("the line has no part; expected one or more frames")
    defects = [part for part in parts if part.truth != "ok"]
    return {
        "frames": len(parts),
        "accuracy": sum(part.right for part in parts) / len(parts),
        "verdicts": sum((part.truth != "ok") == part.defect for part in parts) / len(parts),
        "iou": float(np.mean([part.iou for part in defects])) if defects else 1.0,
        "pooled": sum(part.overlap for part in defects) / max(1, sum(part.union for part in defects)),
    }


def _write_page(
    output: Path, parts: Sequence[Part], times: dict[str, float], card: ModelCard, model: Path, engine: Path | None
) -> Path:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    page = environment.from_string(_TEMPLATE.read_text()).render(
        parts=sorted(parts, key=lambda part: (part.right, part.iou)),
        figures=figures(parts),
        p50=times["p50"],
        p99=times["p99"],
        card=card,
        model=(model.name, model.stat().st_size / 1e6),
        engine=(engine.name, engine.stat().st_size / 1e6) if engine else None,
    )
    path = output / "index.html"
    write_text(path, page)
    return path
