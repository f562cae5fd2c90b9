"""docs/results.md and the figures in the README, from what is stored."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lrp_edge.files import write_text
from tools.results import plan
from tools.results.pictures import draw_learning, draw_sizes
from tools.results.plan import LRP
from tools.results.tables import (
    ALL,
    FINE,
    claim_table,
    class_table,
    cost_table,
    groups,
    mask_table,
    ratio,
    ratio_table,
    sanity_table,
    spread,
)

START, END = "<!-- results: written by make results -->\n", "<!-- results: end -->\n"


def stored() -> dict[str, Any]:
    """Return the stored figures of all runs, by the names of their files."""
    folder = plan.DOCS / "results"
    runs = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    if not runs:
        sys.exit(f"no figures in {folder}; make them with: python -m tools.results runs DATA")
    return runs


def page() -> str:
    """Return the page, and draw its pictures."""
    runs, folder = stored(), plan.DOCS / "results"
    draw_sizes(runs, "random", folder / "sizes.png")
    draw_learning(runs, "random", folder / "learning.png")
    first = next(run for stem, run in runs.items() if stem.startswith("random-"))
    trained = [group for group in groups(runs, "random") if group.is_trained]
    parts = {
        "split": split_of(first),
        "seeds": ", ".join(f"{len(g.runs)} ({g.network.title}, {g.network.supervision})" for g in trained),
        "sanity_images": max(int(run.get("sanity", {}).get("images", 0)) for run in runs.values()),
        "claim": "\n".join(claim_table(runs, "random")),
        "classes": "\n".join(class_table(runs, "random")),
        "masks": "\n".join(mask_table(runs, "random")),
        "ratios": "\n".join(ratio_table(runs, "random")),
        "pictures": "\n".join(picture_section("random")),
        "grouped": "\n".join(grouped_section(runs)),
        "cost": "\n".join(cost_table(runs)),
        "sanity": "\n".join(sanity_table(runs)),
        "made": made(runs),
    }
    text = (folder / "page.md").read_text().format(**parts)
    # What there is nothing of yet leaves no gap.
    return re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n"


def split_of(run: dict[str, Any]) -> str:
    """Say which images a run was trained and measured on."""
    train, test, name = sum(run["training_images"].values()), run["images"], run["split_sha256"][:12]
    return f"SHA-256 {name}: {train} images to train on, {test} to test, the rest for validation and calibration"


def picture_section(split: str) -> Iterator[str]:
    """The masks of a split, if they were drawn."""
    if (plan.DOCS / "results" / f"masks-{split}.png").exists():
        yield f"![Masks of the best, the median and the worst test image of each class](results/masks-{split}.png)"
        yield ""
        yield (
            "The mask is the area, the truth the blue line, the number their IoU; the data's images may not be shown. "
            "They are chosen by the IoU of the first row, seed 0."
        )


def grouped_section(runs: dict[str, Any]) -> Iterator[str]:
    """What is left when exposures of a tile are kept together; nothing if that was not run."""
    if not any(name.startswith("grouped-") for name in runs):
        return
    yield "## With exposures of a tile kept together"
    yield ""
    first = next(run for stem, run in runs.items() if stem.startswith("grouped-"))
    yield f"Of this split (`lrp-edge data split --grouped`, {split_of(first)}), what was measured so far:"
    for part in (claim_table, class_table, mask_table, ratio_table):
        yield ""
        yield from part(runs, "grouped")
    yield ""
    yield from picture_section("grouped")


def headline(runs: dict[str, Any]) -> Iterator[str]:
    """The figures of the best classifier from image labels that was measured, for the README."""
    yield "Measured on magnetic tiles ([all figures](docs/results.md)): IoU of masks from image labels, and in brackets"
    yield "its ratio to that of a U-Net that was trained with pixel masks, the better one where there are several."
    yield ""
    names = [kind.removeprefix("MT_").lower() for kind in (*FINE, ALL)]
    yield f"| trained with image labels | seeds | class AUROC | {' | '.join(names)} |"
    yield "| :--- |" + " ---: |" * (2 + len(names))
    for split in plan.SPLITS:
        found = groups(runs, split)
        best = next((group for group in found if group.mask == LRP and group.network.supervision == "image"), None)
        if best is None:
            continue
        cells = [str(len(best.runs)), spread([run["auroc"] for run in best.runs])]
        for kind in (*FINE, ALL):
            share = ratio(best, [group for group in found if group.name in plan.BASELINES], kind)
            iou = spread([run["pixels"][kind]["iou"] for run in best.runs if kind in run["pixels"]])
            cells.append(iou if share is None else f"{iou} ({share:.2f} ×)")
        yield f"| {best.network.title}, {split} split | " + " | ".join(cells) + " |"
    if (plan.DOCS / "results" / "masks-random.png").exists():
        yield ""
        yield "![Masks from image labels, and those of U-Nets](docs/results/masks-random.png)"


def write_readme(path: Path, runs: dict[str, Any]) -> None:
    """Replace what stands between the two marks of a README by the figures."""
    text = path.read_text()
    lines = "\n".join(headline(runs)) + "\n"
    written, count = re.subn(f"(?s){re.escape(START)}.*?{re.escape(END)}", lambda _: START + lines + END, text)
    if count != 1:
        sys.exit(f"{path} has {count} places for the figures; expected one, between {START.strip()} and {END.strip()}")
    write_text(path, written)


def made(runs: dict[str, Any]) -> str:
    commits = sorted({run["commit"] for run in runs.values()})
    packages = {name: number for run in runs.values() for name, number in run["packages"].items()}
    machines = sorted({run["machine"] for run in runs.values()})
    listed = ", ".join(f"{name} {number}" for name, number in packages.items())
    return f"{len(runs)} evaluations, trained at commit {', '.join(commits)}, on {'; '.join(machines)}, with {listed}."
