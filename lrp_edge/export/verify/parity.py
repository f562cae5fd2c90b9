"""How far a file is from PyTorch: the same frames through both, and the differences of each output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from lrp_edge.errors import LrpEdgeError, first_line, needs_extra
from lrp_edge.export.deployable import Deployable

with needs_extra("export"):
    import numpy as np
    import torch
    from scipy.stats import rankdata

Frames = Sequence["np.ndarray[tuple[int, ...], np.dtype[np.uint8]]"]
#: Scores [K], label [], mask [H, W] and relevance [H, W] of a frame.
Answer = list[Any]


class Session(Protocol):
    """Anything that runs frames as ONNX Runtime's sessions do: outputs in the order of the contract."""

    def run(self, names: list[str] | None, feeds: dict[str, Any]) -> list[Any]: ...


@dataclass(frozen=True)
class Tolerance:
    """How far a file may be from its reference.

    Attributes
    ----------
    labels : float
        Least share of frames with the same label.
    scores : float
        Greatest absolute difference of a score.
    relevance : float
        Greatest L2 norm of the relevance's difference over that of the relevance.
    iou : float
        Least mean IoU of masks.
    """

    labels: float
    scores: float
    relevance: float
    iou: float


#: What an export must keep on noise, which is harder than frames: beyond it a file is broken, not coarse.
SOUND = {
    "fp32": Tolerance(0.0, 1e-3, 1e-2, 0.98),
    "fp16": Tolerance(0.0, 5e-2, 0.2, 0.9),
    "bf16": Tolerance(0.0, 0.2, 0.5, 0.75),
    "int8": Tolerance(0.0, 0.3, 0.9, 0.6),
}
#: What ``lrp-edge verify`` asks for on real frames.
PROMISED = {
    "fp32": Tolerance(1.0, 1e-3, 1e-2, 0.999),
    "fp16": Tolerance(0.995, 2e-2, 0.1, 0.99),
    "bf16": Tolerance(0.99, 0.1, 0.25, 0.95),
    "int8": Tolerance(0.99, 0.15, 0.5, 0.95),
}


@dataclass(frozen=True)
class Parity:
    """Differences between two computations of the same frames.

    Attributes
    ----------
    frames, masks : int
        Frames compared, and those among them where either side has a mask.
    label_agreement : float
        Share of frames with the same label.
    scores_max, scores_mean : float
        Greatest and mean absolute difference of a score.
    relevance_max, relevance_l2 : float
        Greatest absolute difference over the greatest relevance, and L2 norm of the difference over that of the
        relevance; of the worst frame each.
    relevance_rank : float
        Spearman's rank correlation of the pixels' relevance; mean over the frames.
    mask_iou_mean, mask_iou_worst : float
        Intersection over union of the masks, over frames where either side has one; 1 if none has.
    worst : int
        Index of the frame with the least IoU, or, where no mask differs, with the greatest difference of relevance.
    """

    frames: int
    masks: int
    label_agreement: float
    scores_max: float
    scores_mean: float
    relevance_max: float
    relevance_l2: float
    relevance_rank: float
    mask_iou_mean: float
    mask_iou_worst: float
    worst: int

    def as_dict(self, reference: str = "PyTorch float64") -> dict[str, Any]:
        """Return the figures as the model card stores them."""
        return {"reference": reference, **asdict(self)}

    def beyond(self, tolerance: Tolerance) -> list[str]:
        """Return what is beyond a tolerance, in words.

        The relevance is judged by its L2 norm: where two elements of a pooling window tie to the last bit, either
        may win, which moves the relevance of one pixel and is not an error.
        """
        judged = (
            ("labels agree on a share of", self.label_agreement, "at least", tolerance.labels),
            ("scores differ by", self.scores_max, "at most", tolerance.scores),
            ("relevance differs by", self.relevance_l2, "at most", tolerance.relevance),
            ("mean IoU of masks is", self.mask_iou_mean, "at least", tolerance.iou),
        )
        return [
            f"{said} {value:.3g} ({relation} {limit:g} expected)"
            for said, value, relation, limit in judged
            if not (value >= limit if relation == "at least" else value <= limit)
        ]

    def check(self, name: str, tolerance: Tolerance, advice: str = "") -> None:
        """Raise an error if the file is beyond a tolerance.

        Raises
        ------
        LrpEdgeError
            With each figure that is off and its tolerance, and the advice.
        """
        off = self.beyond(tolerance)
        if off:
            hint = f"; {advice}" if advice else ""
            raise LrpEdgeError(f"{name} is not what PyTorch computes: {'; '.join(off)}{hint}")


