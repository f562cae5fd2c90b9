"""How to train: every setting, its range, and the TOML file that holds them."""

from __future__ import annotations

import dataclasses
import math
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lrp_edge.classifiers import SMALLEST_SIDE
from lrp_edge.errors import LrpEdgeError, needs_extra
from lrp_edge.files import write_text

PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


@dataclass(frozen=True)
class Options:
    """How to train.

    Attributes
    ----------
    model : str
        ``"vgg"``; ``"module:factory"``, which takes ``channels`` and ``classes`` and returns a ``torch.nn.Module``
        that gives logits; or ``"unet"``, the baseline that is trained with pixel masks.
    variant, width, stem, pools, pooling, power, dropout
        The network, see :func:`lrp_edge.classifiers.vgg`; the U-Net takes `width` and `dropout` only.
    weights : str
        Local file with weights to start from, safetensors or a state dict; empty for none.
    clicks : str
        File of clicks, see :mod:`lrp_edge.datasets.clicks`: windows of defect images are then cut around them.
        Empty where there is one label for an image and no more.
    epochs : int
        Passes; one is as many windows as there are training images.
    patch, batch : int
        Side of a window in pixels of the image, and windows in one step.
    lr, weight_decay, label_smoothing : float
        Peak learning rate of the one-cycle schedule, decay of AdamW, and smoothing of the labels.
    balance : float
        0 draws images as they occur, 1 draws all classes equally often.
    guided : float
        Fraction of the windows that are chosen by the model's evidence rather than at random.
    look_every, look_from : int
        Epochs from one look for evidence to the next, and the first epoch with one.
    mark_epochs : int
        First epochs, in which most windows have drawn marks: pretraining with synthetic defects.
    mark_share : float
        Share of such windows in the epochs after that.
    mark_surface : {"data", "synthetic"}
        What marks are drawn on: OK images of the data, or drawn surfaces of several materials.
    ema : float
        Decay by step of the running average of the weights that is kept as the model; 0 keeps the last ones.
    patience : int
        Stop after so many looks at the validation part without a better AUROC; 0 never stops early.
    val_every : int
        Epochs from one look at the validation part to the next.
    standardise : bool
        Bring each frame to mean 0 and deviation 1, so that exposure and contrast do not matter.
    channels : {"auto", "gray", "color"}
        Channels of the network; ``auto`` takes gray if every image has one channel.
    val, test : float
        Shares of the images that are kept from training, where no split is given.
    precision : {"auto", "fp32", "bf16", "fp16"}
        Numeric type of the training; ``auto`` takes bf16 where the processor has it.
    devices : int
        How many devices to train on; 0 takes all there are.
    false_alarms : float
        Share of the pixels of OK validation images that may be masked: the budget that the mask's floor is calibrated
        to.
    seed, workers : int
        Random seed; processes that read images, which do not change the result.
    """

    model: str = "vgg"
    variant: str = "A"
    width: float = 0.25
    stem: int = 1
    pools: int = 3
    pooling: str = "lse"
    power: float = 3.0
    dropout: float = 0.1
    weights: str = ""
    clicks: str = ""
    epochs: int = 70
    patch: int = 128
    batch: int = 24
    lr: float = 1.5e-3
    weight_decay: float = 1e-2
    label_smoothing: float = 0.0
    balance: float = 0.5
    guided: float = 0.8
    look_every: int = 6
    look_from: int = 6
    mark_epochs: int = 12
    mark_share: float = 0.15
    mark_surface: str = "data"
    ema: float = 0.995
    patience: int = 0
    val_every: int = 10
    standardise: bool = True
    channels: str = "auto"
    val: float = 0.1
    test: float = 0.3
    precision: str = "auto"
    devices: int = 1
    false_alarms: float = 0.001
    seed: int = 0
    workers: int = 0

    def __post_init__(self) -> None:
        limits = {
            "model": self.model in ("vgg", "unet") or ":" in self.model,
            "epochs": self.epochs >= 1,
            "batch": self.batch >= 2,
            "patch": self.patch >= SMALLEST_SIDE,
            "lr": 0 < self.lr < math.inf,
            "weight_decay": self.weight_decay >= 0,
            "label_smoothing": 0 <= self.label_smoothing < 1,
            "balance": 0 <= self.balance <= 1,
            "guided": 0 <= self.guided <= 1,
            "look_every": self.look_every >= 1,
            "look_from": self.look_from >= 0,
            "mark_epochs": self.mark_epochs >= 0,
            "mark_share": 0 <= self.mark_share < 1,
            "mark_surface": self.mark_surface in ("data", "synthetic"),
            "ema": 0 <= self.ema < 1,
            "patience": self.patience >= 0,
            "val_every": self.val_every >= 1,
            "channels": self.channels in ("auto", "gray", "color"),
            "val": 0 <= self.val < 1,
            "test": 0 <= self.test < 1 - self.val,
            "precision": self.precision in ("auto", *PRECISIONS),
            "devices": self.devices >= 0,
            "false_alarms": 0 <= self.false_alarms < 1,
            "workers": self.workers >= 0,
        }
        for name, holds in limits.items():
            if not holds:
                raise LrpEdgeError(f"training option {name} is {getattr(self, name)!r}, which is out of its range")

    @property
    def supervision(self) -> str:
        """What a person had to give for each image: ``"image"``, ``"patch"`` or ``"pixel"``."""
        return "pixel" if self.model == "unet" else "patch" if self.clicks else "image"


def options_from(values: Mapping[str, Any], source: str) -> Options:
    """Make options of named values, e.g. those of a TOML file.

    Raises
    ------
    LrpEdgeError
        If a name is unknown, or a value of another type or out of its range.
    """
    kinds: dict[str, type] = {field.name: type(field.default) for field in dataclasses.fields(Options)}
    given = {}
    for name, value in values.items():
        if name not in kinds:
            raise LrpEdgeError(f"{source}: no training option {name!r}; expected some of {', '.join(kinds)}")
        kind = kinds[name]
        fits = isinstance(value, (int, float) if kind is float else kind)
        if not fits or isinstance(value, bool) != (kind is bool):
            raise LrpEdgeError(f"{source}: training option {name} is {value!r}; expected {kind.__name__}")
        given[name] = kind(value)
    return Options(**given)


def read_config(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a TOML file of training options.

    Raises
    ------
    LrpEdgeError
        If it cannot be read or is no TOML.
    """
    with needs_extra("train"):
        if sys.version_info >= (3, 11):
            import tomllib
        else:
            import tomli as tomllib
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise LrpEdgeError(
            f"{path}: no readable configuration ({error}); expected TOML with training options"
        ) from error


def write_config(path: str | os.PathLike[str], options: Options) -> None:
    """Write all options as TOML, so that ``--config`` repeats the training."""
    with needs_extra("train"):
        import tomli_w
    write_text(path, tomli_w.dumps(dataclasses.asdict(options)))
