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
#: Networks that can start from ImageNet: one of our own, and those of libraries, as LIBRARY:NAME.
LITE, LIBRARIES = "efficientnet_lite0", ("timm", "torchvision")
#: The baseline with the encoder that classifiers start from.
UNET_LITE = f"unet:{LITE}"
IMAGENET, NONE = "imagenet", "none"
#: What a pretrained start is fine-tuned with, and what a random one is trained with, where nothing else is given.
RECIPES: dict[str, dict[str, Any]] = {
    "pretrained": {
        "width": 1.0, "epochs": 16, "patch": 0, "batch": 8, "lr": 4e-3, "backbone_lr": 0.1, "weight_decay": 1e-3,
        "label_smoothing": 0.02, "ok_share": 0.5, "dense_negatives": 0.5, "guided": 0.0, "mark_epochs": 2,
        "mark_share": 0.2, "ema": 0.98, "val_every": 2, "freeze_batch_norm": True,
    },
    "pixel": {
        "width": 1.0, "epochs": 16, "patch": 256, "batch": 8, "lr": 1e-3, "backbone_lr": 0.5, "weight_decay": 1e-3,
        "label_smoothing": 0.0, "ok_share": 0.5, "dense_negatives": 0.0, "guided": 0.7, "mark_epochs": 0,
        "mark_share": 0.0, "ema": 0.98, "val_every": 2, "freeze_batch_norm": True,
    },
    "scratch": {
        "width": 0.25, "epochs": 70, "patch": 128, "batch": 24, "lr": 1.5e-3, "backbone_lr": 1.0, "weight_decay": 1e-2,
        "label_smoothing": 0.0, "ok_share": 0.0, "dense_negatives": 0.0, "guided": 0.8, "mark_epochs": 12,
        "mark_share": 0.15, "ema": 0.995, "val_every": 10, "freeze_batch_norm": False,
    },
}  # fmt: skip


def _is_model(name: str) -> bool:
    return name in (LITE, "vgg", "unet", UNET_LITE) or (":" in name and not name.startswith("unet:"))


def _is_patch(side: int) -> bool:
    # lrp_edge.classifiers.SMALLEST_SIDE, which cannot be imported without torch.
    return side == 0 or side >= 32


def _by_start(name: str, help: str, **settings: Any) -> Any:
    """Declare an option whose default depends on whether the network starts pretrained."""
    started, random, pixel = (_shown(RECIPES[start][name]) for start in ("pretrained", "scratch", "pixel"))
    usual = f"{started} for a pretrained start, {random} for a random one"
    if pixel != started:
        usual += f", {pixel} for {UNET_LITE}"
    return option(None, help, usual=usual, **settings)


def _shown(value: Any) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else f"{value:g}"


