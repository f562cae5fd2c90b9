"""An engine file and the card next to it, checked before anything of the engine is run."""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lrp_edge.card import ModelCard
from lrp_edge.errors import LrpEdgeError

#: Products by their name in the card: what they are called, and the module of each.
PRODUCTS = {"rtx": ("TensorRT-RTX", "tensorrt_rtx"), "tensorrt": ("TensorRT", "tensorrt")}
_AMPERE = 80
_FACTS = ("product", "version", "engine_sha256")


@dataclass(frozen=True)
class EngineFile:
    """An engine file that is what its card says, before anything of it is run.

    Attributes
    ----------
    path : Path
        The file.
    data : bytes
        The very bytes that were compared with the card: an engine is code.
    card : ModelCard
        From ``<name>.json`` next to it.
    """

    path: Path
    data: bytes
    card: ModelCard

    @classmethod
    def read(cls, path: Path) -> EngineFile:
        """Read an engine and its card.

        Raises
        ------
        LrpEdgeError
            If there is no such file, no card next to it, or the file is not the one that the card was written for.
        """
        if not os.path.isfile(path):
            raise LrpEdgeError(f"no model at {path}")
        side = path.with_suffix(".json")
        if not side.is_file():
            raise LrpEdgeError(
                f"{path} has no model card next to it ({side.name}); copy both, or compile again: "
                "lrp-edge compile MODEL.onnx"
            )
        file = cls(path, path.read_bytes(), ModelCard.read(side))
        file._check(side)
        return file

    @property
    def product(self) -> str:
        """What runs it: ``"rtx"`` or ``"tensorrt"``."""
        return str(self.card.engine["product"])

    @property
    def options(self) -> list[str]:
        """Words behind ``lrp-edge compile MODEL --for PRODUCT`` that it was built with."""
        return list(map(str, self.card.engine.get("options", ())))

    def rebuild(self, gpu: str = "") -> str:
        """Return the command that compiles it again, for one more GPU if that is given."""
        facts = self.card.engine
        product = str(facts.get("product", "rtx"))
        gpus = list(dict.fromkeys([*facts.get("gpus", ()), *([gpu] if gpu else [])])) if product == "rtx" else []
        target = f"{product}:{','.join(gpus)}" if gpus else product
        return shlex.join(
            ["lrp-edge", "compile", str(facts.get("model", "MODEL.onnx")), "--for", target, *self.options]
        )

    def runs_on(self, gpu: str) -> bool:
        """Say whether it was built for a compute capability, e.g. ``"sm86"``."""
        later = "ampere_plus" in self.options and int(gpu[2:]) >= _AMPERE
        gpus = self.card.engine.get("gpus", ())
        return not gpus or gpu in gpus or later

    def runs_with(self, version: str) -> bool:
        """Say whether it was built with a version, or so that others may try."""
        return version == self.card.engine["version"] or "--version-compatible" in self.options

    def check_frames(self, shape: Sequence[int]) -> None:
        """Compare frames ``[N, H, W, C]`` with the profile that the engine was compiled for.

        Raises
        ------
        LrpEdgeError
            If there are too few or too many, or they are too small or too large.
        """
        profile, channels = self.card.profile, self.card.input.channels
        inside = all(
            low <= found <= high for low, found, high in zip(profile["min"], shape, profile["max"], strict=False)
        )
        if len(shape) == 4 and shape[3] == channels and inside:
            return
        counts, *sizes = zip(profile["min"], profile["max"], strict=True)
        spans = _span(counts), _span("x".join(map(str, size)) for size in zip(*sizes, strict=True))
        raise LrpEdgeError(
            f"{self.path}: frames {list(shape)} are outside its profile of {spans[0]} frames of {spans[1]} with "
            f"{channels} channels; compile again with another --batch, or other --smallest, --usual and --largest: "
            f"{self.rebuild()}"
        )

    def _check(self, side: Path) -> None:
        facts = self.card.engine
        whole = all(len(self.card.profile.get(end, ())) == 3 for end in ("min", "opt", "max"))
        missing = [name for name in _FACTS if not facts.get(name)] + ([] if whole else ["profile"])
        if missing:
            raise LrpEdgeError(f"{side}: the card has no {missing[0]} of an engine; compile again: {self.rebuild()}")
        if facts["product"] not in PRODUCTS:
            raise LrpEdgeError(f"{side}: engine of {facts['product']!r}; expected one of {', '.join(PRODUCTS)}")
        found = hashlib.sha256(self.data).hexdigest()
        if found != facts["engine_sha256"]:
            raise LrpEdgeError(
                f"{self.path} was altered or cut short: its SHA-256 is {found[:12]}…, the card's "
                f"{facts['engine_sha256'][:12]}…; copy it again, or compile again: {self.rebuild()}"
            )


def _span(ends: Iterable[Any]) -> str:
    return " to ".join(dict.fromkeys(map(str, ends)))
