"""A large frame in overlapping tiles, each run through the model, merged without seams."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, pairwise, product
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from lrp_edge.card import ModelCard
from lrp_edge.decision import decide as decide_scores
from lrp_edge.decision import defect_probability
from lrp_edge.errors import LrpEdgeError
from lrp_edge.runtime.config import TilesTable
from lrp_edge.runtime.engines.base import largest_batch
from lrp_edge.runtime.result import Segmentation
from lrp_edge.runtime.segmenter import Segmenter

UInt8 = NDArray[np.uint8]
Float32 = NDArray[np.float32]
Size = tuple[int, int]
Vote = Literal["any", "majority", "mean"]


@dataclass(frozen=True)
class Cut:
    """Where the tiles of a frame lie, and how much each pixel of theirs counts.

    All tiles have one size: the last one of a row or column is shifted inwards, and overlaps more. Where the frame is
    smaller than a tile, there is one, and the frame's part of it counts.

    Attributes
    ----------
    frame, tile : (height, width)
        Sizes in pixels.
    overlap : (rows, columns)
        Pixels that neighbours have in common at least, less than a tile.
    """

    frame: Size
    tile: Size
    overlap: Size

    @cached_property
    def starts(self) -> tuple[Sequence[int], Sequence[int]]:
        """Where tiles start: rows, and columns."""
        rows, columns = map(_starts, self.frame, self.tile, self.overlap)
        return rows, columns

    @cached_property
    def weights(self) -> tuple[Float32, Float32]:
        """Weights along each tile, [tiles, tile] or [1, frame], which add up to 1 over all tiles."""
        rows, columns = map(_weights, self.starts, self.frame, self.tile)
        return rows, columns

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield the tiles, each as its numbers among the starts, by rows from the top."""
        rows, columns = self.starts
        return product(range(len(rows)), range(len(columns)))

    def place(self, row: int, column: int) -> tuple[slice, slice]:
        """Return where the frame has a tile."""
        top, left = self.starts[0][row], self.starts[1][column]
        return slice(top, min(top + self.tile[0], self.frame[0])), slice(left, min(left + self.tile[1], self.frame[1]))

    def weight(self, row: int, column: int) -> Float32:
        """Return the weight of each pixel of the frame's part of a tile."""
        weight: Float32 = np.multiply.outer(self.weights[0][row], self.weights[1][column])
        return weight


def _starts(length: int, tile: int, overlap: int) -> Sequence[int]:
    last = max(0, length - tile)
    return (*range(0, last, tile - overlap), last)


def _weights(starts: Sequence[int], length: int, tile: int) -> Float32:
    """Return raised cosines over what neighbours have in common, 1 elsewhere."""
    span = min(tile, length)
    weights = np.ones((len(starts), span))
    for i, (first, second) in enumerate(pairwise(starts)):
        shared = first + span - second
        rise = np.sin(np.pi / 2 * (np.arange(shared) + 0.5) / shared) ** 2
        weights[i, span - shared :] *= rise[::-1]
        weights[i + 1, :shared] *= rise
    # Where a tile is shifted inwards, or overlaps are wide, three or more may meet.
    total = np.zeros(length)
    for start, weight in zip(starts, weights, strict=True):
        total[start : start + span] += weight
    for start, weight in zip(starts, weights, strict=True):
        weight /= total[start : start + span]
    return weights.astype(np.float32)


def check_tile(card: ModelCard, tile: Size, overlap: Size) -> None:
    """Refuse tiles that a model does not take, or that are smaller than what its features see.

    Parameters
    ----------
    card : ModelCard
        The model's.
    tile : (height, width)
        Size of the tiles in pixels.
    overlap : (rows, columns)
        Pixels that neighbours have in common.

    Raises
    ------
    LrpEdgeError
        If the overlap does not fit the tile, or the tile not the model's size, its engine's profile or its receptive
        field.
    """
    said = f"tiles are {_said(tile)}"
    if not all(0 <= shared < side for shared, side in zip(overlap, tile, strict=True)):
        raise LrpEdgeError(f"{said} and overlap by {_said(overlap)}; expected 0 or more, and less than the tile")
    if card.input.size not in (None, tile):
        raise LrpEdgeError(
            f"{said}; this model takes {_said(card.input.size)}: use that size, or export with --size dynamic"
        )
    if card.profile:
        ends = [tuple(card.profile[end][1:]) for end in ("min", "max")]
        if not all(least <= side <= most for side, least, most in zip(tile, *ends, strict=True)):
            raise LrpEdgeError(
                f"{said}; this engine takes {_said(ends[0])} to {_said(ends[1])}: choose among these, or compile "
                "with --smallest and --largest"
            )
    _check_field(card, tile, said)


