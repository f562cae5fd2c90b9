"""How to train: every setting, its range, and the TOML file that holds them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lrp_edge.errors import LrpEdgeError, needs_extra
from lrp_edge.files import write_text
from lrp_edge.options import Common, OptionGroup, like, make, option, read_toml

PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def _is_model(name: str) -> bool:
    return name in ("vgg", "unet") or ":" in name


@dataclass(frozen=True)
class Options(OptionGroup, panel="Training"):
    """How to train."""

    model: str = option(
        "vgg",
        "Network: vgg; module:factory, which takes channels and classes and returns a torch.nn.Module that gives "
        "logits; or unet, the baseline that is trained with pixel masks.",
        check=_is_model,
        expected="vgg, module:factory or unet",
        metavar="NAME",
        panel="Network",
    )
    variant: Literal["A", "B", "D", "E"] = option("A", "VGG-11, 13, 16 or 19.", panel="Network")
    width: float = option(
        0.25, "Factor for the channels of each convolution, also in the U-Net.", above=0, panel="Network"
    )
    stem: int = option(1, "Stride of the first convolution.", least=1, most=2, panel="Network")
    pools: int = option(3, "Poolings kept; the stride is stem · 2^pools.", least=1, most=5, panel="Network")
    pooling: Literal["gem", "average", "max", "lse"] = option("lse", "Global pooling.", panel="Network")
    power: float = option(3.0, "Power of the generalised mean (gem).", least=1, panel="Network")
    dropout: float = option(
        0.1, "Dropout before the linear layer, also in the U-Net.", least=0, below=1, panel="Network"
    )
    weights: str = option(
        "",
        "Local file of weights to start from, safetensors or a state dict.",
        metavar="FILE",
        panel="Network",
    )
    clicks: str = option(
        "",
        "File of clicks on defects, see lrp-edge data clicks: windows of defect images are cut around them.",
        metavar="FILE",
        panel="Windows",
    )
    epochs: int = option(70, "Number of epochs; each has as many windows as there are training images.", least=1)
    patch: int = option(
        128,
        "Side of a window in pixels, at native resolution.",
        # lrp_edge.classifiers.SMALLEST_SIDE, which cannot be imported without torch.
        least=32,
        metavar="PIXELS",
        panel="Windows",
    )
    batch: int = option(24, "Windows in one step.", least=2)
    lr: float = option(1.5e-3, "Peak learning rate of the one-cycle schedule.", above=0)
    weight_decay: float = option(1e-2, "Decay of AdamW.", least=0)
    label_smoothing: float = option(0.0, "Smoothing of the labels.", least=0, below=1)
    balance: float = option(
        0.5, "0: images as they occur; 1: all classes equally often.", least=0, most=1, panel="Windows"
    )
    guided: float = option(
        0.8,
        "Share of the windows that are chosen by the model's evidence rather than at random.",
        least=0,
        most=1,
        panel="Windows",
    )
    look_every: int = option(6, "Epochs between updates of the evidence maps.", least=1, panel="Windows")
    look_from: int = option(6, "First epoch in which the evidence maps are updated.", least=0, panel="Windows")
    mark_epochs: int = option(
        12,
        "First epochs, in which most windows have drawn marks: pretraining with synthetic defects.",
        least=0,
        panel="Marks",
    )
    mark_share: float = option(
        0.15, "Share of windows with drawn marks in the epochs after them.", least=0, below=1, panel="Marks"
    )
    mark_surface: Literal["data", "synthetic"] = option(
        "data", "Draw marks on OK images of the data, or on drawn surfaces of several materials.", panel="Marks"
    )
    ema: float = option(
        0.995,
        "Decay by step of the running average of the weights that is kept as the model; 0 keeps the last ones.",
        least=0,
        below=1,
    )
    patience: int = option(0, "Stop after this many validations without a better AUROC; 0 never stops early.", least=0)
    val_every: int = option(10, "Epochs between validations.", least=1)
    standardise: bool = option(
        True,
        "Normalise each frame to mean 0 and standard deviation 1, so that exposure and contrast do not matter.",
        panel="Data",
    )
    channels: Literal["auto", "gray", "color"] = option(
        "auto", "Channels of the network; auto takes gray if every image has one channel.", panel="Data"
    )
    val: float = like(Common, "val")
    test: float = like(Common, "test")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = option(
        "auto", "Numeric type of the training; auto takes bf16 where the processor has it.", panel="Machine"
    )
    devices: int = option(1, "Devices to train on; 0 for all.", least=0, panel="Machine")
    false_alarms: float = option(
        0.001,
        "Share of the pixels of OK images that may be masked: the budget of the mask's floor.",
        least=0,
        below=1,
        panel="Mask",
    )
    false_alarm_rate: float = like(
        Common,
        "false_alarm_rate",
        0.02,
        help="Share of OK images that may be decided to be defects: the budget of the decision's threshold.",
        least=None,
        most=None,
        above=0,
        below=1,
        panel="Decision",
    )
    relevance_stride: int = option(
        1,
        "Where relevance is read: at the pixels (1), or at the network's stage of that stride, which is cheaper.",
        least=1,
        metavar="PIXELS",
        panel="Mask",
    )
    area_classes: str = option(
        "auto",
        "Classes whose defects are large areas, by comma: their masks are filled. auto finds them by how far relevance "
        "extends, none takes all for fine ones.",
        metavar="NAMES",
        panel="Mask",
    )
    seed: int = like(Common, "seed", panel="Machine")
    workers: int = option(0, "Processes that read images; they do not change the result.", least=0, panel="Machine")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.val + self.test >= 1:
            raise LrpEdgeError(f"test is {self.test:g} with a val of {self.val:g}; expected less than 1 together")

    @property
    def named_areas(self) -> tuple[str, ...]:
        """The area classes that a person has named."""
        given = self.area_classes
        return () if given in ("auto", "none") else tuple(name.strip() for name in given.split(","))

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
    try:
        options: Options = make(Options, values)
    except LrpEdgeError as error:
        raise LrpEdgeError(f"{source}: {error}") from error
    return options


def read_config(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read and check a TOML file of training options.

    Raises
    ------
    LrpEdgeError
        If it cannot be read, is no TOML, or has a name that is not known or a value that cannot be; with the line.
    """
    return read_toml(Path(path), Options, extra="train")


def write_config(path: str | os.PathLike[str], options: Options) -> None:
    """Write all options as TOML, so that ``--config`` repeats the training."""
    with needs_extra("train"):
        import tomli_w
    write_text(path, tomli_w.dumps(dataclasses.asdict(options)))
