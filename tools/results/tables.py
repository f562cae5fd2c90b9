"""Tables of the page, in Markdown, from the stored figures of all runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from tools.results.plan import BASELINES, BUDGETS, GRADCAM, GRAY, LRP, NETWORKS, UNET, Network

#: Defects whose outline is their meaning.
FINE = ("MT_Blowhole", "MT_Crack")
ALL = "all defects"
#: What is asked of the method: class AUROC; recall at a budget; pixel AUROC per image; IoU over the better U-Net's and
#: over that of the one from scratch.
CLASS_AUROC = 0.99
RECALL = {0.05: 0.95, 0.02: 0.90}
PIXEL_AUROC = {"MT_Blowhole": 0.98, "MT_Crack": 0.98, ALL: 0.90}
OVER_BETTER = {"MT_Blowhole": 1.0, "MT_Crack": 0.8, ALL: 0.7}
OVER_SCRATCH = {"MT_Blowhole": 1.5, "MT_Crack": 1.0, ALL: 0.8}
FIGURES = {
    "IoU": "iou",
    "F1 within 2 px": "f1_near",
    "boundary F1": "boundary_f1",
    "precision": "precision",
    "recall": "recall",
    "IoU best": "iou_best",
    "AUPRO": "aupro",
    "AUROC per image": "auroc_per_image",
}


@dataclass(frozen=True)
class Group:
    """One kind of mask of one network, with its runs over the seeds."""

    name: str
    network: Network
    mask: str
    runs: list[Any]

    @property
    def is_trained(self) -> bool:
        """Whether it is what is trained, other than measured on something trained."""
        return self.mask in (LRP, UNET)

    @property
    def cells(self) -> str:
        """Network and supervision, as two cells of a row."""
        return f"{self.network.title} | {self.network.supervision}"

    def iou(self, kind: str) -> float:
        """Return the mean IoU over the seeds."""
        return float(np.mean([run["pixels"][kind]["iou"] for run in self.runs]))


def groups(runs: dict[str, Any], split: str) -> list[Group]:
    """Return each kind of mask that there are runs of."""
    found = []
    for name, network in NETWORKS.items():
        for method, mask in network.masks.items():
            own = [run for stem, run in runs.items() if stem.startswith(f"{split}-{name}-{method}-")]
            found += [Group(name, network, mask, own)] if own else []
    return found


def spread(values: Sequence[float | None], digits: int = 3) -> str:
    """Mean ± standard deviation over the seeds."""
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    mean = f"{np.mean(known):.{digits}f}"
    return f"{mean} ± {np.std(known, ddof=1):.{digits}f}" if len(known) > 1 else mean


def claim_table(runs: dict[str, Any], split: str) -> Iterator[str]:
    """The claims of the method, and what was measured, for each classifier."""
    yield "| asked | network | supervision | found | met |"
    yield "| :--- | :--- | :--- | ---: | :--- |"
    found = groups(runs, split)
    for group in found:
        if group.mask == LRP:
            for asked, value, met in _claims(group, found):
                yield f"| {asked} | {group.cells} | {value} | {'yes' if met else 'no'} |"


def _claims(group: Group, found: Sequence[Group]) -> Iterator[tuple[str, str, bool]]:
    scores = [run["auroc"] for run in group.runs]
    yield f"class AUROC ≥ {CLASS_AUROC}", spread(scores), bool(np.mean(scores) >= CLASS_AUROC)
    for rate, least in RECALL.items():
        recalls = [value for run in group.runs if (value := _budget(run, rate, "recall")) is not None]
        if recalls:
            yield f"recall at a budget of {rate:.0%} ≥ {least}", spread(recalls), bool(np.mean(recalls) >= least)
    for kind, least in PIXEL_AUROC.items():
        values = [run["pixels"][kind]["auroc_per_image"] for run in group.runs if kind in run["pixels"]]
        if values:
            yield f"{kind}: pixel AUROC per image ≥ {least}", spread(values), bool(np.mean(values) >= least)
    baselines = [other for other in found if other.name in BASELINES]
    scratch = [other for other in baselines if other.name == "pixel"]
    over = ((OVER_BETTER, baselines, "the better U-Net's"), (OVER_SCRATCH, scratch, "that of the U-Net from scratch"))
    for asked, bases, title in over:
        # The better of one is that one.
        for kind, least in asked.items() if bases is scratch or len(bases) > 1 else ():
            share = ratio(group, bases, kind)
            if share is not None:
                yield f"{kind}: IoU ≥ {least} × {title}", f"{share:.2f} ×", share >= least
    below = [other for other in found if other.mask == GRAY or (other.mask, other.name) == (GRADCAM, group.name)]
    for kind, other in product((*FINE, ALL), below):
        if kind in group.runs[0]["pixels"] and kind in other.runs[0]["pixels"]:
            there, own = other.iou(kind), group.iou(kind)
            yield f"{kind}: {other.mask} below", f"{there:.3f} against {own:.3f}", there < own


def class_table(runs: dict[str, Any], split: str) -> Iterator[str]:
    rates = [f"recall at a budget of {rate:.0%} (seen)" for rate in BUDGETS]
    heads = ("class AUROC", "OK/defect accuracy", "recall at 5 % of the test's OK", *rates, "runs")
    yield f"| classifier | supervision | {' | '.join(heads)} |"
    yield "| :--- | :--- |" + " ---: |" * len(heads)
    for group in groups(runs, split):
        if group.is_trained:
            cells = [spread([run[key] for run in group.runs]) for key in ("auroc", "defect_accuracy", "recall_at_rate")]
            for rate in BUDGETS:
                recall, seen = (
                    spread([_budget(run, rate, key) for run in group.runs]) for key in ("recall", "false_alarms")
                )
                cells.append(recall if recall == "–" else f"{recall} ({seen})")
            title = group.network.title + (", highest pixel" if group.mask == UNET else "")
            yield f"| {title} | {group.network.supervision} | {' | '.join(cells)} | {len(group.runs)} |"


def mask_table(runs: dict[str, Any], split: str) -> Iterator[str]:
    found = groups(runs, split)
    if not found:
        yield "No run yet."
        return
    kinds = list(found[0].runs[0]["pixels"])
    yield f"| mask | network | supervision | figure | {' | '.join(kinds)} |"
    yield "| :--- | :--- | :--- | :--- |" + " ---: |" * len(kinds)
    for group, (title, key) in product(found, FIGURES.items()):
        cells = [
            spread([run["pixels"][kind].get(key) for run in group.runs if kind in run["pixels"]]) for kind in kinds
        ]
        if any(cell != "–" for cell in cells):
            yield f"| {group.mask} | {group.cells} | {title} | {' | '.join(cells)} |"


def ratio_table(runs: dict[str, Any], split: str) -> Iterator[str]:
    """IoU of each mask over that of each U-Net, and over that of the better one, on the same images."""
    found = groups(runs, split)
    bases = [group for group in found if group.name in BASELINES]
    if not bases:
        yield "No U-Net yet."
        return
    kinds = list(bases[0].runs[0]["pixels"])
    yield f"| mask | network | supervision | over | {' | '.join(kinds)} |"
    yield "| :--- | :--- | :--- | :--- |" + " ---: |" * len(kinds)
    over = {base.network.title: [base] for base in bases} | ({"the better U-Net": bases} if len(bases) > 1 else {})
    for group in found:
        if group.name not in BASELINES:
            for title, these in over.items():
                shares = [ratio(group, these, kind) for kind in kinds]
                cells = ["–" if share is None else f"{share:.2f}" for share in shares]
                yield f"| {group.mask} | {group.cells} | {title} | {' | '.join(cells)} |"


def ratio(group: Group, bases: Sequence[Group], kind: str) -> float | None:
    """Ratio of mean IoU to that of the best of some baselines; None without one to compare with."""
    known = [base.iou(kind) for base in bases if kind in base.runs[0]["pixels"]]
    if not known or not max(known) or kind not in group.runs[0]["pixels"]:
        return None
    return group.iou(kind) / max(known)


def cost_table(runs: dict[str, Any]) -> Iterator[str]:
    yield "| model | label effort for the training images | weights | training minutes, one thread | ms an image |"
    yield "| :--- | :--- | ---: | ---: | ---: |"
    for group in groups(runs, "random"):
        if not group.is_trained:
            continue
        images = group.runs[0]["training_images"]
        total = sum(images.values())
        defects = total - images["MT_Free"]
        effort = {
            "image": f"{total} images × 1 click",
            "patch": f"{total} images × 1 click, and a click on each defect of {defects}",
            "pixel": f"{total} images × 1 click, and the outline of each defect of {defects}",
        }[group.network.supervision]
        minutes = spread([run["training_seconds"] / 60 for run in group.runs], 1)
        speed = spread([run["milliseconds"] for run in group.runs], 0)
        yield f"| {group.mask}, {group.network.title} | {effort} | {group.runs[0]['weights']:,} | {minutes} | {speed} |"


def sanity_table(runs: dict[str, Any]) -> Iterator[str]:
    columns = (
        "pixel AUROC",
        "weights shuffled",
        "other defect explained",
        "rank correlation: shuffled",
        "other defect",
    )
    yield f"| network | supervision | {' | '.join(columns)} |"
    yield "| :--- | :--- |" + " ---: |" * len(columns)
    keys = (
        "pixel_auroc", "pixel_auroc_random", "pixel_auroc_other_class",
        "rank_correlation_random", "rank_correlation_other_class",
    )  # fmt: skip
    for group in groups(runs, "random"):
        if group.mask == LRP:
            cells = [spread([run["sanity"].get(key) for run in group.runs]) for key in keys]
            yield f"| {group.cells} | {' | '.join(cells)} |"


def _budget(run: Any, rate: float, key: str) -> float | None:
    """Return what a budget gave; None for figures that were stored without it, or where it could not be promised."""
    value: float | None = run.get("budgets", {}).get(f"{rate:g}", {}).get(key)
    return value