def _check_field(card: ModelCard, tile: Size, said: str) -> None:
    resize, field = card.input.resize, card.receptive_field
    if field is None or all(side >= seen for side, seen in zip(resize or tile, field, strict=True)):
        return
    if resize is None:
        raise LrpEdgeError(f"{said}; a feature of this network sees {_said(field)} pixels: make them larger")
    raise LrpEdgeError(
        f"{said}, which the network gets as {_said(resize)}; one of its features sees {_said(field)} pixels of "
        "that: export with a larger --resize, or without"
    )


def _said(size: Sequence[int] | None) -> str:
    return "x".join(map(str, size or ()))


class Tiler:
    """A segmenter for frames that are larger than what its model is run at.

    Parameters
    ----------
    segmenter : Segmenter
        Runs the tiles, as many in a call as the model takes. It is not closed with this.
    tile : (height, width)
        Size of a tile in pixels.
    overlap : (rows, columns)
        Pixels that neighbouring tiles have in common at least.
    vote : {"any", "majority", "mean"}
        How the tiles' answers become the frame's. ``any``: it has class and scores of its strongest tile, a defect
        before all others, and its mask is what any tile masks. ``majority``: the class that most tiles have, and for
        scores the shares of tiles. ``mean``: the mean of the scores, and what the model's decision says of it. With
        these two the mask is what tiles mask that have at least half of a pixel's weight.

    Raises
    ------
    LrpEdgeError
        If there is no such vote, or as :func:`check_tile`.
    """

    def __init__(self, segmenter: Segmenter, tile: Size, overlap: Size, *, vote: Vote = "any") -> None:
        if vote not in get_args(Vote):
            raise LrpEdgeError(f"vote is {vote!r}; expected any, majority or mean")
        self.tile, self.overlap, self.vote = (tile[0], tile[1]), (overlap[0], overlap[1]), vote
        check_tile(segmenter.card, self.tile, self.overlap)
        self._segmenter, self._limit = segmenter, largest_batch(segmenter.card)
        self._stack: UInt8 = np.empty(0, np.uint8)

    def __call__(self, frame: UInt8) -> Segmentation:
        """Segment a frame.

        Besides mask and relevance it holds one call's tiles and answers at a time, regardless of the frame's size.

        Parameters
        ----------
        frame : uint8 [H, W, C], or [H, W] for a gray model
            A camera frame in the card's channel order.

        Returns
        -------
        Segmentation
            Relevance is the mean of the tiles' by weights that fall towards their borders; ``milliseconds`` are those
            of all calls.

        Raises
        ------
        LrpEdgeError
            If the frame's type or shape is not what the model takes.
        """
        if not isinstance(frame, np.ndarray) or frame.ndim not in (2, 3) or 0 in frame.shape:
            return self._segmenter(frame)  # which says what is wrong with it
        cut = Cut(frame.shape[:2], self.tile, self.overlap)
        canvas = _Canvas(cut, weighs=self.vote != "any")
        tiles = iter(cut)
        while batch := list(islice(tiles, self._limit)):
            self._run(frame, batch, canvas)
        return self._answer(canvas)

    def _run(self, frame: UInt8, tiles: list[tuple[int, int]], canvas: _Canvas) -> None:
        shape = (self._limit, *self.tile, *frame.shape[2:])
        if (self._stack.shape, self._stack.dtype) != (shape, frame.dtype):
            self._stack = np.empty(shape, frame.dtype)
        for target, tile in zip(self._stack, tiles, strict=False):
            part = frame[canvas.cut.place(*tile)]
            missing = [(0, side - there) for side, there in zip(target.shape, part.shape, strict=True)]
            np.copyto(target, np.pad(part, missing, mode="reflect") if part.shape != target.shape else part)
        for tile, found in zip(tiles, self._segmenter.batch(self._stack[: len(tiles)]), strict=True):
            canvas.add(tile, found)

    def _answer(self, canvas: _Canvas) -> Segmentation:
        card = self._segmenter.card
        label, scores = decide(card, self.vote, canvas.labels, np.stack(canvas.scores))
        defect = label in card.defect_indices
        mask = canvas.finish()
        if not defect:
            mask.fill(0)
        return Segmentation(label, card.classes[label], defect, scores, mask, canvas.relevance, canvas.milliseconds)


