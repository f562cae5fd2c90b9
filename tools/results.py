"""The experiments behind docs/results.md: train, evaluate, keep the figures, and write the page from them.

``python -m tools.results runs DATA`` trains and measures whatever is not in ``runs/results`` yet, and keeps the figures
of each run as JSON in ``docs/results``. ``python -m tools.results page`` writes ``docs/results.md`` from those alone.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from safetensors import safe_open

HERE = Path(__file__).resolve().parents[1] / "docs"
STORE, RUNS = HERE / "results", Path("runs/results")
SEEDS = (0, 1, 2)
#: What is trained, and what each is measured with.
NETWORKS: dict[str, tuple[str, ...]] = {
    "image": ("lrp", "gradcam", "inverted-gray"),
    "patch": ("lrp", "gradcam"),
    "pixel": ("lrp",),
}
TITLES = {
    ("image", "lrp"): "LRP",
    ("patch", "lrp"): "LRP",
    ("image", "gradcam"): "Grad-CAM",
    ("patch", "gradcam"): "Grad-CAM",
    ("image", "inverted-gray"): "inverted gray",
    ("pixel", "lrp"): "U-Net",
}
#: What is trained, other than measured on something trained.
TRAINED = ("LRP", "U-Net")
#: What validation says of a classifier and of a U-Net.
VALIDATED = {"val_auroc", "val_iou"}
#: Defects whose outline is their meaning, and what is asked of the method.
FINE = ("MT_Blowhole", "MT_Crack")
CLASS_AUROC, IOU_RATIO = 0.97, 0.8
PACKAGES = ("lrp-edge", "torch", "lightning", "monai", "kornia", "scikit-learn", "scikit-image")


def run_all(data: Path, jobs: int, splits: Sequence[str]) -> None:
    """Train and measure all that is missing."""
    RUNS.mkdir(parents=True, exist_ok=True)
    for name in splits:
        split = RUNS / f"{name}.json"
        if not split.exists():
            lrp_edge("data", "split", data, "-o", split, *(["--grouped"] if name == "grouped" else []))
    clicks = RUNS / "clicks.csv"
    if not clicks.exists():
        lrp_edge("data", "clicks", data, "-o", clicks)
    work = [
        (split, supervision, seed)
        for split in splits
        for seed in (SEEDS if split == "random" else SEEDS[:1])
        for supervision in NETWORKS
    ]
    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(lambda job: run_one(data, *job), work))


def run_one(data: Path, split: str, supervision: str, seed: int) -> None:
    """Train one network and evaluate it with every method; existing results are kept."""
    folder = RUNS / f"{split}-{supervision}-{seed}"
    checkpoint, parts = folder / "model.safetensors", RUNS / f"{split}.json"
    if not checkpoint.exists():
        resume = ["--resume"] if (folder / "resume.ckpt").exists() else ["--split", parts]
        config = HERE / "results" / f"{supervision}.toml"
        lrp_edge("train", data, "-o", folder, "--config", config, "--seed", seed, "--no-progress", *resume)
    if not (folder / "commit").exists():
        (folder / "commit").write_text(head())
    for method in NETWORKS[supervision]:
        stored = STORE / f"{split}-{supervision}-{method}-{seed}.json"
        if stored.exists():
            continue
        extra = ["--sanity"] if method == "lrp" and supervision != "pixel" else []
        report = ["--report", folder / method]
        figures = folder / f"{method}.json"
        if not figures.exists():
            arguments = (checkpoint, data, "--split", parts, "--method", method, "--json", figures)
            lrp_edge("evaluate", *arguments, *extra, *report)
        keep(stored, figures, checkpoint, parts)


def keep(stored: Path, figures: Path, checkpoint: Path, parts: Path) -> None:
    """Keep the figures of a run without its images' names, and where they come from."""
    content = json.loads(figures.read_text())
    content["sizes"] = [
        {"label": case["label"], "area": case["truth"]["area"], "iou": round(case["iou"], 4)}
        for case in content.pop("cases")
        if case["iou"] is not None
    ]
    with safe_open(checkpoint, framework="numpy") as file:
        card = json.loads(file.metadata()["lrp_edge"])
        names = file.keys()
        content["weights"] = sum(int(np.prod(file.get_slice(name).get_shape())) for name in names)
    content["training_seconds"] = card["provenance"]["seconds"]
    content["training_images"] = card["provenance"]["images"]
    content["mask"] = card["mask"]
    content["split_sha256"] = hashlib.sha256(parts.read_bytes()).hexdigest()
    content["packages"] = {name: version(name) for name in PACKAGES}
    content["machine"] = f"{platform.machine()}, one thread"
    epochs = json.loads((checkpoint.parent / "metrics.json").read_text())["epochs"]
    content["epochs"] = len(epochs)
    content["validation"] = [entry for entry in epochs if VALIDATED & entry.keys()]
    content["commit"] = (checkpoint.parent / "commit").read_text()
    stored.write_text(json.dumps(content, indent=1) + "\n")


