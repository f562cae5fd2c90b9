"""What is explained: from logits [N, K] to the relevance [N, K] that the backward pass starts with.

The start of an explained class is its logit, so that relevance is in the unit of the logits. By rules that divide by
the logit, evidence for the class is then positive regardless of the logit's sign. Rules that hand on the sign of what
they are given, such as ZPlus, need a start that is positive itself, see :func:`amount`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lrp_edge.errors import LrpEdgeError

Target = Callable[[Tensor], Tensor]


def _among(logits: Tensor, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return which classes are among `indices`, [K], and the logits with all others at the least value, [N, K]."""
    member = torch.tensor([i in indices for i in range(logits.shape[1])], device=logits.device)
    return member, torch.where(member, logits, torch.finfo(logits.dtype).min)


def amount(logits: Tensor) -> Tensor:
    """Return logits [N, K] with those that are not positive replaced by softplus(logit − logsumexp of the others).

    That is small where the class is far behind the others, and positive.
    """
    own = torch.eye(logits.shape[1], dtype=torch.bool, device=logits.device)
    others = torch.where(own, torch.finfo(logits.dtype).min, logits.unsqueeze(1)).logsumexp(2)
    return torch.where(logits > 0, logits, torch.nn.functional.softplus(logits - others))


@dataclass(frozen=True)
class OfLogits:
    """A start that is each logit times a weight of its class.

    Attributes
    ----------
    weights : callable
        From logits [N, K] to weights [N, K].
    positive : bool
        Whether it is the :func:`amount` of each logit that is weighed instead.
    """

    weights: Target
    positive: bool = False

    def __call__(self, logits: Tensor) -> Tensor:
        """Return the start, [N, K]."""
        return self.weights(logits) * (amount(logits) if self.positive else logits)


def strongest(logits: Tensor, indices: Sequence[int]) -> Tensor:
    """Return weights [N, K] that are one for the class of the greatest logit among `indices`, else zero."""
    best = _among(logits, indices)[1].argmax(1, keepdim=True)
    classes = torch.arange(logits.shape[1], device=logits.device)
    return (classes == best).to(logits.dtype)


def contrast(logits: Tensor, defects: Sequence[int], ok: Sequence[int]) -> Tensor:
    """Return weights [N, K] for the log-odds of defect against OK, logsumexp(defects) − logsumexp(ok).

    Each logit counts with the derivative of the log-odds by it: the softmax among its own side. With one class on
    either side this explains the difference of the two logits.
    """
    weights = torch.zeros_like(logits)
    for side, sign in ((defects, 1.0), (ok, -1.0)):
        member, own = _among(logits, side)
        weights = weights + sign * torch.where(member, own.softmax(1), 0.0)
    return weights


def evidence(logits: Tensor, defects: Sequence[int], ok: Sequence[int]) -> Tensor:
    """Return the start for all defects at once: for each, softplus(logit − logsumexp(ok)).

    That is minus the logarithm of the probability of OK if there were no other defect. It is positive whatever the
    decision, small where OK is certain, and needs no choice between defects that look alike.
    """
    against = _among(logits, ok)[1].logsumexp(1, keepdim=True)
    chosen, _ = _among(logits, defects)
    return torch.where(chosen, torch.nn.functional.softplus(logits - against), 0.0)


def target_from(target: str | int | Target, classes: int, defects: Sequence[int] | None = None) -> Target:
    """Return the function that a target's name stands for.

    Parameters
    ----------
    target : {"predicted", "contrast", "defect", "evidence"}, int or callable
        The predicted class; defect against OK; the strongest defect; all defects by how far each exceeds OK; the class
        of that index; or a function of the logits.
    classes : int
        Number of classes K.
    defects : sequence of int
        Indices of the defect classes, for ``"contrast"``, ``"defect"`` and ``"evidence"``.

    Raises
    ------
    LrpEdgeError
        If the target is not one of these, or the defect classes are needed and not given.
    """
    if callable(target):
        return target
    if isinstance(target, int):
        if not 0 <= target < classes:
            raise LrpEdgeError(f"target class {target} is out of range; the model has classes 0 to {classes - 1}")
        return OfLogits(lambda logits: strongest(logits, [target]))
    if target == "predicted":
        return OfLogits(lambda logits: strongest(logits, range(classes)))
    if target not in ("contrast", "defect", "evidence"):
        raise LrpEdgeError(
            f"target is {target!r}; expected 'predicted', 'contrast', 'defect', 'evidence', a class index or a "
            "function of the logits"
        )
    chosen = sorted(set(defects or ()))
    ok = [i for i in range(classes) if i not in chosen]
    if not chosen or not ok:
        raise LrpEdgeError(
            f"target {target!r} needs defects= with the indices of some, but not all, of {classes} classes"
        )
    if target == "defect":
        return OfLogits(lambda logits: strongest(logits, chosen))
    if target == "contrast":
        return OfLogits(lambda logits: contrast(logits, chosen, ok))
    return lambda logits: evidence(logits, chosen, ok)
