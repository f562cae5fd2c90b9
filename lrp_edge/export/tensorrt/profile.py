"""The frames that an engine takes: the least, the usual and the most of them, and their sizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lrp_edge.card import InputSpec
from lrp_edge.errors import LrpEdgeError

Size = tuple[int, int]
Shape = tuple[int, int, int]
_SMALLEST, _USUAL, _LARGEST = (64, 64), (512, 512), (1024, 1024)


@dataclass(frozen=True)
class Profile:
    """Shapes ``(frames, height, width)`` that an engine takes in one call.

    Attributes
    ----------
    smallest, usual, largest : (frames, height, width)
        It takes all between the first and the last, and is fastest at the one between.
    """

    smallest: Shape
    usual: Shape
    largest: Shape

    def as_dict(self) -> dict[str, list[int]]:
        """Return it as the card has it."""
        return {"min": list(self.smallest), "opt": list(self.usual), "max": list(self.largest)}


def profile_for(
    spec: InputSpec,
    batch: tuple[int, int, int] | None = None,
    smallest: Size | None = None,
    usual: Size | None = None,
    largest: Size | None = None,
) -> Profile:
    """Return the profile for a model's input and a user's wishes.

    Parameters
    ----------
    spec : InputSpec
        Frames that the model takes.
    batch : (least, usual, most), optional
        Frames in one call; by default one, one, and as many as the model takes.
    smallest, usual, largest : (height, width), optional
        Sizes in pixels for a model of dynamic size; by default 64, 512 and 1024, or what fits those that are given.

    Raises
    ------
    LrpEdgeError
        If they are not in ascending order, or the model does not take them.
    """
    counts = batch or (1, 1, spec.max_batch)
    if counts[2] > spec.max_batch:
        raise LrpEdgeError(
            f"a batch of {counts[2]} frames is more than the model takes ({spec.max_batch}): make it smaller, "
            f"or export the model with --max-batch {counts[2]}"
        )
    sizes = _sizes(smallest, usual, largest) if spec.size is None else _own_size(spec.size, smallest, usual, largest)
    shapes = [(count, *size) for count, size in zip(counts, sizes, strict=True)]
    for axis, *values in zip(("batch", "height", "width"), *shapes, strict=True):
        if values != sorted(values) or values[0] < 1:
            raise LrpEdgeError(
                f"{axis} of the frames is {values[0]}, {values[1]} and {values[2]} for smallest, usual and largest; "
                "expected an ascending order from 1"
            )
    return Profile(*shapes)


def _own_size(own: Size, *wishes: Size | None) -> list[Size]:
    for wish in wishes:
        if wish not in (None, own):
            raise LrpEdgeError(
                f"the model takes frames of {own[0]}x{own[1]} only, not {wish[0]}x{wish[1]}: leave that size out, "
                "or export the model with --size dynamic"
            )
    return [own] * 3


def _sizes(smallest: Size | None, usual: Size | None, largest: Size | None) -> list[Size]:
    given = [size for size in (smallest, usual, largest) if size]
    first = smallest or _by_axis(min, _SMALLEST, *given)
    last = largest or _by_axis(max, _LARGEST, *given)
    return [first, usual or _by_axis(min, _by_axis(max, _USUAL, first), last), last]


def _by_axis(choose: Callable[[tuple[int, ...]], int], *sizes: Size) -> Size:
    height, width = (choose(values) for values in zip(*sizes, strict=True))
    return height, width
