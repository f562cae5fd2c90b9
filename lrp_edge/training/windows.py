"""Windows of the training images at native resolution, chosen without pixel truth.

A label holds for a whole image, and a window drawn at random from the image of a small defect often misses
it. So some of the windows are drawn where the current model finds the most evidence: in a defect image, for its
class against the OK classes; in an OK image, for any defect, which makes these windows hard negatives. Where
an annotator clicked on a defect, windows are drawn around the click instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lrp_edge.datasets import Dataset
from lrp_edge.errors import needs_extra

with needs_extra("train"):
    import torch
    from torch import Tensor
    from torch.nn import functional
    from torch.utils.data import Dataset as TorchDataset

#: How far a window's centre may lie from the evidence that it was chosen for, as a fraction of its side.
JITTER = 1 / 3
#: Longest side in pixels of an image that is taken whole.
LARGEST = 1024
#: Factors on the size of an image that is taken whole.
SCALES = (0.85, 1.15)
#: Decoded images that are kept in memory, per worker if there are any.
CACHE_BYTES = 1 << 30


class Frames(TorchDataset[tuple[Tensor, int]]):
    """Whole images before normalisation, uint8 [C, H, W], gray or RGB, and their class indices.

    Decoded images are kept as long as they fit into :data:`CACHE_BYTES`: windows are drawn from each again and again.
    """

    def __init__(self, dataset: Dataset, gray: bool) -> None:
        self.dataset, self.gray, self.labels = dataset, gray, dataset.labels
        self._kept: dict[int, Tensor] = {}
        self._free = CACHE_BYTES

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if index not in self._kept:
            frame = self.dataset.samples[index].read("GRAY" if self.gray else "RGB")
            image = torch.from_numpy(np.ascontiguousarray(frame.transpose(2, 0, 1)))
            if image.nbytes > self._free:
                return image, int(self.labels[index])
            self._kept[index] = image
            self._free -= image.nbytes
        return self._kept[index], int(self.labels[index])


class Draw:
    """Which images an epoch has.

    Parameters
    ----------
    labels : ndarray, int64 [n]
        Class indices of the images.
    balance : float
        Exponent on the class frequencies: 0 draws images as they occur, 1 draws all classes equally often.
    ok : sequence of int
        Indices of the OK classes.
    ok_share : float
        Share of the images that are of them; with 0, `balance` holds for them too, and as many are drawn as there are.
        Otherwise so many are drawn that each defect image comes once on average.
    """

    def __init__(self, labels: NDArray[np.int64], balance: float, ok: Sequence[int] = (), ok_share: float = 0) -> None:
        weights = np.bincount(labels)[labels].astype(np.float64) ** -balance
        is_ok, self.count = np.isin(labels, ok), len(labels)
        if ok_share and is_ok.any() and not is_ok.all():
            weights *= np.where(is_ok, ok_share / weights[is_ok].sum(), (1 - ok_share) / weights[~is_ok].sum())
            self.count = round(int((~is_ok).sum()) / (1 - ok_share))
        self._weights = weights / weights.sum()

    def __call__(self, seed: int, epoch: int) -> NDArray[np.int64]:
        """Return the indices of an epoch's images, int64 [count]."""
        generator = np.random.default_rng((seed, epoch))
        return generator.choice(len(self._weights), self.count, p=self._weights)


class WholeImages(TorchDataset[tuple[Tensor, int]]):
    """The images of one epoch, flipped, turned and scaled: uint8 [C, H, W] of different sizes, and class index.

    An image of more than :data:`LARGEST` pixels a side is cut to that at random. Each has its own random state, so that
    the number of workers does not change what is drawn.
    """

    def __init__(self, frames: Frames, draw: Draw, seed: int) -> None:
        self.frames, self.seed, self._draw = frames, seed, draw
        self.draw(0)

    def draw(self, epoch: int) -> None:
        """Choose the images of an epoch."""
        self.epoch, self._chosen = epoch, self._draw(self.seed, epoch)

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.varied(self.chosen(index), index)

    def chosen(self, index: int) -> int:
        """Return which of the frames an item is."""
        return int(self._chosen[index])

    def varied(self, chosen: int, index: int) -> tuple[Tensor, int]:
        """Return a frame, varied as the item is."""
        generator = np.random.default_rng((self.seed, self.epoch, index))
        frame, label = self.frames[chosen]
        for axis in (1, 2):
            if frame.shape[axis] > LARGEST:
                frame = frame.narrow(axis, int(generator.integers(frame.shape[axis] - LARGEST + 1)), LARGEST)
        frame = frame.flip([axis for axis in (1, 2) if generator.random() < 0.5])
        if generator.random() < 0.25:
            frame = frame.transpose(1, 2)
        if generator.random() < 0.5:
            factor = float(generator.uniform(*SCALES))
            frame = functional.interpolate(frame[None], scale_factor=factor, mode="bilinear")[0]
        return frame.contiguous(), label


