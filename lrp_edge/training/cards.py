"""The model card of what is to be trained: its classes, its input, its architecture, where it comes from."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timezone
from importlib.metadata import version
from typing import Any

import numpy as np

from lrp_edge.card import InputSpec, MaskSpec, ModelCard
from lrp_edge.datasets import Dataset
from lrp_edge.errors import needs_extra
from lrp_edge.training.options import LITE, UNET_LITE, Options

with needs_extra("train"):
    import lightning
    import torch


#: Stages of EfficientNet-Lite0 that are kept where nothing else is given: those with a stride of 16 at most.
LITE_STAGES = 5


def card_of(train_part: Dataset, defects: tuple[str, ...], options: Options) -> ModelCard:
    """Return the card that a training begins with; its mask head is calibrated at the end.

    Parameters
    ----------
    train_part : Dataset
        Training images; each is read, for mean and standard deviation of the pixels.
    defects : tuple of str
        Those of its classes that are defects.
    options : Options
        How to train.

    Raises
    ------
    LrpEdgeError
        If an image cannot be decoded.
    """
    gray = options.channels == "gray" or (options.channels == "auto" and train_part.gray)
    mean, std = _pixel_statistics(train_part, gray)
    order = ("GRAY", "GRAY") if gray else ("BGR", "RGB")
    return ModelCard(
        classes=train_part.classes,
        defects=defects,
        input=InputSpec(order=order[0], mean=mean, std=std, network_order=order[1], standardise=options.standardise),
        architecture=_architecture(options, 1 if gray else 3, len(train_part.classes)),
        explained="evidence",
        mask=MaskSpec(area_classes=options.named_areas),
        relevance_stride=options.relevance_stride,
        provenance={
            "trained": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "supervision": options.supervision,
            "training": dataclasses.asdict(options),
            "images": {
                name: int(n)
                for name, n in zip(
                    train_part.classes,
                    np.bincount(train_part.labels, minlength=len(train_part.classes)),
                    strict=True,
                )
            },
            "packages": {
                "lrp-edge": version("lrp-edge"),
                "torch": torch.__version__,
                "lightning": lightning.__version__,
            },
        },
    )


def _architecture(options: Options, channels: int, classes: int) -> dict[str, Any]:
    names: tuple[str, ...] = ("width", "stem", "dropout")
    found: dict[str, Any] = {"family": options.model, "channels": channels, "classes": classes}
    if options.model == UNET_LITE:
        found = {"family": "unet", "encoder": LITE, "channels": channels}
        names = ("width", "dropout")
    elif options.is_unet:
        found.pop("classes")
    elif options.model == "vgg":
        names = ("variant", "width", "stem", "pools", "pooling", "power", "dropout")
    elif options.model == LITE:
        names = ("stride", "width", "pooling", "dropout")
        found["stages"] = int(options.cut or LITE_STAGES)
    else:
        names = ("cut", "stride", "pooling", "dropout") if options.is_cut else ()
        known = {"name": options.model.partition(":")[2]} if options.library else {"factory": options.model}
        found |= {"family": options.library or "factory", **known}
    return found | {name: getattr(options, name) for name in names}


def _pixel_statistics(part: Dataset, gray: bool) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation by channel over all pixels, in [0, 1], in the network's order."""
    count, first, second = 0, 0.0, 0.0
    for sample in part.samples:
        pixels = sample.read("GRAY" if gray else "RGB").reshape(-1, 1 if gray else 3) / 255.0
        count, first, second = count + len(pixels), first + pixels.sum(0), second + (pixels**2).sum(0)
    mean = np.asarray(first) / count
    # A black data set has no deviation; the floor of one gray level keeps the division finite.
    std = np.maximum(np.sqrt(np.maximum(np.asarray(second) / count - mean**2, 0)), 1 / 255)
    return tuple(round(float(v), 6) for v in mean), tuple(round(float(v), 6) for v in std)
