"""How a classifier is exported, compiled and inspected: every setting and its range."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lrp_edge.card import CHANNEL_ORDERS, COMPOSITES, MASK_HEADS, ModelCard, defect_names
from lrp_edge.errors import LrpEdgeError
from lrp_edge.options import Common, OptionGroup, PictureOptions, frame_size, like, option

_FRAMES, _MASK, _ARITHMETIC = "Frames", "Relevance and mask", "Arithmetic"


def _is_side(pixels: int) -> bool:
    return pixels == 0 or pixels % 2 == 1


@dataclass(frozen=True)
class ExportOptions(OptionGroup):
    """What is exported, in place of what the checkpoint says."""

    name: str = option("model", "Name of the files.")
    classes: tuple[str, ...] | None = option(
        None,
        "Class names by comma, in the order of the outputs.",
        usual="the checkpoint's",
        called="classes are",
        metavar="NAME,...",
        panel="Model",
    )
    ok_class: str | None = like(Common, "ok_class", panel="Model")
    weights: Path | None = like(Common, "weights")
    logits: str | None = option(
        None,
        "Which of several tensors that the network returns the logits are, by key or place, e.g. logits or 0.",
        metavar="NAME",
        panel="Model",
    )
    size: tuple[int, int] | Literal["dynamic"] | None = frame_size(
        "Size of the frames that the file takes, or dynamic for any.",
        expected="dynamic, or a height and width of 1 or more",
        panel=_FRAMES,
    )
    resize: tuple[int, int] | None = frame_size("Run the network at this size, whatever the frames'.", panel=_FRAMES)
    max_batch: int | None = option(None, "Most frames in one call of the file.", least=1, panel=_FRAMES)
    order: str | None = option(
        None, "Channel order of the frames.", choices=CHANNEL_ORDERS, form=str.upper, panel=_FRAMES
    )
    network_order: str | None = option(
        None,
        "Channel order that the network was trained with.",
        choices=CHANNEL_ORDERS,
        form=str.upper,
        panel=_FRAMES,
    )
    mean: tuple[float, ...] | None = option(
        None, "Mean by channel, by comma, of pixels from 0 to 1.", metavar="NUMBER,...", panel=_FRAMES
    )
    std: tuple[float, ...] | None = option(
        None, "Standard deviation by channel, by comma.", above=0, metavar="NUMBER,...", panel=_FRAMES
    )
    composite: str | None = option(
        None,
        "Relevance composite.",
        choices=COMPOSITES,
        usual="the checkpoint's, else Segmentation",
        metavar="NAME",
        panel=_MASK,
    )
    composite_parameters: dict[str, float] | None = option(
        None, "Parameter of the composite.", flag="--set", metavar="NAME=NUMBER", panel=_MASK
    )
    explained: str | None = like(Common, "explained", panel=_MASK)
    mask: str | None = option(
        None, "Mask head.", choices=MASK_HEADS, usual="the checkpoint's, else otsu", metavar="NAME", panel=_MASK
    )
    mask_parameters: dict[str, float] | None = option(
        None, "Parameter of the mask head.", flag="--mask-parameter", metavar="NAME=NUMBER", panel=_MASK
    )
    smoothing: str | None = option(
        None,
        "Smoothing of the relevance: none, box:K, gaussian:SIGMA, median:3 or guided:K, in pixels.",
        metavar="NAME",
        panel=_MASK,
    )
    close: int | None = option(
        None,
        "Side of the mask's closing, odd pixels; 0 for none.",
        least=0,
        check=_is_side,
        expected="an odd number of pixels, or 0 for none",
        panel=_MASK,
    )
    open: int | None = option(
        None,
        "Side of the mask's opening, odd pixels; 0 for none.",
        least=0,
        check=_is_side,
        expected="an odd number of pixels, or 0 for none",
        panel=_MASK,
    )
    area_classes: tuple[str, ...] | None = option(
        None,
        "Classes whose defects are large areas, by comma: their masks are filled; none for none.",
        usual="the checkpoint's",
        called="area classes are",
        metavar="NAME,...",
        panel=_MASK,
    )
    relevance_stride: int | None = option(
        None,
        "Read relevance at the network's stage of this stride; 1: at the pixels.",
        usual="the checkpoint's",
        least=1,
        panel=_MASK,
    )
    ok_frames: str = option("", "Defect-free frames, for --mask calibrated.", metavar="FRAMES", panel=_MASK)
    false_alarm_rate: float = like(Common, "false_alarm_rate", former="--false-alarms", panel=_MASK)
    precision: Literal["fp32", "fp16", "bf16", "int8"] | None = option(
        None,
        "Numeric type; int8 is calibrated on --frames.",
        usual="the checkpoint's, else fp32",
        panel=_ARITHMETIC,
    )
    gate: bool | None = option(None, "Compute relevance and mask for defects only.", panel=_ARITHMETIC)
    frames: str = like(Common, "frames", usual="noise; at most 16 are used, for int8 48")
    bits: int | None = like(PictureOptions, "bits", panel=_FRAMES)
    max_megapixels: float = like(PictureOptions, "max_megapixels", panel=_FRAMES)

    def card(self, own: ModelCard | None = None) -> ModelCard:
        """Return the card of the file.

        Parameters
        ----------
        own : ModelCard, optional
            What the checkpoint says; None for a model that has no card, whose classes must then be given.

        Raises
        ------
        LrpEdgeError
            If the classes are not known, or the options do not fit each other.
        """
        card = self._with_classes(own)
        return card.replace(
            input=dataclasses.replace(card.input, **self._input()),
            mask=dataclasses.replace(card.mask, **self._mask(card.mask.method)),
            **self._relevance(),
            **_given(precision=self.precision, gate=self.gate, logits=self.logits),
        )

    def _with_classes(self, own: ModelCard | None) -> ModelCard:
        names = self.classes or (own.classes if own else ())
        if not names:
            raise LrpEdgeError("a network without a card needs --classes, e.g. --classes ok,scratch")
        if own is None:
            return ModelCard(names, defect_names(names, self.ok_class))
        if not self.classes and not self.ok_class:
            return own
        return own.replace(classes=names, defects=defect_names(names, self.ok_class))

    def _input(self) -> dict[str, Any]:
        names = ("resize", "max_batch", "order", "network_order", "mean", "std")
        changes = _given(**{name: getattr(self, name) for name in names})
        if self.size is not None:
            changes["size"] = None if self.size == "dynamic" else self.size
        if self.network_order == "GRAY":
            changes = {"mean": (0.0,), "std": (1.0,), **changes}
        return changes

    def _relevance(self) -> dict[str, Any]:
        changes = _given(composite=self.composite, explained=self.explained, relevance_stride=self.relevance_stride)
        if self.composite or self.composite_parameters:
            changes["composite_parameters"] = self.composite_parameters or {}
        return changes

    def _mask(self, own: str) -> dict[str, Any]:
        changes = _given(smoothing=self.smoothing, close=self.close, open=self.open)
        if self.mask and self.mask != own:
            changes |= {"method": self.mask, "parameters": {}, "found": "per frame, in the graph"}
        if self.mask_parameters:
            changes |= {"parameters": self.mask_parameters, "found": "given"}
        if self.area_classes:
            changes["area_classes"] = () if self.area_classes == ("none",) else self.area_classes
        return changes


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True)
class BuildOptions(OptionGroup):
    """How an engine is built, besides the product's own choice."""

    workspace_mb: int | None = option(
        None,
        "Most GPU memory for intermediate results, in MiB.",
        least=1,
        flag="--workspace",
        metavar="MIB",
        panel="Build",
    )
    version_compatible: bool = option(False, "Let newer versions of TensorRT load it.", panel="Build")
    hardware_compatible: str | None = option(
        None,
        "With TensorRT, let other GPUs run it: ampere_plus or same_compute_capability.",
        form=lambda text: text.lower().replace("-", "_"),
        metavar="LEVEL",
        panel="Build",
    )
    optimization_level: int | None = option(
        None, "From 0, fast to build, to 5, fast to run.", least=0, most=5, panel="Build"
    )


