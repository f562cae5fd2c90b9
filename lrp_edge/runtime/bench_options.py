"""How long and on which frames a model is measured."""

from __future__ import annotations

from dataclasses import dataclass

from lrp_edge.errors import LrpEdgeError
from lrp_edge.options import Common, OptionGroup, PictureOptions, frame_size, like, option
from lrp_edge.runtime.config import Line

#: Seconds for each batch size where neither they nor a number of calls are given.
SECONDS = 3.0


@dataclass(frozen=True)
class BenchOptions(OptionGroup, panel="Measurement"):
    """How a model is measured."""

    provider: str | None = like(Line, "provider", panel="Model")
    threads: int | None = like(Line, "threads", panel="Model")
    size: tuple[int, int] | None = frame_size(
        "Size of the frames that it is measured on.", usual="the model's, else 512x512", panel="Frames"
    )
    batches: tuple[int, ...] = option(
        (1,), "Frames in one call, several by comma, e.g. 1,4,8.", least=1, flag="--batch", metavar="N,..."
    )
    seconds: float | None = option(None, "Seconds for each batch size.", least=0, usual=f"{SECONDS:g}")
    iterations: int | None = option(None, "Calls for each batch size, instead.", least=1)
    warm_up: int = option(10, "Calls before that.", least=0)
    frames: str = like(Common, "frames", usual="random ones")
    bits: int | None = like(PictureOptions, "bits", panel="Frames")
    max_megapixels: float = like(PictureOptions, "max_megapixels", panel="Frames")
    seed: int = like(Common, "seed", panel="Frames")
    json: str | None = like(Common, "json")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.seconds is not None and self.iterations is not None:
            raise LrpEdgeError("give --seconds or --iterations, not both")


@dataclass(frozen=True)
class Duration(OptionGroup):
    """How long to measure one batch size.

    Attributes
    ----------
    seconds : float
        Measured for this long, and at least 10 calls.
    iterations : int, optional
        Measured for exactly this many calls instead.
    warm_up : int
        Calls before that, which are not measured.
    """

    seconds: float = like(BenchOptions, "seconds", SECONDS)
    iterations: int | None = like(BenchOptions, "iterations")
    warm_up: int = like(BenchOptions, "warm_up")
