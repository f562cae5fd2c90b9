"""Masks and their outlines against pixel truth, where a distance of a few pixels counts as no error."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lrp_edge.errors import needs_extra

with needs_extra("evaluate"):
    import cv2
    from skimage.morphology import disk
    from skimage.segmentation import find_boundaries

Bools = NDArray[np.bool_]


@dataclass
class Matches:
    """How many pixels of masks lie within a distance of the truth, and of the truth within it of masks, over images.

    Attributes
    ----------
    tolerance : int
        Greatest distance that counts as met, in pixels between their centres.
    found, right : int
        Pixels of the masks; those of them within the distance of the image's truth.
    there, met : int
        Pixels of the truth; those of them within the distance of the image's mask.
    scores : list of float
        F1 of each image with a defect.
    """

    tolerance: int
    found: int = 0
    right: int = 0
    there: int = 0
    met: int = 0
    scores: list[float] = field(default_factory=list)

    def add(self, mask: Bools, truth: Bools) -> None:
        """Add one image: mask and truth, bool [H, W]."""
        found, there = int(mask.sum()), int(truth.sum())
        right, met = (
            int((mask & widened(truth, self.tolerance)).sum()),
            int((truth & widened(mask, self.tolerance)).sum()),
        )
        self.found, self.right = self.found + found, self.right + right
        self.there, self.met = self.there + there, self.met + met
        if there:
            self.scores.append(f1(found, right, there, met))

    @property
    def pooled(self) -> float:
        """F1 over the pixels of all images together; NaN where none of them has a pixel to find."""
        return f1(self.found, self.right, self.there, self.met) if self.there else float("nan")


def f1(found: int, right: int, there: int, met: int) -> float:
    """Return the harmonic mean of precision ``right / found`` and recall ``met / there``; 0 where nothing is right."""
    if not right or not met:
        return 0.0
    precision, recall = right / found, met / there
    return 2 * precision * recall / (precision + recall)


def widened(mask: Bools, distance: int) -> Bools:
    """Return the pixels, bool [H, W], whose centre is at most `distance` pixels from that of one of the mask."""
    grown: Bools = cv2.dilate(mask.astype(np.uint8), disk(distance)) > 0
    return grown


def outline(mask: Bools) -> Bools:
    """Return the pixels of a mask, bool [H, W], one of whose four neighbours in the image is not of it.

    Where a region ends with the image there is no outline: that is where the camera stopped, not the defect.
    """
    edge: Bools = find_boundaries(mask, connectivity=1, mode="inner")
    return edge
