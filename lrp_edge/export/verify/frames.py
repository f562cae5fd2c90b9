"""Real frames for verification or calibration, spread evenly over where they come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lrp_edge.card import ModelCard
from lrp_edge.errors import LrpEdgeError, needs_extra
from lrp_edge.export.verify.parity import random_frames
from lrp_edge.options import PictureOptions

with needs_extra("cpu"):
    import numpy as np
    from numpy.typing import NDArray

    from lrp_edge.runtime.sources import Images, SourceOptions, open_source

UInt8 = NDArray[np.uint8]
#: Height and width of a frame unless another size is given.
USUAL = (224, 224)
_NOISE = 8


@dataclass(frozen=True)
class Picture:
    """A frame, uint8 [H, W, C], and where it is from."""

    source: str
    image: UInt8


def read_frames(
    source: str, card: ModelCard, most: int | None = None, options: PictureOptions = PictureOptions()
) -> list[UInt8]:
    """Read frames in a card's channel order; parameters and errors as :func:`read_pictures`."""
    return [picture.image for picture in read_pictures(source, card.input.order, card.input.size, most, options)]


def read_pictures(
    source: str,
    order: str,
    size: tuple[int, int] | None = None,
    most: int | None = None,
    options: PictureOptions = PictureOptions(),
) -> list[Picture]:
    """Read frames of an image, folder, glob or video.

    Parameters
    ----------
    source : str
        Where they are.
    order : {"BGR", "RGB", "GRAY"}
        Channel order that they are to have.
    size : (height, width), optional
        Their required size.
    most : int, optional
        Take this many, evenly from the whole source.
    options : PictureOptions
        What files do not say themselves.

    Raises
    ------
    LrpEdgeError
        If the source cannot be opened, a frame cannot be read, or has another size.
    """
    opened = open_source(source, order, SourceOptions(**vars(options)))
    length = opened.length
    if most is not None and length is not None and length > most:
        wanted = [index * length // most for index in range(most)]
        if isinstance(opened, Images):  # so that no other is decoded
            opened, wanted = opened.only(wanted), list(range(most))
    else:
        wanted = list(range(most if length is None and most else length or 0))
    pictures = []
    for frame in opened:
        if wanted and frame.index > wanted[-1]:
            break
        if frame.image is None:
            raise LrpEdgeError(f"{frame.error}; fix it, or leave it out")
        if size is not None and frame.image.shape[:2] != size:
            found, taken = ("x".join(map(str, pair)) for pair in (frame.image.shape[:2], size))
            raise LrpEdgeError(f"{frame.source} is {found}; this model takes {taken} only: give frames of that size")
        if not wanted or frame.index in wanted:
            pictures.append(Picture(frame.source, frame.image))
    if not pictures:
        raise LrpEdgeError(f"{source} has no frames; give another image, folder, glob or video")
    return pictures


def common_pictures(
    source: str | None,
    cards: Sequence[tuple[Path, ModelCard]],
    most: int,
    options: PictureOptions = PictureOptions(),
) -> list[Picture]:
    """Read frames that several files take, or make some of noise where there is no source.

    Parameters
    ----------
    source : str or None
        As for :func:`read_pictures`.
    cards : sequence of (path, card)
        The files and their cards.
    most, options
        As for :func:`read_pictures`.

    Raises
    ------
    LrpEdgeError
        If the files do not take the same frames, or as :func:`read_pictures`.
    """
    order, size = _common_input(cards)
    if source is None:
        return _noise(cards, size, min(most, _NOISE))
    return read_pictures(source, order, size, most, options)


def _common_input(cards: Sequence[tuple[Path, ModelCard]]) -> tuple[str, tuple[int, int] | None]:
    """Return channel order and size of the frames; None is any size."""
    first, card = cards[0]
    order, sizes = card.input.order, {path: other.input.size for path, other in cards if other.input.size}
    for path, other in cards:
        if other.input.order != order:
            raise LrpEdgeError(f"{first} takes {order} frames, and {path} {other.input.order}; verify them one by one")
    if len(set(sizes.values())) > 1:
        said = ", ".join(f"{path} {size[0]}x{size[1]}" for path, size in sizes.items())
        raise LrpEdgeError(f"the files take frames of several sizes ({said}); verify them one by one")
    return order, next(iter(sizes.values()), None)


def _noise(cards: Sequence[tuple[Path, ModelCard]], size: tuple[int, int] | None, count: int) -> list[Picture]:
    spec = cards[0][1].input
    profiles = [card.profile["opt"][1:] for _, card in cards if card.profile]
    height, width = size or (profiles[0] if profiles else spec.resize or USUAL)
    frames = random_frames((int(height), int(width)), spec.channels, count)
    return [Picture(f"noise#{index}", frame) for index, frame in enumerate(frames)]
