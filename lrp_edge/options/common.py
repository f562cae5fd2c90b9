"""Options of several verbs, which mean the same in each of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lrp_edge.options.declare import OptionGroup, option


@dataclass(frozen=True)
class Common(OptionGroup):
    """Words that mean the same wherever they stand; groups take them with :func:`~lrp_edge.options.like`."""

    seed: int = option(0, "Random seed.", least=0)
    count: int = option(400, "Number of drawn parts.", least=8)
    split: Path | None = option(
        None, "split.json of a training run or of lrp-edge data split.", metavar="FILE", panel="Data"
    )
    part: Literal["train", "val", "test"] = option("test", "Part of the split.", panel="Data")
    val: float = option(
        0.1, "Share of the images for validation, where no split is given.", least=0, below=1, panel="Data"
    )
    test: float = option(
        0.3, "Share of the images for the test, where no split is given.", least=0, below=1, panel="Data"
    )
    ok_class: str | None = option(
        None, "The class without defect.", usual="known by its name", metavar="NAME", panel="Data"
    )
    false_alarm_rate: float = option(0.05, "Share of OK images that may be decided to be defects.", least=0, most=1)
    explained: str | None = option(
        None,
        "What is explained: predicted, contrast, defect, evidence or a class name.",
        usual="the checkpoint's",
        flag="--explain",
        metavar="NAME",
    )
    frames: str = option("", "Real frames: file, folder, glob or video.", metavar="FRAMES", panel="Frames")
    weights: Path | None = option(
        None,
        "Weights for module:factory, timm:NAME or torchvision:NAME: a state dict, or a checkpoint that holds one.",
        metavar="FILE",
        panel="Model",
    )
    json: str | None = option(
        None, "Write all figures as JSON to a file; with - or no name, print them.", metavar="FILE"
    )


@dataclass(frozen=True)
class PictureOptions(OptionGroup, panel="Data"):
    """What files of pictures do not say themselves."""

    bits: int | None = option(
        None,
        "Bits in use of each value of 16-bit pictures, e.g. 12 for a 12-bit camera; the upper 8 of them are kept.",
        least=8,
        most=16,
        usual="all 16; refused where fewer seem to be",
    )
    max_megapixels: float = option(
        128.0, "Largest picture that is decoded, in millions of pixels.", above=0, metavar="MILLIONS"
    )


@dataclass(frozen=True)
class DataOptions(PictureOptions, panel="Data"):
    """How a set of labelled images is read."""

    masks: Path | None = option(
        None,
        "Folder with pixel truth under the images' names, also with _mask, _GT or _label behind.",
        metavar="FOLDER",
    )
    group: str | None = option(
        None, "Regular expression on images' names: what it matches is the group of an image.", metavar="REGEX"
    )
    skip_bad: bool = option(False, "Leave out images that cannot be read, and name them.")