@dataclass(frozen=True)
class Options(OptionGroup, panel="Training"):
    """How to train."""

    model: str = option(
        LITE,
        "Network: efficientnet_lite0; timm:NAME or torchvision:NAME, cut before its last stage; vgg; module:factory, "
        "which takes channels and classes and returns a torch.nn.Module that gives logits; or unet, the baseline that "
        "is trained with pixel masks, and unet:efficientnet_lite0, the same with a pretrained encoder.",
        check=_is_model,
        expected=f"efficientnet_lite0, timm:NAME, torchvision:NAME, vgg, module:factory, unet or {UNET_LITE}",
        metavar="NAME",
        panel="Network",
    )
    weights: str = option(
        None,
        "What the network starts from: imagenet; a local file, safetensors or a state dict; or none, at random.",
        usual="imagenet for efficientnet_lite0 (in the U-Net too), timm and torchvision, none for others",
        metavar="imagenet|FILE|none",
        panel="Network",
    )
    cut: str = option(
        "",
        "Where the network ends: a stage of efficientnet_lite0, 1 to 7, or the path of a module of any other but vgg.",
        usual="the last at a stride of 16",
        panel="Network",
    )
    stride: Literal[8, 16] = option(
        8, "Pixels between positions of the features of a network that is cut, at most.", panel="Network"
    )
    variant: Literal["A", "B", "D", "E"] = option("A", "VGG-11, 13, 16 or 19.", panel="Network")
    width: float = _by_start(
        "width", "Factor on the channels of each convolution of efficientnet_lite0, vgg and unet.", above=0,
        panel="Network",
    )  # fmt: skip
    stem: int = option(1, "Stride of the first convolution of vgg and unet.", least=1, most=2, panel="Network")
    pools: int = option(3, "Poolings of vgg kept; the stride is stem · 2^pools.", least=1, most=5, panel="Network")
    pooling: Literal["gem", "average", "max", "lse"] = option("lse", "Global pooling.", panel="Network")
    power: float = option(3.0, "Power of the generalised mean (gem).", least=1, panel="Network")
    dropout: float = option(
        0.1, "Dropout before the linear layer, also in the U-Net.", least=0, below=1, panel="Network"
    )
    freeze_batch_norm: bool = _by_start(
        "freeze_batch_norm", "Keep the statistics of BatchNorm as they were at the start.", panel="Network"
    )
    clicks: str = option(
        "",
        "File of clicks on defects, see lrp-edge data clicks: windows of defect images are cut around them.",
        metavar="FILE",
        panel="Windows",
    )
    epochs: int = _by_start(
        "epochs",
        "Passes of as many windows as there are images; with --ok-share, of each defect image once on average.",
        least=1,
    )
    patch: int = _by_start(
        "patch",
        "Side of a window in pixels, at native resolution; 0: whole images, those of more than 1024 pixels a side cut.",
        check=_is_patch,
        expected="0 or 32 and more",
        metavar="PIXELS",
        panel="Windows",
    )
    batch: int = _by_start("batch", "Windows or images in one step.", least=2)
    lr: float = _by_start("lr", "Peak learning rate of the one-cycle schedule.", above=0)
    backbone_lr: float = _by_start(
        "backbone_lr", "Factor on the learning rate for the features, all but the last layer.", above=0, most=1
    )
    layer_decay: float = option(
        1.0, "Factor on the learning rate from each convolution to the one before it.", above=0, most=1
    )
    weight_decay: float = _by_start("weight_decay", "Decay of AdamW.", least=0)
    label_smoothing: float = _by_start("label_smoothing", "Smoothing of the labels.", least=0, below=1)
    dense_negatives: float = _by_start(
        "dense_negatives", "Weight of the loss by which no position of an OK image may show a defect.", least=0
    )
    balance: float = option(
        0.5, "0: images as they occur; 1: all classes equally often.", least=0, most=1, panel="Windows"
    )
    ok_share: float = _by_start(
        "ok_share",
        "Share of the windows that are of OK images; 0 leaves it to --balance.",
        least=0,
        below=1,
        panel="Windows",
    )
    guided: float = _by_start(
        "guided",
        "Share of the windows that are chosen by the model's evidence rather than at random.",
        least=0,
        most=1,
        panel="Windows",
    )
    look_every: int = option(6, "Epochs between updates of the evidence maps.", least=1, panel="Windows")
    look_from: int = option(6, "First epoch in which the evidence maps are updated.", least=0, panel="Windows")
    mark_epochs: int = _by_start(
        "mark_epochs",
        "First epochs, in which most windows or images have drawn marks: pretraining with synthetic defects.",
        least=0,
        panel="Marks",
    )
    mark_share: float = _by_start(
        "mark_share",
        "Share of windows or images with drawn marks in the epochs after them.",
        least=0,
        below=1,
        panel="Marks",
    )
    mark_surface: Literal["data", "synthetic"] = option(
        "data", "Draw marks on OK images of the data, or on drawn surfaces of several materials.", panel="Marks"
    )
    area_prior: float = option(
        0.0,
        "Share of a defect image's positions that may show a defect; the others learn that they are OK. 0: any may.",
        least=0,
        most=1,
        panel="Surroundings",
    )
    soil: float = option(
        0.0,
        "Share of the whole images that get drawn soil, which is no defect: shading, soft blots and streaks.",
        least=0,
        most=1,
        panel="Surroundings",
    )
    ema: float = _by_start(
        "ema",
        "Decay by step of the running average of the weights that is kept as the model; 0 keeps the last ones.",
        least=0,
        below=1,
    )
    patience: int = option(0, "Stop after this many validations without a better AUROC; 0 never stops early.", least=0)
    val_every: int = _by_start("val_every", "Epochs from one validation to the next.", least=1)
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
        if self.weights is None:
            object.__setattr__(self, "weights", IMAGENET if self.can_start_from_imagenet else NONE)
        start = "pixel" if self.model == UNET_LITE else "pretrained" if self.starts_pretrained else "scratch"
        for name, value in RECIPES[start].items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        self._check_together()

    def _check_together(self) -> None:
        if self.val + self.test >= 1:
            raise LrpEdgeError(f"test is {self.test:g} with a val of {self.val:g}; expected less than 1 together")
        if self.weights == IMAGENET and not self.can_start_from_imagenet:
            raise LrpEdgeError(f"weights is imagenet, which {self.model} does not have; give a file or none")
        if self.cut and (self.model == "vgg" or self.is_unet):
            raise LrpEdgeError(f"cut is {self.cut!r}, and {self.model} is not cut; --pools shortens vgg")
        if self.model == LITE and self.cut not in ("", *"1234567"):
            raise LrpEdgeError(f"cut is {self.cut!r}; expected a stage of efficientnet_lite0, 1 to 7")
        needing = [name for name in ("clicks", "guided") if getattr(self, name)]
        if not self.patch and self.is_unet:
            raise LrpEdgeError(f"patch is 0; expected 32 or more, since {self.model} is trained on windows")
        if not self.patch and needing:
            raise LrpEdgeError(f"{needing[0]} is for windows, and patch is 0, whole images; give a patch of 32 or more")
        if not self.patch and self.mark_surface != "data":
            raise LrpEdgeError("mark_surface is for windows, and patch is 0, whole images; give a patch of 32 or more")
        if self.patch and self.soil:
            raise LrpEdgeError(f"soil is for whole images, and patch is {self.patch}; give a patch of 0")
        if self.area_prior and (self.is_unet or (self.is_factory and not self.cut)):
            raise LrpEdgeError(
                f"area_prior is for networks with a head of ours, which {self.model} has not; leave it 0"
            )
        if self.area_prior and not self.dense_negatives:
            raise LrpEdgeError("area_prior has the weight of dense_negatives, and that is 0; give a weight above 0")

    @property
    def library(self) -> str:
        """The library that the network is from, or nothing."""
        library, _, name = self.model.partition(":")
        return library if name and library in LIBRARIES else ""

    @property
    def is_factory(self) -> bool:
        """Whether the network is a user's own."""
        return ":" in self.model and not self.library and not self.is_unet

    @property
    def is_unet(self) -> bool:
        """Whether the network is a baseline that is trained with pixel masks."""
        return self.model in ("unet", UNET_LITE)

    @property
    def is_cut(self) -> bool:
        """Whether the network is the first part of a known one, under a head of ours."""
        return self.model == LITE or bool(self.library) or (self.is_factory and bool(self.cut))

    @property
    def can_start_from_imagenet(self) -> bool:
        """Whether ImageNet weights are known for the network."""
        return self.model in (LITE, UNET_LITE) or bool(self.library)

    @property
    def starts_pretrained(self) -> bool:
        """Whether a whole feature extractor is fine-tuned, rather than trained."""
        return (self.is_cut or self.model == UNET_LITE) and self.weights != NONE

    @property
    def named_areas(self) -> tuple[str, ...]:
        """The area classes that a person has named."""
        given = self.area_classes
        return () if given in ("auto", "none") else tuple(name.strip() for name in given.split(","))

    @property
    def supervision(self) -> str:
        """What a person had to give for each image: ``"image"``, ``"patch"`` or ``"pixel"``."""
        return "pixel" if self.is_unet else "patch" if self.clicks else "image"


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