@dataclass(frozen=True)
class CompileOptions(BuildOptions, panel="Shapes"):
    """Which frames an engine takes, and how it is built."""

    batch: tuple[int, ...] | None = option(
        None,
        "Frames in one call of the engine: MOST, or LEAST,USUAL,MOST.",
        least=1,
        check=lambda counts: len(counts) == 3,
        form=lambda counts: (1, 1, *counts) if len(counts) == 1 else counts,
        expected="MOST, or LEAST,USUAL,MOST frames, e.g. 8 or 1,4,8",
        usual="1,1 and the model's",
        metavar="N,...",
    )
    smallest: tuple[int, int] | None = frame_size("Smallest frame, for a dynamic model.", usual="64x64")
    usual: tuple[int, int] | None = frame_size("Usual frame.", usual="512x512")
    largest: tuple[int, int] | None = frame_size("Largest frame.", usual="1024x1024")
    cache: bool = option(
        True,
        "Use engines built before. LRP_EDGE_CACHE: their folder; LRP_EDGE_CACHE_MB: its size, 8192 without it.",
        panel="Build",
    )


@dataclass(frozen=True)
class InspectOptions(OptionGroup):
    """What is counted."""

    size: tuple[int, int] | None = frame_size("Frame to count for.", usual="the model's, else 224x224")
    json: str | None = like(Common, "json")
