"""Train and measure what is missing, one run after another or some at a time."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from lrp_edge.decision import calibrate
from lrp_edge.errors import LrpEdgeError
from lrp_edge.files import write_text
from tools.results import plan
from tools.results.plan import BUDGETS, EVALUATED, NEEDED, NETWORKS, PACKAGES, Run, planned

#: What validation says of a classifier and of a U-Net.
VALIDATED = {"val_auroc", "val_iou"}


def run_all(data: Path, jobs: int, splits: Sequence[str], only: str = "*") -> None:
    """Train and measure all that is missing."""
    plan.RUNS.mkdir(parents=True, exist_ok=True)
    for name in splits:
        split = plan.RUNS / f"{name}.json"
        if not split.exists():
            lrp_edge("data", "split", data, "-o", split, *(["--grouped"] if name == "grouped" else []))
    clicks = plan.RUNS / "clicks.csv"
    if not clicks.exists():
        lrp_edge("data", "clicks", data, "-o", clicks)
    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(lambda run: run_one(data, run), planned(splits, only)))


def state(run: Run) -> str:
    """Say what a run still needs."""
    if all(is_measured(run.stored(method)) for method in NETWORKS[run.network].masks):
        return "done"
    if run.checkpoint.exists():
        return "to be measured"
    begun = "begun, " if (run.folder / "resume.ckpt").exists() else ""
    return f"{begun}to be trained, about {NETWORKS[run.network].minutes} min on one core"


def is_measured(stored: Path) -> bool:
    """Whether figures are stored, all that the page states of them."""
    return _has(stored, NEEDED)


def _has(figures: Path, needed: set[str]) -> bool:
    return figures.exists() and json.loads(figures.read_text()).keys() >= needed


def run_one(data: Path, run: Run) -> None:
    """Train one network and evaluate it with every method; what is there already is kept."""
    if state(run) == "done":
        return
    if not run.checkpoint.exists():
        resume = ["--resume"] if (run.folder / "resume.ckpt").exists() else ["--split", run.parts, "--overwrite"]
        config = plan.DOCS / "results" / f"{run.network}.toml"
        lrp_edge("train", data, "-o", run.folder, "--config", config, "--seed", run.seed, "--no-progress", *resume)
    if not (run.folder / "commit").exists():
        write_text(run.folder / "commit", head())
    validation = measured(data, run, "lrp", "val")
    for method in NETWORKS[run.network].masks:
        if not is_measured(run.stored(method)):
            keep(run, method, measured(data, run, method, "test"), validation)


def measured(data: Path, run: Run, method: str, part: str) -> Any:
    """Evaluate a checkpoint on a part of the split, unless that was done; return all figures."""
    figures = run.folder / f"{method}-{part}.json"
    if not _has(figures, EVALUATED):
        is_last = part == "test"
        sanity = ["--sanity"] if is_last and method == "lrp" and NETWORKS[run.network].supervision != "pixel" else []
        report = ["--report", run.folder / method] if is_last else []
        arguments = (run.checkpoint, data, "--split", run.parts, "--part", part, "--method", method)
        lrp_edge("evaluate", *arguments, "--json", figures, *sanity, *report)
    return json.loads(figures.read_text())


def keep(run: Run, method: str, content: dict[str, Any], validation: dict[str, Any]) -> None:
    """Keep the figures of a run without its images' names, and where they come from."""
    cases = content.pop("cases")
    content["sizes"] = [
        {"label": case["label"], "area": case["truth"]["area"], "iou": round(case["iou"], 4)}
        for case in cases
        if case["iou"] is not None
    ]
    content["budgets"] = budgets(validation["cases"], cases, content["defects"])
    with safe_open(run.checkpoint, framework="numpy") as file:
        card = json.loads(file.metadata()["lrp_edge"])
        names = file.keys()
        content["weights"] = sum(int(np.prod(file.get_slice(name).get_shape())) for name in names)
    content["training_seconds"] = card["provenance"]["seconds"]
    content["training_images"] = card["provenance"]["images"]
    content["mask"] = card["mask"]
    content["split_sha256"] = hashlib.sha256(run.parts.read_bytes()).hexdigest()
    content["packages"] = {name: version(name) for name in PACKAGES}
    content["machine"] = f"{platform.machine()}, one thread"
    epochs = json.loads((run.folder / "metrics.json").read_text())["epochs"]
    content["epochs"] = len(epochs)
    content["validation"] = [entry for entry in epochs if VALIDATED & entry.keys()]
    content["commit"] = (run.folder / "commit").read_text()
    write_text(run.stored(method), json.dumps(content, indent=1) + "\n")


def budgets(
    validation: Sequence[Any], test: Sequence[Any], defects: Sequence[str]
) -> dict[str, dict[str, float | None]]:
    """Set a threshold on the OK images of the validation part for each budget; say what it gives on the test.

    A budget that so few images cannot promise has no figures, see :func:`lrp_edge.decision.calibrate`.
    """
    calm = [case["score"] for case in validation if case["label"] not in defects]
    scores = np.array([case["score"] for case in test], np.float32)
    is_defect = np.array([case["label"] in defects for case in test])
    found: dict[str, dict[str, float | None]] = {}
    for rate in BUDGETS:
        try:
            above = scores > np.float32(calibrate(calm, rate).threshold)
        except LrpEdgeError:
            above = None
        found[f"{rate:g}"] = {
            "recall": None if above is None else float(above[is_defect].mean()),
            "false_alarms": None if above is None else float(above[~is_defect].mean()),
        }
    return found


def head() -> str:
    """Return the commit that is checked out."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def lrp_edge(*arguments: object) -> None:
    """Run the command line in a process of its own, as a user does."""
    words = [str(argument) for argument in arguments]
    print("lrp-edge", *words, flush=True)
    subprocess.run([sys.executable, "-m", "lrp_edge", *words], check=True)