def tiler_for(segmenter: Segmenter, tiles: TilesTable) -> Callable[[UInt8], Segmentation]:
    """Return what segments a line's frames: a tiler, or the segmenter itself where the line has no tiles."""
    if tiles.size is None:
        return segmenter
    height, width = tiles.size
    overlap = (round(height * tiles.overlap), round(width * tiles.overlap))
    return Tiler(segmenter, tiles.size, overlap, vote=tiles.vote)


class _Canvas:
    """The frame's answer while its tiles come in, by rows from the top."""

    def __init__(self, cut: Cut, weighs: bool) -> None:
        self.cut = cut
        self.relevance: Float32 = np.zeros(cut.frame, np.float32)
        self.labels: list[int] = []
        self.scores: list[Float32] = []
        self.milliseconds = 0.0
        self._mask: UInt8 = np.zeros(cut.frame, np.uint8)
        # Votes are kept for as many rows as a tile has: those above get no more.
        height = min(cut.tile[0], cut.frame[0]) if weighs else 0
        self._votes: Float32 = np.zeros((height, cut.frame[1]), np.float32)
        self._decided = 0

    def add(self, tile: tuple[int, int], found: Segmentation) -> None:
        """Take a tile's answer."""
        self.labels.append(found.label)
        self.scores.append(found.scores)
        self.milliseconds += found.milliseconds
        rows, columns = self.cut.place(*tile)
        weight = self.cut.weight(*tile)
        height, width = weight.shape
        self.relevance[rows, columns] += weight * found.relevance[:height, :width]
        mask = found.mask[:height, :width]
        if len(self._votes):
            self._decide(rows.start)
            self._votes[:, columns] += weight * mask
        else:
            np.maximum(self._mask[rows, columns], mask, out=self._mask[rows, columns])

    def finish(self) -> UInt8:
        """Return the mask, after the last tile."""
        if len(self._votes):
            self._decide(self.cut.frame[0])
        return self._mask

    def _decide(self, end: int) -> None:
        """Turn votes into the mask's rows before `end`."""
        count = end - self._decided
        if count == 0:
            return
        np.multiply(self._votes[:count] >= 255 / 2, 255, out=self._mask[self._decided : end], dtype=np.uint8)
        self._votes[:-count] = self._votes[count:]
        self._votes[-count:] = 0
        self._decided = end


def decide(card: ModelCard, vote: Vote, labels: Sequence[int], scores: Float32) -> tuple[int, Float32]:
    """Return a frame's label and scores.

    Parameters
    ----------
    card : ModelCard
        Says which classes are defects, and when a frame is one.
    vote : {"any", "majority", "mean"}
        How, see :class:`Tiler`.
    labels : sequence of int
        Label of each tile.
    scores : float32 [T, K]
        Scores of each.

    Returns
    -------
    label : int
    scores : float32 [K]
    """
    if vote == "any":
        defects = card.defect_indices
        # Without a threshold the label does not follow P(defect), and nor does the strength.
        strength = defect_probability(card, scores) if card.decision else scores[:, list(defects)].max(1, initial=0)
        strongest = max(range(len(labels)), key=lambda tile: (labels[tile] in defects, strength[tile]))
        return labels[strongest], scores[strongest]
    mean = scores.mean(0, dtype=np.float64)
    if vote == "mean":
        return int(decide_scores(card, mean)), mean.astype(np.float32)
    votes = np.bincount(labels, minlength=len(card.classes))
    # Of classes with as many tiles each, that of the higher mean score.
    label = max(range(len(votes)), key=lambda label: (votes[label], mean[label]))
    return label, (votes / len(labels)).astype(np.float32)