def head() -> str:
    """Return the commit that is checked out."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def lrp_edge(*arguments: object) -> None:
    """Run the command line in a process of its own, as a user does."""
    words = [str(argument) for argument in arguments]
    print("lrp-edge", *words, flush=True)
    subprocess.run([sys.executable, "-m", "lrp_edge", *words], check=True)


def page() -> str:
    """Write the page from the stored figures."""
    runs = {path.stem: json.loads(path.read_text()) for path in sorted(STORE.glob("*.json"))}
    if not runs:
        sys.exit(f"no figures in {STORE}; make them with: python -m tools.results runs DATA")
    template = (HERE / "results" / "page.md").read_text()
    draw_sizes(runs, "random", STORE / "sizes.png")
    draw_learning(runs, "random", STORE / "learning.png")
    first = next(iter(runs.values()))
    parts = {
        "train": sum(first["training_images"].values()),
        "test": first["images"],
        "split": first["split_sha256"][:12],
        "seeds": ", ".join(
            f"{len(found)} ({name})" for title, name, found in groups(runs, "random") if title in TRAINED
        ),
        "sanity_images": max(int(run.get("sanity", {}).get("images", 0)) for run in runs.values()),
        "claim": "\n".join(claim_table(runs, "random")),
        "classes": "\n".join(class_table(runs, "random")),
        "masks": "\n".join(mask_table(runs, "random")),
        "ratios": "\n".join(ratio_table(runs, "random")),
        "grouped": "\n".join(grouped_section(runs)),
        "cost": "\n".join(cost_table(runs)),
        "sanity": "\n".join(sanity_table(runs)),
        "made": made(runs),
    }
    return template.format(**parts)


def groups(runs: dict[str, Any], split: str) -> Iterator[tuple[str, str, list[Any]]]:
    """Each kind of model with its runs over the seeds."""
    for (supervision, method), title in TITLES.items():
        found = [run for name, run in runs.items() if name.startswith(f"{split}-{supervision}-{method}-")]
        if found:
            yield title, supervision, found


def spread(values: Sequence[float | None], digits: int = 3) -> str:
    """Mean ± standard deviation over the seeds."""
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    mean = f"{np.mean(known):.{digits}f}"
    return f"{mean} ± {np.std(known, ddof=1):.{digits}f}" if len(known) > 1 else mean


def claim_table(runs: dict[str, Any], split: str) -> Iterator[str]:
    """The claims of the method, and the measured values."""
    yield "| asked | supervision | found | met |"
    yield "| :--- | :--- | ---: | :--- |"
    found = {(title, supervision): these for title, supervision, these in groups(runs, split)}
    own = [(supervision, these) for (title, supervision), these in found.items() if title == "LRP"]
    for supervision, these in own:
        scores = [run["auroc"] for run in these]
        met = "yes" if np.mean(scores) >= CLASS_AUROC else "no"
        yield f"| class AUROC ≥ {CLASS_AUROC} | {supervision} | {spread(scores)} | {met} |"
    for kind, (supervision, these) in product((*FINE, "all defects"), own):
        share = ratio(these, found.get(("U-Net", "pixel"), []), kind)
        if share is not None:
            met = "yes" if share >= IOU_RATIO else "no"
            yield f"| {kind}: IoU ≥ {IOU_RATIO} × U-Net's | {supervision} | {share:.2f} × | {met} |"
    for kind, (supervision, these) in product((*FINE, "all defects"), own):
        for below, given in (("Grad-CAM", supervision), ("inverted gray", "image")):
            values = [mean_iou(runs_of, kind) for runs_of in (these, found.get((below, given), []))]
            met = "yes" if values[0] > values[1] else "no"
            yield f"| {kind}: {below} below | {supervision} | {values[1]:.3f} against {values[0]:.3f} | {met} |"


def class_table(runs: dict[str, Any], split: str) -> Iterator[str]:
    yield "| classifier | supervision | class AUROC | OK/defect accuracy | recall at 5 % false alarms | runs |"
    yield "| :--- | :--- | ---: | ---: | ---: | ---: |"
    for title, supervision, found in groups(runs, split):
        if title not in TRAINED:
            continue
        name = "U-Net, highest pixel" if title == "U-Net" else "VGG-A"
        cells = [spread([run[key] for run in found]) for key in ("auroc", "defect_accuracy", "recall_at_rate")]
        yield f"| {name} | {supervision} | {' | '.join(cells)} | {len(found)} |"


def mask_table(runs: dict[str, Any], split: str) -> Iterator[str]:
    some = next((found[0] for _, _, found in groups(runs, split)), None)
    if some is None:
        yield "No run yet."
        return
    kinds = list(some["pixels"])
    yield f"| mask | supervision | figure | {' | '.join(kinds)} |"
    yield "| :--- | :--- | :--- |" + " ---: |" * len(kinds)
    for title, supervision, found in groups(runs, split):
        for label, key in (
            ("IoU", "iou"),
            ("precision", "precision"),
            ("recall", "recall"),
            ("IoU best", "iou_best"),
            ("AUPRO", "aupro"),
            ("AUROC per image", "auroc_per_image"),
        ):
            cells = [spread([run["pixels"][kind][key] for run in found if kind in run["pixels"]]) for kind in kinds]
            yield f"| {title} | {supervision} | {label} | {' | '.join(cells)} |"


def ratio_table(runs: dict[str, Any], split: str) -> Iterator[str]:
    """IoU of each mask over that of the U-Net on the same images."""
    found = {(title, supervision): these for title, supervision, these in groups(runs, split)}
    base = found.pop(("U-Net", "pixel"), None)
    if base is None:
        yield "No U-Net yet."
        return
    kinds = list(base[0]["pixels"])
    yield f"| mask | supervision | {' | '.join(kinds)} |"
    yield "| :--- | :--- |" + " ---: |" * len(kinds)
    for (title, supervision), these in found.items():
        shares = [ratio(these, base, kind) for kind in kinds]
        cells = ["–" if share is None else f"{share:.2f}" for share in shares]
        yield f"| {title} | {supervision} | {' | '.join(cells)} |"


def ratio(own: Sequence[Any], base: Sequence[Any], kind: str) -> float | None:
    """Ratio of mean IoU; None without a baseline to compare with."""
    means = [mean_iou(part, kind) for part in (own, base)]
    return means[0] / means[1] if means[1] else None


def mean_iou(found: Sequence[Any], kind: str) -> float:
    """Return the mean over the seeds; 0 where there is no run."""
    return float(np.mean([run["pixels"][kind]["iou"] for run in found] or [0.0]))


def draw_sizes(runs: dict[str, Any], split: str, path: Path) -> None:
    """Draw the IoU of each defect image over the area of its defects, a panel for each of LRP and U-Net."""
    panels = [(title, supervision, found) for title, supervision, found in groups(runs, split) if title in TRAINED]
    figure = Figure(figsize=(4 * len(panels), 4), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axis, (title, supervision, found) in zip(axes, panels, strict=True):
        for label in found[0]["defects"]:
            shown = [size for run in found for size in run["sizes"] if size["label"] == label]
            axis.scatter([s["area"] for s in shown], [s["iou"] for s in shown], 8, alpha=0.6, label=label[3:])
        axis.set(title=f"{title}, {supervision}", xscale="log", xlabel="defective pixels of the image")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("IoU of its mask")
    figure.legend(*axes[-1].get_legend_handles_labels(), loc="outside upper center", ncols=5)
    figure.savefig(path, dpi=90, metadata={"Software": None})


def draw_learning(runs: dict[str, Any], split: str, path: Path) -> None:
    """Plot validation metrics over the minutes of training: a panel for each of LRP and U-Net, a line a seed."""
    panels = [(title, supervision, found) for title, supervision, found in groups(runs, split) if title in TRAINED]
    figure = Figure(figsize=(4 * len(panels), 3), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (title, supervision, found) in zip(axes, panels, strict=True):
        name = "val_iou" if title == "U-Net" else "val_auroc"
        for run in found:
            minutes = run["training_seconds"] / 60 / run["epochs"]
            points = [(entry["epoch"] * minutes, entry[name]) for entry in run["validation"]]
            axis.plot(*zip(*points, strict=True), marker="o")
        label = "pixel IoU" if title == "U-Net" else "class AUROC"
        axis.set(
            title=f"{title}, {supervision}", ylim=(0, 1), xlabel="minutes of training", ylabel=f"validation {label}"
        )
        axis.grid(alpha=0.3)
    figure.savefig(path, dpi=90, metadata={"Software": None})


def grouped_section(runs: dict[str, Any]) -> Iterator[str]:
    """What is left when exposures of a tile are kept together; nothing if that was not run."""
    if not any(name.startswith("grouped-") for name in runs):
        return
    yield "## With exposures of a tile kept together"
    yield ""
    yield from class_table(runs, "grouped")
    yield ""
    yield from mask_table(runs, "grouped")
    yield ""
    yield from ratio_table(runs, "grouped")


def cost_table(runs: dict[str, Any]) -> Iterator[str]:
    yield "| model | label effort for the training images | weights | training minutes, one thread | ms an image |"
    yield "| :--- | :--- | ---: | ---: | ---: |"
    for title, supervision, found in groups(runs, "random"):
        if title not in TRAINED:
            continue
        images = found[0]["training_images"]
        total = sum(images.values())
        defects = total - images["MT_Free"]
        effort = {
            "image": f"{total} images × 1 click",
            "patch": f"{total} images × 1 click, and a click on each defect of {defects}",
            "pixel": f"{total} images × 1 click, and the outline of each defect of {defects}",
        }[supervision]
        minutes = spread([run["training_seconds"] / 60 for run in found], 1)
        speed = spread([run["milliseconds"] for run in found], 0)
        yield f"| {title} | {effort} | {found[0]['weights']:,} | {minutes} | {speed} |"


def sanity_table(runs: dict[str, Any]) -> Iterator[str]:
    columns = (
        "pixel AUROC",
        "weights shuffled",
        "other defect explained",
        "rank correlation: shuffled",
        "other defect",
    )
    yield f"| supervision | {' | '.join(columns)} |"
    yield "| :--- |" + " ---: |" * len(columns)
    keys = (
        "pixel_auroc", "pixel_auroc_random", "pixel_auroc_other_class",
        "rank_correlation_random", "rank_correlation_other_class",
    )  # fmt: skip
    for title, supervision, found in groups(runs, "random"):
        if title == "LRP":
            yield f"| {supervision} | {' | '.join(spread([run['sanity'].get(key) for run in found]) for key in keys)} |"


def made(runs: dict[str, Any]) -> str:
    commits = sorted({run["commit"] for run in runs.values()})
    packages = next(iter(runs.values()))["packages"]
    machines = sorted({run["machine"] for run in runs.values()})
    listed = ", ".join(f"{name} {number}" for name, number in packages.items())
    return f"{len(runs)} evaluations, trained at commit {', '.join(commits)}, on {'; '.join(machines)}, with {listed}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    runs = commands.add_parser("runs", help="train and measure what is missing")
    runs.add_argument("data", type=Path)
    runs.add_argument("--jobs", type=int, default=2, help="trainings at a time, one thread each")
    runs.add_argument("--splits", nargs="+", default=["random"], help="random, grouped")
    commands.add_parser("page", help="write docs/results.md from the stored figures")
    arguments = parser.parse_args()
    if arguments.command == "runs":
        run_all(arguments.data, arguments.jobs, arguments.splits)
    else:
        (HERE / "results.md").write_text(page())


if __name__ == "__main__":
    main()
