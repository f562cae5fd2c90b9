"""Calls of other shapes than one frame of those given: batches that a file takes, and the ends of its profile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from lrp_edge.card import ModelCard
from lrp_edge.errors import LrpEdgeError, first_line, needs_extra
from lrp_edge.export.verify.frames import Picture
from lrp_edge.export.verify.parity import Answer, Session

with needs_extra("cpu"):
    import cv2
    import numpy as np


def batch_sizes(card: ModelCard) -> list[int]:
    """Return the numbers of frames in a call to try beside one: of an engine those of its profile, else the most."""
    sizes = {int(card.profile[end][0]) for end in ("min", "opt", "max")} if card.profile else {card.input.max_batch}
    return sorted(sizes - {1})


def end_pictures(card: ModelCard, like: Picture) -> list[Picture]:
    """Return a frame resized to the least and to the greatest size of an engine's profile, where it takes several."""
    ends = {(int(card.profile[end][1]), int(card.profile[end][2])) for end in ("min", "max")} if card.profile else set()
    if len(ends) < 2:
        return []
    pictures = []
    for height, width in sorted(ends):
        resized: Any = cv2.resize(like.image, (width, height))
        pictures.append(Picture(f"{like.source} at {height}x{width}", resized.reshape(height, width, -1)))
    return pictures


def answers_in_batches(session: Session, pictures: Sequence[Picture], size: int) -> Iterator[tuple[int, Answer]]:
    """Run frames in calls of several.

    Parameters
    ----------
    session : Session
        Takes so many.
    pictures : sequence of Picture
        Those of one size come into calls of their own. Where they do not fill the last of these, it begins again with
        the first.
    size : int
        Frames in a call.

    Yields
    ------
    index : int
        Of the picture.
    answer : Answer

    Raises
    ------
    LrpEdgeError
        If a call fails.
    """
    alike: dict[tuple[int, ...], list[int]] = {}
    for index, picture in enumerate(pictures):
        alike.setdefault(picture.image.shape, []).append(index)
    for indices in alike.values():
        for start in range(0, len(indices), size):
            chosen = [indices[(start + place) % len(indices)] for place in range(size)]
            frames = np.stack([pictures[index].image for index in chosen])
            try:
                outputs = session.run(None, {"image": frames})
            except LrpEdgeError:
                raise
            except Exception as error:  # of any library
                raise LrpEdgeError(f"a call of {size} frames fails ({first_line(error)})") from error
            yield from ((index, [output[place] for output in outputs]) for place, index in enumerate(chosen))
