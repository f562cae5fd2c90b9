"""The interface of engines and their outputs, independent of the backend."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lrp_edge.card import ModelCard
from lrp_edge.errors import LrpEdgeError

UInt8 = NDArray[np.uint8]
Float32 = NDArray[np.float32]

INPUTS = {"image": "uint8"}
OUTPUTS = {"scores": "float32", "label": "int32", "mask": "uint8", "relevance": "float32"}


class Outputs(NamedTuple):
    """The graph's answer to one call.

    Attributes
    ----------
    scores : float32 [N, K]
        Score of each class.
    label : int32 [N]
        Index of the decided class.
    mask : uint8 [N, H, W]
        255 where the defect is, else 0.
    relevance : float32 [N, H, W]
        Relevance of each pixel for the explained class.
    """

    scores: Float32
    label: NDArray[np.int32]
    mask: UInt8
    relevance: Float32


class Engine:
    """A loaded file that processes frames; a context manager. One thread at a time may use it.

    Attributes
    ----------
    card : ModelCard
        What the file is.
    name : str
        What runs it, e.g. ``"onnxruntime-cpu"``, ``"openvino-cpu"`` or ``"rtx"``.
    provider : str
        The short name by which it is asked for.
    in_flight : int
        Calls that may be under way at once; 1 for an engine that answers before :meth:`submit` returns.
    """

    card: ModelCard
    name: str
    provider: str
    in_flight: int = 1

    def run(self, frames: UInt8) -> Outputs:
        """Answer one call.

        Parameters
        ----------
        frames : uint8 [N, H, W, C]
            Camera frames in the card's channel order.

        Raises
        ------
        LrpEdgeError
            If the engine fails on them, or does not take their number or size.
        """
        raise NotImplementedError

    def submit(self, frames: UInt8) -> Callable[[], Outputs]:
        """Start a call, and return a function that waits for its outputs; `frames` may be reused at once."""
        outputs = self.run(frames)
        return lambda: outputs

    def close(self) -> None:
        """Release what the engine holds; calling it again is harmless."""

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def largest_batch(card: ModelCard) -> int:
    """Return the most frames in one call."""
    return int(card.profile["max"][0]) if card.profile else card.input.max_batch


def check_tensors(source: Any, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> None:
    """Compare a file's tensors, name to type, with the contract's.

    Raises
    ------
    LrpEdgeError
        If one is missing or of another type.
    """
    for kind, found, wanted in (("input", inputs, INPUTS), ("output", outputs, OUTPUTS)):
        for name, tensor_type in wanted.items():
            if found.get(name) != tensor_type:
                raise LrpEdgeError(
                    f"{source}: {kind} {name!r} is {found.get(name, 'missing')}; expected {tensor_type}: export again"
                )


def check_shapes(source: Any, card: ModelCard, image: Sequence[Any], scores: Sequence[Any]) -> None:
    """Compare the shapes of a file's frames and scores with its card.

    Parameters
    ----------
    source : path
        The file, for the error.
    card : ModelCard
        What it says that it is.
    image, scores : sequence
        Extents as far as the file fixes them, whatever else where it does not; empty where it says nothing.

    Raises
    ------
    LrpEdgeError
        If they are not those of the card's classes, channel order and size.
    """
    size = card.input.size or (None, None)
    for kind, name, found, wanted in (
        ("input", "image", image, (None, *size, card.input.channels)),
        ("output", "scores", scores, (None, len(card.classes))),
    ):
        pairs = zip(found, wanted, strict=False)
        fits = all(extent == want for extent, want in pairs if isinstance(extent, int) and want is not None)
        if found and not (fits and len(found) == len(wanted)):
            raise LrpEdgeError(
                f"{source}: {kind} {name!r} has shape {_shape(found)}; its card says {_shape(wanted)}: export again"
            )


def _shape(extents: Sequence[Any]) -> str:
    return f"[{', '.join(str(extent) if isinstance(extent, int) else '?' for extent in extents)}]"
