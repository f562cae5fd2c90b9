"""What is measured: networks of timm and torchvision by their names there, and heads and single layers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib import import_module
from typing import Any

import torch
from torch import nn

from tools.families.drawn import drawn
from tools.families.heads import HEADS

CLASSES = 5
#: Sides of images in pixels: for comparisons in float64, and for exported files.
SMALL, LARGE = 64, 224
#: That of heads, for both.
HEAD = 32


@dataclass(frozen=True)
class Subject:
    """A network, or a head or layer between a stem and a linear layer.

    Attributes
    ----------
    name : str
        ``"timm/NAME"``, ``"torchvision/NAME"`` or ``"head/NAME"``; ``~short`` at the end is a copy with fewer blocks.
    create : callable
        Returns the untrained module: float [N, 3, H, W] → logits [N, K].
    small, large : int
        Height and width in pixels of the images for comparisons in float64, and of the exported files' frames.
    classes : int
        Outputs K; one is the logit of the second of two classes.
    logits : str
        Which of several outputs they are, see :func:`lrp_edge.unroll`.
    """

    name: str
    create: Callable[[], nn.Module]
    small: int
    large: int
    classes: int = CLASSES
    logits: str = ""

    @property
    def is_head(self) -> bool:
        return self.name.startswith("head/")

    @property
    def slug(self) -> str:
        """The name of its file."""
        return re.sub(r"[^a-z0-9_.]+", "-", self.name.lower()).strip("-")

    def build(self) -> nn.Module:
        """Return it with random weights, in evaluation mode and float32; the same at each call."""
        torch.manual_seed(0)
        return drawn(self.create())


def _timm(name: str, small: int = SMALL, large: int = LARGE, **changes: Any) -> Subject:
    def create() -> nn.Module:
        model: nn.Module = _library("timm").create_model(name, num_classes=CLASSES, **changes)
        return model

    return Subject(f"timm/{name}{_mark(changes)}", create, small, large)


def _torchvision(name: str, small: int = SMALL, large: int = LARGE, **changes: Any) -> Subject:
    def create() -> nn.Module:
        model: nn.Module = _library("torchvision").models.get_model(name, num_classes=CLASSES, **changes)
        return model

    return Subject(f"torchvision/{name}{_mark(changes)}", create, small, large)


def _library(name: str) -> Any:
    from lrp_edge import _torchvision  # noqa: F401

    return import_module(name)


def _mark(changes: dict[str, Any]) -> str:
    """Say in a name that blocks were left out."""
    return "~short" if changes.keys() & {"depth", "layers"} else ""


#: Those that take images of any size, by the library's names.
_TORCHVISION = ("vgg11", "vgg16_bn", "resnet18", "resnet50", "resnext50_32x4d", "wide_resnet50_2", "densenet121",
                "squeezenet1_1", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large", "mnasnet1_0",
                "shufflenet_v2_x1_0", "efficientnet_b0", "efficientnet_v2_s", "regnet_x_400mf", "regnet_y_400mf",
                "convnext_tiny", "swin_t", "swin_v2_t")  # fmt: skip
_TIMM = ("resnet18d", "resnetv2_18", "resnetv2_50x1_bit", "resnetv2_50d_gn", "seresnet18", "ecaresnet26t",
         "nf_resnet26", "nfnet_f0", "gernet_s", "tresnet_m", "repvgg_a0", "mobileone_s0", "repghostnet_100",
         "repvit_m0_9", "fastvit_t8", "ghostnet_100", "efficientnet_lite0", "tf_efficientnet_lite0",
         "tf_efficientnetv2_b0", "tinynet_e", "rexnet_100", "mobilenetv3_small_100", "mobilenetv4_conv_small",
         "mobilenet_edgetpu_v2_xs", "semnasnet_075", "hardcorenas_a", "fbnetc_100", "lcnet_050", "starnet_s1",
         "cspdarknet53", "cspresnet50", "darknet53", "dla34", "hrnet_w18_small", "convnext_atto", "convnextv2_atto",
         "inception_next_atto", "edgenext_xx_small", "mobilevit_xxs", "poolformer_s12", "caformer_s18",
         "csatv2")  # fmt: skip
#: Those that fix the size of their images.
_TIMM_FIXED = ("vit_tiny_patch16_224", "deit_tiny_patch16_224", "pit_ti_224", "tiny_vit_5m_224", "levit_128s",
               "coatnet_nano_rw_224", "efficientformerv2_s0", "mixer_s16_224", "resmlp_12_224")  # fmt: skip
#: Of patches of 14 pixels, at the 224 that is a multiple of them in place of their own 518.
_TIMM_DINO = ("vit_small_patch14_dinov2", "vit_small_patch14_reg4_dinov2")
#: Tried when the others had rules, to see what those are worth to whoever brings another network.
_FURTHER = ("fasternet_t0", "hgnetv2_b0", "efficientvit_b0", "ghostnetv2_100", "mixnet_s", "poolformerv2_s12",
            "mambaout_femto", "resnest14d", "mobilenetv4_hybrid_medium")  # fmt: skip
_FURTHER_FIXED = ("efficientvit_m0", "shvit_s1", "swiftformer_xs")


def _subjects() -> Iterator[Subject]:
    yield _torchvision("alexnet", small=96)
    yield from map(_torchvision, _TORCHVISION)
    # Their own initialisation takes a minute.
    yield _torchvision("googlenet", init_weights=False)
    yield _torchvision("inception_v3", small=96, init_weights=False)
    yield _torchvision("vit_b_16", small=LARGE)
    yield _torchvision("maxvit_t", small=LARGE)
    yield from map(_timm, _TIMM)
    for name in _TIMM_FIXED:
        yield _timm(name, small=LARGE)
    # Of 784 tokens: two blocks of its twelve have all that the others have.
    yield _timm("xcit_nano_12_p8_224", small=LARGE, depth=2)
    for name in _TIMM_DINO:
        yield _timm(name, small=LARGE, img_size=LARGE)
    yield from map(_timm, _FURTHER)
    for name in _FURTHER_FIXED:
        yield _timm(name, small=LARGE)
    for name, head in HEADS.items():
        yield Subject(f"head/{name}", head.create, HEAD, HEAD, head.classes, head.logits)


SUBJECTS = {subject.name: subject for subject in _subjects()}
#: Those that have a table of their own.
FURTHER = frozenset(f"timm/{name}" for name in (*_FURTHER, *_FURTHER_FIXED))


def chosen(only: str = "*") -> list[Subject]:
    """Return those whose name fits a pattern."""
    return [subject for subject in SUBJECTS.values() if fnmatchcase(subject.name, only)]
