"""Images that are nearly the same: spread over the parts of a split they let a model score by memory."""

from __future__ import annotations

import numpy as np

from lrp_edge.datasets.splits import Split
from lrp_edge.errors import needs_extra

#: Images whose perceptual hashes differ in at most this many of 256 bits are near copies.
NEAR = 24
#: Images that are compared with all others at once: the table of all pairs may not fit into memory.
_AT_ONCE = 1024


def near_copies(parts: Split) -> list[tuple[str, str]]:
    """Return the names of pairs of images in different parts that nearly agree.

    Raises
    ------
    LrpEdgeError
        If an image cannot be read.
    """
    with needs_extra("train"):
        import imagehash
        from PIL import Image
    names = [name for part in parts for name in part.names]
    owner = np.repeat(np.arange(len(parts)), [len(part.names) for part in parts])
    images = (sample.read("GRAY")[..., 0] for part in parts for sample in part.samples)
    hashes = [imagehash.phash(Image.fromarray(image), hash_size=16).hash.ravel() for image in images]
    bits = np.array(hashes, np.float32) * 2 - 1
    pairs = []
    for first in range(0, len(bits), _AT_ONCE):
        rows = slice(first, first + _AT_ONCE)
        differing = (bits.shape[1] - bits[rows] @ bits.T) / 2
        pairs.append(np.argwhere((differing <= NEAR) & (owner[rows, None] < owner[None, :])) + np.array([first, 0]))
    return [(names[a], names[b]) for a, b in np.concatenate(pairs)]


def said_of_copies(parts: Split) -> str:
    """Say in one line how many images of a split are nearly copies of one in another part; empty where none is."""
    pairs = near_copies(parts)
    if not pairs:
        return ""
    concerned = len({name for pair in pairs for name in pair})
    total = sum(len(part.names) for part in parts)
    return (
        f"{concerned} of {total} images are nearly the same as one in another part of the split, first "
        f"{' and '.join(pairs[0])}: figures on the test part may come from memory; keep them together with --group and "
        "lrp-edge data split --grouped"
    )
