"""An evaluation as a page: curves, tables, and the best and worst cases side by side."""

from __future__ import annotations

import base64
import io
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrp_edge.datasets import Dataset, Sample, read_mask
from lrp_edge.errors import needs_extra
from lrp_edge.evaluation.predictors import Predictor
from lrp_edge.evaluation.run import Case, Evaluation
from lrp_edge.files import claim_folder, write_text
from lrp_edge.runtime.overlay import draw_relevance, to_bgr

with needs_extra("evaluate"):
    import cv2
    from jinja2 import Environment
    from matplotlib.figure import Figure

PAGE, FIGURES = "index.html", "evaluation.json"
CASES = 6


def write_report(
    folder: str | Path, evaluation: Evaluation, predictor: Predictor, dataset: Dataset, title: str, model: str
) -> Path:
    """Write ``index.html``, all that it shows inside it, and ``evaluation.json``.

    Parameters
    ----------
    folder : path
        Created if needed.
    evaluation : Evaluation
        What was measured.
    predictor : Predictor
        What was measured, to show its answers to the best and the worst cases.
    dataset : Dataset
        The images.
    title, model : str
        Headings.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    LrpEdgeError
        If the folder cannot be written.
    """
    target = claim_folder(folder)
    samples = dict(zip(dataset.names, dataset.samples, strict=True))
    measured = [case for case in evaluation.cases if case.iou is not None]
    ordered = sorted(measured, key=lambda case: (-(case.iou or 0.0), case.name))
    alarms = sorted(
        (case for case in evaluation.cases if case.label not in evaluation.defects and case.found.area),
        key=lambda case: -case.found.area,
    )
    galleries = [
        ("Best masks", ordered[:CASES]),
        ("Worst masks", ordered[CASES:][-CASES:][::-1]),
        ("Largest masks on OK images", alarms[:CASES]),
    ]
    page = Environment(autoescape=True).from_string(files("lrp_edge").joinpath("assets/report.html").read_text())
    write_text(
        target / PAGE,
        page.render(
            title=title,
            model=model,
            result=evaluation,
            usable=evaluation.usability.lines() if evaluation.usability else [],
            columns=list(asdict(next(iter(evaluation.pixels.values())))) if evaluation.pixels else [],
            curves=[_curve(name, curves) for name, curves in _curves(evaluation).items()],
            galleries=[
                (heading, [_shown(case, samples[case.name], predictor) for case in cases])
                for heading, cases in galleries
            ],
        ),
    )
    write_text(target / FIGURES, evaluation.to_json())
    return target / PAGE


def _curves(evaluation: Evaluation) -> dict[str, dict[str, Any]]:
    curves = {"OK against defect, by image": {f"AUROC {evaluation.auroc:.3f}": evaluation.curves["class"]}}
    if evaluation.pixels:
        curves["Relevance against pixel truth, by pixel"] = {
            f"{name}, {evaluation.pixels[name].auroc:.3f}": curve for name, curve in evaluation.curves["pixel"].items()
        }
    return curves


def _curve(title: str, curves: dict[str, Any]) -> str:
    figure = Figure(figsize=(5.4, 4.2), layout="constrained")
    axes = figure.subplots()
    for name, (false, true) in curves.items():
        axes.plot(false, true, label=name)
    axes.plot([0, 1], [0, 1], color="0.8", zorder=0)
    axes.set(xlabel="false alarms", ylabel="recall", title=title)
    axes.legend(loc="lower right", fontsize="small")
    with io.BytesIO() as file:
        figure.savefig(file, format="png", dpi=90)
        return _inline(file.getvalue())


def _shown(case: Case, sample: Sample, predictor: Predictor) -> dict[str, Any]:
    frame = sample.read(predictor.card.input.order)
    result = predictor(frame)
    truth = np.where(read_mask(sample, result.mask.shape), 255, 0).astype(np.uint8)
    pictures = (to_bgr(frame, predictor.card.input.order), truth, result.mask, draw_relevance(result))
    return {**asdict(case), "pictures": [_picture(picture) for picture in pictures]}


def _picture(pixels: NDArray[np.uint8]) -> str:
    return _inline(cv2.imencode(".png", pixels)[1].tobytes())


def _inline(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()
