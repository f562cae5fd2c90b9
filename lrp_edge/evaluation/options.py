"""What is measured of a model, and which combinations a sweep tries."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lrp_edge.card import COMPOSITES
from lrp_edge.options import Common, OptionGroup, like, option


@dataclass(frozen=True)
class EvaluateOptions(OptionGroup):
    """How a model is measured."""

    method: Literal["lrp", "gradcam", "inverted-gray"] = option("lrp", "How a checkpoint's masks are made.")
    split: Path | None = like(Common, "split")
    part: Literal["train", "val", "test"] = like(Common, "part")
    false_alarm_rate: float = like(Common, "false_alarm_rate")
    tolerance: int = option(2, "Pixels of distance that count as no error in near and boundary F1.", least=0)


@dataclass(frozen=True)
class SweepOptions(OptionGroup):
    """What a sweep combines."""

    composites: tuple[str, ...] = option(
        ("Segmentation", "EpsilonPlusFlat", "EpsilonPlus", "EpsilonAlpha2Beta1Flat"),
        "Composites by comma.",
        choices=COMPOSITES,
        called="composites are",
        metavar="NAME,...",
    )
    heads: tuple[str, ...] = option(
        ("card", "fixed", "otsu", "isodata", "gmm"),
        "Mask heads by semicolon: NAME or NAME:PARAMETER=NUMBER of fixed, quantile, otsu, isodata, gmm and calibrated, "
        "or card for the checkpoint's own.",
        called="heads are",
        metavar="NAME;...",
        separator=";",
    )
    smoothings: tuple[str, ...] = option(
        ("none", "gaussian:2", "guided:9", "guided:17"),
        "Smoothings by comma, of none, box:K, gaussian:SIGMA, median:3 and guided:K.",
        called="smoothings are",
        metavar="NAME,...",
    )
    explained: str | None = like(Common, "explained")
