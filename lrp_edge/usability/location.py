"""A proof of location that needs no pixel truth: what a mask covers must decide the verdict, and nothing else may.

Of a frame that is decided a defect the masked pixels are filled from their surroundings: it must turn OK. As many
pixels are filled elsewhere, in the mask's own shape: it must stay a defect. A mask placed at random would turn it as
often in both cases, so that what a filling elsewhere does is chance for the first.

This proves that the mask covers what the verdict rests on, and not that a person would call it the defect: a network
that learnt a compact stain and masks it exactly passes. The labels of the images tell more, where stains are not bound
to defects: then OK images have such a mark as often as defects do, which :attr:`Location.separation` measures.

References
----------
Deletion as a measure of explanations: Samek et al. 2017, "Evaluating the Visualization of What a Deep Neural Network
Has Learned", IEEE TNNLS 28, 2660-2673. Filling: Bertalmio et al. 2001, "Navier-Stokes, Fluid
Dynamics, and Image and Video Inpainting", CVPR, as OpenCV has it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from lrp_edge.errors import needs_extra
from lrp_edge.runtime.result import Segmentation
from lrp_edge.usability.intervals import Estimate, difference, proportion

with needs_extra("evaluate"):
    import cv2

#: A mask is grown by so many pixels before it is filled: the soft rim of a defect is a part of it.
GROWN = 4
#: Pixels around the hole that a filled pixel is made of.
REACH = 3
#: Fillings elsewhere of each frame.
DRAWS = 3

UInt8 = NDArray[np.uint8]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Trial:
    """What became of one frame.

    Attributes
    ----------
    defect : bool
        Whether its label is a defect's.
    decided : bool
        Whether it was decided a defect.
    turned : bool
        Whether it was, and turned OK with what the mask covers filled; not with an empty mask.
    stayed : float or None
        Share of the fillings elsewhere after which it was still a defect; None without any.
    """

    defect: bool
    decided: bool = False
    turned: bool = False
    stayed: float | None = None


@dataclass(frozen=True)
class Location:
    """What fillings did to the verdict.

    Attributes
    ----------
    frames : int
        Frames that were decided defects.
    removed : Estimate
        Share of them that turn OK with what the mask covers filled.
    stays : Estimate or None
        Share of the fillings elsewhere after which a frame is still a defect, averaged by frame; its interval counts
        frames, not fillings. None if there was no room elsewhere in any frame.
    margin : Estimate or None
        How much more often a frame turns with the mask filled than with as much elsewhere: ``removed - (1 - stays)``.
        1 is a mask that decides alone, 0 is chance. It needs no labels.
    separation : Estimate or None
        How much more often images of defects than OK images are decided defects by a mark that turns them when it is
        filled. 1 is a model that finds every defect and its place, 0 is chance; it is what tells a model that learnt
        what comes with defects from one that learnt defects, on images where the one is not bound to the other. None
        without images of both kinds.
    """

    frames: int
    removed: Estimate
    stays: Estimate | None
    margin: Estimate | None
    separation: Estimate | None

    @property
    def chance(self) -> Estimate | None:
        """Share of the fillings elsewhere that turn a frame OK: what a mask placed at random would do."""
        return None if self.stays is None else Estimate(1 - self.stays.value, 1 - self.stays.high, 1 - self.stays.low)

    def __str__(self) -> str:
        said = f"with what the mask covers filled, {self.removed} of {self.frames} defects turn OK"
        if self.chance is None:
            return f"{said}; there is no room to fill as much elsewhere"
        return f"{said}, with as much filled elsewhere {self.chance}"


def try_frame(
    predictor: Callable[[UInt8], Segmentation],
    frame: UInt8,
    result: Segmentation,
    defect: bool,
    random: Generator,
    draws: int = DRAWS,
    decided: Callable[[Segmentation], bool] = operator.attrgetter("defect"),
) -> Trial:
    """Fill what a mask covers, and as much elsewhere.

    Parameters
    ----------
    predictor : callable
        Answers a frame with verdict and mask, as :class:`~lrp_edge.runtime.Segmenter` does.
    frame : uint8 [H, W, C]
        A camera frame with one or three channels.
    result : Segmentation
        What the predictor said of it; nothing is filled in a frame that was decided OK.
    defect : bool
        Whether its label is a defect's.
    random : Generator
        Draws the places elsewhere.
    draws : int
        Fillings elsewhere, 1 or more.
    decided : callable
        Whether an answer counts as a defect; by default whether it is decided to be one.
    """
    if not decided(result):
        return Trial(defect)
    where = grown(result.mask > 0)
    if not where.any() or where.all():
        return Trial(defect, decided=True)
    turned = not decided(predictor(fill(frame, where)))
    stayed = [decided(predictor(fill(frame, place))) for place in elsewhere(where, draws, random)]
    return Trial(defect, True, turned, float(np.mean(stayed)) if stayed else None)


def locate(trials: Sequence[Trial]) -> Location | None:
    """Count what became of frames; None if none was decided a defect."""
    decided = [trial for trial in trials if trial.decided]
    if not decided:
        return None
    removed = _share([trial.turned for trial in decided])
    assert removed is not None
    stays = _share([trial.stayed for trial in decided if trial.stayed is not None])
    marked, alarms = (_share([trial.turned for trial in trials if trial.defect == side]) for side in (True, False))
    separation = difference(marked, alarms) if marked and alarms else None
    whole = Location(len(decided), removed, stays, None, separation)
    margin = difference(removed, whole.chance) if whole.chance else None
    return Location(len(decided), removed, stays, margin, separation)


def _share(values: Sequence[float]) -> Estimate | None:
    return proportion(float(np.mean(values)), len(values)) if values else None


def grown(mask: Bools) -> Bools:
    """Return a mask, bool [H, W], grown by :data:`GROWN` pixels."""
    side = 2 * GROWN + 1
    element = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    return np.asarray(cv2.dilate(mask.astype(np.uint8), element) > 0)


def fill(frame: UInt8, where: Bools) -> UInt8:
    """Fill a place of a frame from what surrounds it.

    Parameters
    ----------
    frame : uint8 [H, W, C]
        One or three channels.
    where : bool [H, W]
        What is filled; not all of it.

    Returns
    -------
    uint8 [H, W, C]
        The frame, with other pixels there and the same elsewhere.
    """
    hole = where.astype(np.uint8)
    # OpenCV's Telea makes light frames lighter still.
    filled = cv2.inpaint(frame.squeeze(2) if frame.shape[2] == 1 else frame, hole, REACH, cv2.INPAINT_NS)
    return np.asarray(filled, np.uint8).reshape(frame.shape)


def elsewhere(where: Bools, count: int, random: Generator) -> list[Bools]:
    """Move a place elsewhere in the frame, with the same shape, so that it does not touch itself.

    Parameters
    ----------
    where : bool [H, W]
        The place; what is moved out at a border comes in at the opposite one.
    count : int
        How many moved ones are wanted.
    random : Generator
        Draws them.

    Returns
    -------
    list of bool [H, W]
        Empty if there is no room.
    """
    spectrum = np.fft.rfft2(where)
    overlap = np.fft.irfft2(spectrum * spectrum.conj(), where.shape)
    free = np.flatnonzero(overlap < 0.5)
    if not len(free):
        return []
    # A place elsewhere overlaps with none of the mask: those moves are the zeros of its autocorrelation.
    moves = np.unravel_index(random.choice(free, count), where.shape)
    return [np.roll(where, (int(down), int(right)), (0, 1)) for down, right in zip(*moves, strict=True)]
