"""How far a file is from PyTorch: the same frames through both, and the differences of each output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from lrp_edge.errors import LrpEdgeError, needs_extra
from lrp_edge.export.deployable import Deployable

with needs_extra("cpu"):
    import numpy as np
    import onnxruntime
with needs_extra("export"):
    import torch

Frames = Sequence["np.ndarray[tuple[int, ...], np.dtype[np.uint8]]"]

SCORES_TOLERANCE = 1e-3
RELEVANCE_TOLERANCE = 1e-2
MASK_TOLERANCE = 0.98


@dataclass(frozen=True)
class Parity:
    """Differences between a file and PyTorch in float64 over some frames.

    Attributes
    ----------
    frames : int
        Frames compared.
    label_agreement : float
        Share of frames with the same label.
    scores_max : float
        Greatest absolute difference of a score.
    relevance_max, relevance_l2 : float
        Greatest absolute difference over the greatest relevance, and L2 norm of the difference over that of the
        relevance; of the worst frame each.
    mask_iou_mean, mask_iou_worst : float
        Intersection over union of the masks; 1 where both are empty.
    """

    frames: int
    label_agreement: float
    scores_max: float
    relevance_max: float
    relevance_l2: float
    mask_iou_mean: float
    mask_iou_worst: float

    def as_dict(self) -> dict[str, float]:
        """Return the figures as the model card stores them."""
        return {"reference": "PyTorch float64", **asdict(self)}

    def check(self, name: str) -> None:
        """Raise an error if the file is beyond the tolerances.

        The relevance is judged by its L2 norm: where two elements of a pooling window tie to the last bit, either
        may win, which moves the relevance of one pixel and is no error.

        Raises
        ------
        LrpEdgeError
            With each figure that is off and its tolerance.
        """
        off = [
            f"{label} {value:.2g} ({relation} {limit:g} expected)"
            for label, value, limit, relation, bad in (
                (
                    "scores differ by",
                    self.scores_max,
                    SCORES_TOLERANCE,
                    "at most",
                    self.scores_max > SCORES_TOLERANCE,
                ),
                (
                    "relevance differs by",
                    self.relevance_l2,
                    RELEVANCE_TOLERANCE,
                    "at most",
                    self.relevance_l2 > RELEVANCE_TOLERANCE,
                ),
                (
                    "mean IoU of masks is",
                    self.mask_iou_mean,
                    MASK_TOLERANCE,
                    "at least",
                    self.mask_iou_mean < MASK_TOLERANCE,
                ),
            )
            if bad or value != value
        ]
        if off:
            raise LrpEdgeError(f"{name} is not what PyTorch computes: {'; '.join(off)}")


def measure(file: str | Path, deployable: Deployable, frames: Frames) -> Parity:
    """Run frames through an ONNX file and through PyTorch in float64.

    Parameters
    ----------
    file : path
        The ONNX file, run by ONNX Runtime on the CPU.
    deployable : Deployable
        What it was exported from; it is in float64 afterwards.
    frames : sequence of uint8 arrays [H, W, C]
        Frames of sizes that the file is to take.

    Raises
    ------
    LrpEdgeError
        If either side cannot compute a frame.
    """
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    reference = deployable.double()
    rows = []
    for frame in frames:
        batch = frame[None]
        try:
            got = session.run(None, {"image": batch})
            with torch.no_grad():
                expected = [output.numpy() for output in reference(torch.from_numpy(batch))]
        except Exception as error:  # of either library, for a size that the model does not take
            reason = str(error).strip().splitlines()[0]
            raise LrpEdgeError(
                f"the model fails on frames of {frame.shape[0]}x{frame.shape[1]} ({reason}); a model that fixes its "
                "input size needs --size HxW"
            ) from error
        rows.append(_compare(got, expected))
    scores, labels, largest, l2, iou = (np.array(column) for column in zip(*rows, strict=True))
    return Parity(
        len(rows),
        float(labels.mean()),
        float(scores.max()),
        float(largest.max()),
        float(l2.max()),
        float(iou.mean()),
        float(iou.min()),
    )


def _compare(got: list[np.ndarray], expected: list[np.ndarray]) -> tuple[float, bool, float, float, float]:
    difference = got[3] - expected[3]
    scale = np.abs(expected[3]).max() or 1.0
    norm = np.linalg.norm(expected[3]) or 1.0
    either, both = (got[2] | expected[2]) > 0, (got[2] & expected[2]) > 0
    return (
        float(np.abs(got[0] - expected[0]).max()),
        bool(got[1][0] == expected[1][0]),
        float(np.abs(difference).max() / scale),
        float(np.linalg.norm(difference) / norm),
        float(both.sum() / either.sum()) if either.any() else 1.0,
    )


def random_frames(size: tuple[int, int], channels: int, count: int, seed: int = 0) -> list[np.ndarray]:
    """Return `count` uint8 frames [H, W, C] of noise, coarse and fine, that fill the range of a pixel."""
    draw = np.random.default_rng(seed)
    height, width = size
    frames = []
    for _ in range(count):
        coarse = draw.integers(0, 200, (-(-height // 8), -(-width // 8), channels))
        grown = coarse.repeat(8, 0).repeat(8, 1)[:height, :width]
        frames.append((grown + draw.integers(0, 56, (height, width, channels))).astype(np.uint8))
    return frames
