"""Frames through the C interface, in a process of its own: ``python cpp_answers.py FOLDER MODEL PROVIDER CALLS OUT``.

CALLS is an .npz file with the frames uint8 [N, H, W, C] of each call, all of one size. OUT is to become one with what
is said of all frames: label, scores, mask and relevance. An empty PROVIDER leaves the choice to the library.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from tests.support import cpp_ctypes
from tests.support.cpp_ctypes import OK, Handle, Result, frame_of


def run(handle: Handle, calls: Iterable[np.ndarray]) -> Iterator[dict[str, object]]:
    """Yield what is said of each frame."""
    for frames in calls:
        status, results = handle.run([frame_of(frame) for frame in frames])
        if status != OK:
            sys.exit(handle.error)
        yield from map(copied, results)


def copied(result: Result) -> dict[str, object]:
    """Copy a result, which is gone with the next call."""
    plane = (result.height, result.width)
    shapes = {"scores": (result.score_count,), "mask": plane, "relevance": plane}
    arrays = {name: np.ctypeslib.as_array(getattr(result, name), shape).copy() for name, shape in shapes.items()}
    return {"label": np.int32(result.label), **arrays}


def main(folder: str, model: str, provider: str, calls: str, out: str) -> None:
    """Write the answers of a build's library, and print what ran the model."""
    with np.load(calls) as given, Handle(cpp_ctypes.load(Path(folder)), model, provider) as handle:
        if handle.status != OK:
            sys.exit(handle.error)
        print(str(handle.info().provider, "utf-8"))
        found = list(run(handle, given.values()))
    label, scores, mask, relevance = (np.array([each[name] for each in found]) for name in found[0])
    np.savez(out, label=label, scores=scores, mask=mask, relevance=relevance)


if __name__ == "__main__":
    main(*sys.argv[1:])