class TorchSession:
    """What was exported, in PyTorch and float64.

    Parameters
    ----------
    deployable : Deployable
        It is in float64 afterwards.
    """

    def __init__(self, deployable: Deployable) -> None:
        self._module = deployable.double()

    def run(self, names: list[str] | None, feeds: dict[str, Any]) -> list[Any]:
        """Return all four outputs of the frames."""
        with torch.no_grad():
            return [output.numpy() for output in self._module(torch.from_numpy(feeds["image"]))]


def run_frames(session: Session, frames: Frames) -> list[Answer]:
    """Run frames one by one.

    Raises
    ------
    LrpEdgeError
        If one cannot be computed.
    """
    answers = []
    for frame in frames:
        try:
            answers.append([output[0] for output in session.run(None, {"image": frame[None]})])
        except LrpEdgeError:
            raise
        except Exception as error:  # of any library, for a size that the model does not take
            raise LrpEdgeError(
                f"the model fails on frames of {frame.shape[0]}x{frame.shape[1]} ({first_line(error)}); a model that "
                "fixes its input size needs --size HxW"
            ) from error
    return answers


def compare(found: Sequence[Answer], expected: Sequence[Answer], explained: Sequence[bool] = ()) -> Parity:
    """Compare answers with those of a reference.

    Parameters
    ----------
    found, expected : sequence of Answer
        Of the same frames.
    explained : sequence of bool
        Whether relevance was asked for in each frame: behind a gate it is zero in others. By default in all.
    """
    asked = explained or [True] * len(found)
    rows = [_differences(*pair) for pair in zip(found, expected, asked, strict=True)]
    labels, highest, mean, largest, l2, rank, iou = (np.array(column, float) for column in zip(*rows, strict=True))
    masked = iou[~np.isnan(iou)]
    filled = np.where(np.isnan(iou), 1.0, iou)
    worst = int(filled.argmin()) if (filled < 1).any() else int(l2.argmax())
    return Parity(
        frames=len(rows),
        masks=len(masked),
        label_agreement=float(labels.mean()),
        scores_max=float(highest.max()),
        scores_mean=float(mean.mean()),
        relevance_max=float(largest.max()),
        relevance_l2=float(l2.max()),
        relevance_rank=float(rank.mean()),
        mask_iou_mean=float(masked.mean()) if len(masked) else 1.0,
        mask_iou_worst=float(masked.min()) if len(masked) else 1.0,
        worst=worst,
    )


def _differences(found: Answer, expected: Answer, explained: bool) -> tuple[float, ...]:
    scores = np.abs(found[0] - expected[0])
    either, both = (found[2] | expected[2]) > 0, (found[2] & expected[2]) > 0
    iou = float(both.sum() / either.sum()) if either.any() else float("nan")
    agree = float(found[1] == expected[1])
    if not explained:
        return agree, float(scores.max()), float(scores.mean()), 0.0, 0.0, 1.0, iou
    difference = found[3] - expected[3]
    scale, norm = np.abs(expected[3]).max() or 1.0, np.linalg.norm(expected[3]) or 1.0
    return (
        agree,
        float(scores.max()),
        float(scores.mean()),
        float(np.abs(difference).max() / scale),
        float(np.linalg.norm(difference) / norm),
        _rank_correlation(found[3], expected[3]),
        iou,
    )


def _rank_correlation(found: Any, expected: Any) -> float:
    """Return Spearman's rank correlation; 1 where the reference is the same everywhere."""
    a, b = rankdata(found), rankdata(expected)
    if a.std() == 0 or b.std() == 0:
        return float(a.std() == b.std())
    return float(np.corrcoef(a, b)[0, 1])


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
