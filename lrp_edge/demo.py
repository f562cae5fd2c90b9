"""The main job end to end, on a line that the computer draws: export, prove, compile, run, look."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrp_edge.card import MaskSpec, ModelCard
from lrp_edge.errors import LrpEdgeError, needs_extra
from lrp_edge.runtime.overlay import draw_relevance
from lrp_edge.runtime.run import Summary
from lrp_edge.runtime.segmentation import Segmentation
from lrp_edge.runtime.segmenter import Segmenter
from lrp_edge.runtime.sinks import FolderSink
from lrp_edge.runtime.sources import Frame
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
        The decided class and its score.
    defect : bool
        Whether that is a defect.
    iou : float
        Of the mask with the drawn one; 1 where both are empty.
    image : str
        Name of its pictures in ``frames/``, ``overlays/``, ``relevance/``, ``truth/`` and ``masks/``.
    """

    frame: int
    truth: str
    name: str
    score: float
    defect: bool
    iou: float
    image: str

    @property
    def right(self) -> bool:
        """Whether the class is the drawn one."""
        return self.name == self.truth


def demo(
    output: str | Path, *, frames: int = 48, seed: int = 0, say: Callable[[str], None] = lambda line: None
) -> Path:
    """Export the shipped checkpoint, prove and compile it, and run it over a drawn inspection line.

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
        The page to look at.

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
        CHECKPOINT, output, card=demo_card(card), calibration=calibration, false_alarms=0.02, name="surfaces"
    )
    segmenter = Segmenter(model)
    parity = segmenter.card.parity
    say(f"exported {model} ({model.stat().st_size / 1e6:.1f} MB)")
    say(
        f"verified against PyTorch in float64: labels {parity['label_agreement']:.0%} alike, scores within "
        f"{parity['scores_max']:.1e}, relevance within {parity['relevance_max']:.1e} of its maximum"
    )
    engine = _compile(model, say)
    parts, summary = _run_line(segmenter, output, frames, seed)
    for line in summary.lines():
        say(line)
    _write_table(output / "results.csv", parts)
    page = _write_page(output, parts, summary, segmenter.card, model, engine)
    say(f"open {page}")
    return page


def demo_card(card: ModelCard) -> ModelCard:
    """Return the card of the demo's export: fixed size, masks calibrated on defect-free parts alone."""
    from dataclasses import replace

    return card.replace(
        input=replace(card.input, size=SIZE),
        explained="contrast",
        composite="Segmentation",
        mask=MaskSpec("calibrated", smoothing="gaussian:1.0"),
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


def _run_line(segmenter: Segmenter, output: Path, count: int, seed: int) -> tuple[list[Part], Summary]:
    from time import perf_counter, time

    parts, summary, start = [], Summary(), perf_counter()
    for folder in ("frames", "truth", "relevance"):
        (output / folder).mkdir(parents=True, exist_ok=True)
    with FolderSink(output, "GRAY", overwrite=True) as sink:
        for index in range(count):
            kind = KINDS[(index * 5 + seed) % 8 // 2] if index % 2 else "ok"
            image, truth = draw(kind, _FIRST_PART + 1_000_003 * seed + index)
            result = segmenter(image)
            sink.write(Frame(index, f"{kind}.png", image[..., None], time()), result)
            name = f"{index:06d}_{kind}.png"
            _pictures(output, name, image, truth, result)
            score = float(result.scores[result.label])
            parts.append(Part(index, kind, result.name, score, result.defect, _iou(result.mask, truth), name))
            summary.frames += 1
            summary.milliseconds.append(result.milliseconds)
            summary.names[result.name] += 1
            summary.defects += result.defect
    summary.seconds = perf_counter() - start
    return parts, summary


def _pictures(output: Path, name: str, image: UInt8, truth: UInt8, result: Segmentation) -> None:
    for folder, pixels in (("frames", image), ("truth", truth), ("relevance", draw_relevance(result))):
        (output / folder / name).write_bytes(cv2.imencode(".png", pixels)[1].tobytes())


def _iou(mask: UInt8, truth: UInt8) -> float:
    either = np.count_nonzero(mask | truth)
    return np.count_nonzero(mask & truth) / either if either else 1.0


def _write_table(path: Path, parts: Sequence[Part]) -> None:
    draft = path.with_name(f".{path.name}")
    with draft.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("frame", "drawn", "decided", "score", "iou"))
        for part in parts:
            writer.writerow((part.frame, part.truth, part.name, f"{part.score:.4f}", f"{part.iou:.4f}"))
    os.replace(draft, path)


def figures(parts: Sequence[Part]) -> dict[str, Any]:
    """Return the line's figures: class accuracy, verdicts, and mean IoU of the masks over parts with a defect."""
    if not parts:
        raise LrpEdgeError("the line has no part; expected one or more frames")
    defects = [part for part in parts if part.truth != "ok"]
    return {
        "frames": len(parts),
        "accuracy": sum(part.right for part in parts) / len(parts),
        "verdicts": sum((part.truth != "ok") == part.defect for part in parts) / len(parts),
        "iou": float(np.mean([part.iou for part in defects])) if defects else 1.0,
    }


def _write_page(
    output: Path, parts: Sequence[Part], summary: Summary, card: ModelCard, model: Path, engine: Path | None
) -> Path:
    p50, p99 = np.percentile(summary.milliseconds, (50, 99))
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    page = environment.from_string(_TEMPLATE.read_text()).render(
        parts=sorted(parts, key=lambda part: (part.right, part.iou)),
        figures=figures(parts),
        p50=p50,
        p99=p99,
        card=card,
        model=(model.name, model.stat().st_size / 1e6),
        engine=(engine.name, engine.stat().st_size / 1e6) if engine else None,
    )
    path = output / "index.html"
    draft = output / ".index.html"
    draft.write_text(page)
    os.replace(draft, path)
    return path
