"""What is trained, with which seeds, on which splits, and what of it is measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import product
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"
RUNS = Path("runs/results")
SEEDS = (0, 1, 2)
SPLITS = ("random", "grouped")
#: False-alarm budgets that a threshold is set for on OK images of the validation part.
BUDGETS = (0.05, 0.02)
#: Figures that what ``lrp-edge evaluate`` wrote must have to count as measured, and what is stored of it.
EVALUATED = {"tolerance"}
NEEDED = {"budgets", *EVALUATED}
PACKAGES = ("lrp-edge", "torch", "lightning", "monai", "segmentation-models-pytorch", "kornia", "scikit-learn",
            "scikit-image")  # fmt: skip


@dataclass(frozen=True)
class Network:
    """What is trained.

    Attributes
    ----------
    title : str
        What it is called on the page.
    supervision : {"image", "patch", "pixel"}
        What a person gave for each image.
    masks : dict of str to str
        By method of ``lrp-edge evaluate``: what masks of that method are called. The first are those that are deployed.
    minutes : int
        What a training on the magnetic tiles takes on one core, about.
    """

    title: str
    supervision: str
    masks: dict[str, str]
    minutes: int


LRP, GRADCAM, GRAY, UNET = "LRP", "Grad-CAM", "inverted gray", "U-Net"
#: By the name of its configuration, ``docs/results/NAME.toml``; the best of each supervision first.
NETWORKS = {
    "image-pretrained": Network("EfficientNet-Lite0, pretrained", "image", {"lrp": LRP, "gradcam": GRADCAM}, 25),
    "image": Network("VGG-A, from scratch", "image", {"lrp": LRP, "gradcam": GRADCAM, "inverted-gray": GRAY}, 20),
    "patch": Network("VGG-A, from scratch", "patch", {"lrp": LRP, "gradcam": GRADCAM}, 16),
    "pixel-pretrained": Network("U-Net, pretrained encoder", "pixel", {"lrp": UNET}, 32),
    "pixel": Network("U-Net, from scratch", "pixel", {"lrp": UNET}, 26),
}
#: The U-Nets that masks are compared with.
BASELINES = tuple(name for name, network in NETWORKS.items() if network.supervision == "pixel")


@dataclass(frozen=True)
class Run:
    """One training, and what is measured of it."""

    split: str
    network: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.split}-{self.network}-{self.seed}"

    @property
    def folder(self) -> Path:
        return RUNS / self.name

    @property
    def parts(self) -> Path:
        return RUNS / f"{self.split}.json"

    @property
    def checkpoint(self) -> Path:
        return self.folder / "model.safetensors"

    def stored(self, method: str) -> Path:
        """Return where the figures of a method are kept."""
        return DOCS / "results" / f"{self.split}-{self.network}-{method}-{self.seed}.json"


def planned(splits: Sequence[str] = SPLITS, only: str = "*") -> Iterator[Run]:
    """Yield the runs whose name fits a pattern: seed by seed, so that a first page is there as early as can be."""
    for seed, split, network in product(SEEDS, splits, NETWORKS):
        run = Run(split, network, seed)
        if fnmatchcase(run.name, only):
            yield run
