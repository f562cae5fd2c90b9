"""What is asked of the builder, and how its result is named, recognised and described."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lrp_edge.card import ModelCard
from lrp_edge.errors import LrpEdgeError, did_you_mean
from lrp_edge.export.options import BuildOptions
from lrp_edge.export.tensorrt.profile import Profile
from lrp_edge.export.tensorrt.target import PRODUCTS, Target
from lrp_edge.options import options_of

if TYPE_CHECKING:
    import onnx

TURING = "sm75"
#: To be incremented with each change of :mod:`lrp_edge.export.passes.turing`, so the cache returns no older engine.
_TURING_FORM = 1


@dataclass(frozen=True)
class Options(BuildOptions):
    """How to build, besides the product's own choice, on a target that may not know all of it."""

    def check(self, target: Target) -> None:
        """Raise LrpEdgeError for what the target does not know."""
        if target.product == "rtx" and (self.version_compatible or self.hardware_compatible):
            option = "--version-compatible" if self.version_compatible else "--hardware-compatible"
            raise LrpEdgeError(
                f"{PRODUCTS['rtx'][1]} builds no such engine: leave out {option}, and name all GPUs with --for rtx:GPUS"
            )
        if self.hardware_compatible is not None:
            levels = hardware_levels(target)
            if self.hardware_compatible not in levels:
                hint = did_you_mean(self.hardware_compatible, levels, f"{target.title} knows {', '.join(levels)}")
                raise LrpEdgeError(f"no hardware compatibility {self.hardware_compatible!r}; {hint}")

    def as_words(self) -> list[str]:
        """Return them as words of the command line."""
        given = ((option, getattr(self, option.name)) for option in options_of(type(self)))
        return [word for option, value in given if value != option.default for word in option.as_words(value)]


def hardware_levels(target: Target) -> list[str]:
    """Return the levels of hardware compatibility that a version knows."""
    levels = getattr(target.trt, "HardwareCompatibilityLevel", None)
    return [name.lower() for name in levels.__members__ if name != "NONE"] if levels is not None else []


@dataclass(frozen=True)
class Request:
    """One engine to build.

    Attributes
    ----------
    model : Path
        The ONNX file.
    data : bytes
        Its content.
    proto : onnx.ModelProto
        The same, read, with all weights as constants.
    card : ModelCard
        The card inside.
    target, profile, options
        For what to build, for which frames, and how.
    """

    model: Path
    data: bytes
    proto: onnx.ModelProto
    card: ModelCard
    target: Target
    profile: Profile
    options: Options

    @property
    def name(self) -> str:
        """Name of the engine file."""
        return f"{self.model.stem}.{self.target.tag}.{self.card.precision}.engine"

    @property
    def for_turing(self) -> bool:
        """Whether the graph is to be brought to the form of :mod:`lrp_edge.export.passes.turing`, for all its GPUs."""
        return self.target.product == "rtx" and TURING in self.target.gpus

    def check(self) -> None:
        """Raise LrpEdgeError for a model whose types a GPU lacks."""
        if self.for_turing and self.card.precision == "bf16":
            leave_out = f", or leave out {TURING}" if len(self.target.gpus) > 1 else ""
            raise LrpEdgeError(f"{self.model}: {TURING} has no bfloat16: export with --precision fp16{leave_out}")

    @property
    def key(self) -> str:
        """SHA-256 of all that the engine depends on."""
        facts = {
            "model": hashlib.sha256(self.data).hexdigest(),
            "target": [self.target.tag, self.target.device, sys.platform, platform.machine()],
            "profile": self.profile.as_dict(),
            "options": dataclasses.asdict(self.options),
            **({"turing": _TURING_FORM} if self.for_turing else {}),
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def describe(self, engine: bytes) -> ModelCard:
        """Return the card of a built engine.

        Besides what :class:`ModelCard` says of it, ``engine`` has ``device``, the GPU that it was built on (empty for
        TensorRT-RTX), and ``options``, the words behind ``lrp-edge compile MODEL --for PRODUCT`` that build it again.
        """
        facts = {
            "product": self.target.product,
            "version": self.target.version,
            "gpus": list(self.target.gpus),
            "device": self.target.device,
            "model": self.model.name,
            "model_sha256": hashlib.sha256(self.data).hexdigest(),
            "engine_sha256": hashlib.sha256(engine).hexdigest(),
            "options": [*self._profile_words(), *self.options.as_words()],
        }
        return self.card.replace(profile=self.profile.as_dict(), engine=facts)

    def _profile_words(self) -> list[str]:
        shapes = (self.profile.smallest, self.profile.usual, self.profile.largest)
        words = ["--batch", ",".join(str(count) for count, *_ in shapes)]
        if self.card.input.size is None:
            for option, (_, height, width) in zip(("--smallest", "--usual", "--largest"), shapes, strict=True):
                words += [option, f"{height}x{width}"]
        return words