class Windows(TorchDataset[tuple[Tensor, int]]):
    """The windows of one epoch: uint8 [C, side, side] and class index.

    Each window has its own random state, so that the number of workers does not change what is drawn.

    Parameters
    ----------
    frames : Frames
        The training images.
    side : int
        Side of a window in pixels; a smaller image is extended by reflection.
    draw : Draw
        Which images an epoch has.
    guided : float
        Fraction of the windows that follow the evidence maps, once there are any.
    seed : int
        Random seed.
    clicks : mapping, optional
        By index of an image, points [n, 2] as (row, column) in pixels; all its windows are cut around them.
    """

    def __init__(
        self,
        frames: Frames,
        side: int,
        draw: Draw,
        guided: float,
        seed: int,
        clicks: Mapping[int, NDArray[np.float64]] | None = None,
    ) -> None:
        self.frames, self.side, self.guided, self.seed, self.epoch = frames, side, guided, seed, 0
        self.clicks = dict(clicks or {})
        self._draw = draw
        self.evidence: Sequence[NDArray[np.float32]] = ()
        self.draw(0)

    def draw(self, epoch: int) -> None:
        """Choose the images of an epoch."""
        self.epoch, self._chosen = epoch, self._draw(self.seed, epoch)

    def follow(self, evidence: Sequence[NDArray[np.float32]]) -> None:
        """Follow new evidence maps: one [h, w] of any size per image, high where windows are to be cut."""
        self.evidence = evidence

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        generator = np.random.default_rng((self.seed, self.epoch, index))
        chosen = int(self._chosen[index])
        frame, label = self.frames[chosen]
        size = np.array(frame.shape[1:])
        centre = generator.random(2)
        if chosen in self.clicks:
            centre = (generator.choice(self.clicks[chosen]) + 0.5) / size
        elif self.evidence and generator.random() < self.guided:
            centre = _most_evident(self.evidence[chosen], generator)
        corner = place(centre * size, self.side, np.maximum(size, self.side), generator)
        return cut(frame, corner, self.side), label


def place(
    centre: NDArray[np.float64], side: int, size: NDArray[np.int64], generator: np.random.Generator
) -> NDArray[np.int64]:
    """Return the upper left corner of a window near `centre` and inside an image of `size`, all in pixels."""
    offset = generator.uniform(-JITTER, JITTER, 2)
    return np.clip(np.round(centre + (offset - 0.5) * side).astype(np.int64), 0, size - side)


def cut(frame: Tensor, corner: NDArray[np.int64], side: int) -> Tensor:
    """Cut a window out of an image [C, H, W], extended by reflection where it is smaller."""
    top, left = (int(v) for v in corner)
    return _extend(frame, side)[:, top : top + side, left : left + side]


def _most_evident(evidence: NDArray[np.float32], generator: np.random.Generator) -> NDArray[np.float64]:
    """Draw a position with softmax probability; returned as fractions of height and width."""
    weights = np.exp(evidence.astype(np.float64) - evidence.max()).ravel()
    position = generator.choice(evidence.size, p=weights / weights.sum())
    rows, columns = evidence.shape
    return (np.array(divmod(int(position), columns)) + 0.5) / (rows, columns)


def _extend(frame: Tensor, side: int) -> Tensor:
    """Extend an image by reflection, repeatedly if needed, to at least `side` pixels in height and width."""
    for axis in (1, 2):
        missing = side - frame.shape[axis]
        if missing > 0:
            size = frame.shape[axis]
            positions = torch.arange(side) % (2 * size)
            frame = frame.index_select(axis, torch.where(positions < size, positions, 2 * size - 1 - positions))
    return frame
