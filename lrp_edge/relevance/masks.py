"""From relevance to a binary mask, in operations that every backend has.

Each head takes relevance [N, H, W] and returns bool [N, H, W]; each frame has a threshold of its own. Only the
positive part counts: what speaks for the explained class. A frame without positive relevance gets an empty mask.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lrp_edge.card import MaskSpec
from lrp_edge.errors import LrpEdgeError, check_names, look_up
from lrp_edge.relevance.outlines import (
    DETAIL,
    WINDOW,
    box_mean,
    close,
    close_gray,
    local_contrast,
    open_,
    thick_parts,
    two_means,
)
from lrp_edge.relevance.smoothing import smoothing_from
from lrp_edge.relevance.thresholds import (
    mask_gmm,
    threshold_fixed,
    threshold_isodata,
    threshold_li,
    threshold_mass,
    threshold_otsu,
    threshold_quantile,
)

#: The parameter that every head takes, and the one that every head with a threshold takes.
FLOOR, SPREAD = "floor", "spread"
#: Parameters of the outline, which every head takes: the steps by which it is moved to the image's, the least local
#: contrast, the sides in pixels of surroundings and detail, and that of the square from which on a part is thick.
TWO_MEANS, CONTRAST = "two_means", "contrast"
OUTLINE = (TWO_MEANS, CONTRAST, "window", "detail", "thick")
#: Parameters of large areas, which every head takes: share of the maximum, side of the closing, and the local extent
#: from which on a frame has one; all but the last have a default.
AREA = ("area_fraction", "area_close", "area_extent")
AREA_FRACTION, AREA_CLOSE = 0.02, 125
#: Sides of the window in which the extent of relevance is measured and of the means that it is measured of, in pixels;
#: and the share of the frame's greatest relevance below which a window's root mean square counts as that.
EXTENT_WINDOW, EXTENT_DETAIL, FAINT = 63, 7, 1e-6


def effective_area(relevance: Tensor) -> Tensor:
    """Return (Σ R)² / Σ R² of each frame, [N, 1, 1]: the pixels that it has where it is, were it the same in each.

    The participation ratio of physics; 0 for a frame without relevance.
    """
    x = _normalised(relevance)
    return x.sum((1, 2), keepdim=True).square() / x.square().sum((1, 2), keepdim=True).clamp(min=1)


def local_extent(relevance: Tensor) -> Tensor:
    """Return the mean effective area, in pixels, that relevance [N, H, W] has in a window around each pixel, [N, 1, 1].

    Only the positive part counts, and pixels are weighted by it.

    A line has the same wherever it ends, and several spots that of one, where a large area has nearly the whole window:
    this tells thick from thin, which :func:`effective_area` of the frame does not. The border's pixels are repeated
    beyond it, since it often cuts large areas. 0 for a frame without relevance.
    """
    x = _normalised(box_mean(relevance.clamp(min=0), EXTENT_DETAIL))
    areas = box_mean(x, EXTENT_WINDOW).square() / box_mean(x.square(), EXTENT_WINDOW).clamp(min=FAINT**2)
    return EXTENT_WINDOW**2 * (areas * x).sum((1, 2), keepdim=True) / x.sum((1, 2), keepdim=True).clamp(min=1)


def _normalised(relevance: Tensor) -> Tensor:
    """Return relevance of greatest value one, since squares of small values would be rounded to zero."""
    return relevance / relevance.amax((1, 2), keepdim=True).clamp(min=torch.finfo(relevance.dtype).tiny)


def widening(relevance: Tensor, spread: float) -> Tensor:
    """Return max(1, A / `spread`)² for the effective area A of each frame, [N, 1, 1].

    What a network sees of a spot or a crack lies within it and close around it, and much of that is blur. Of an area
    larger than its receptive fields it sees edges and texture here and there, all of it fainter, since positions share
    what there is: a threshold that is right for spots keeps only the peaks. So thresholds are divided by this. The
    square was found by measuring.
    """
    return (effective_area(relevance) / spread).clamp(min=1).square()


def _above(threshold: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda relevance, widened, **parameters: widened > threshold(relevance, **parameters)


#: Name of each head, with its function, of relevance and widened relevance, and the parameters that it takes.
HEADS: dict[str, tuple[Callable[..., Tensor], tuple[str, ...]]] = {
    "fixed": (_above(threshold_fixed), ("fraction", SPREAD)),
    "quantile": (_above(threshold_quantile), ("q", SPREAD)),
    "mass": (_above(threshold_mass), ("share", SPREAD)),
    "otsu": (_above(threshold_otsu), ("fraction", SPREAD)),
    "li": (_above(threshold_li), ("steps", SPREAD)),
    "isodata": (_above(threshold_isodata), ("steps", SPREAD)),
    "gmm": (lambda relevance, _, **parameters: mask_gmm(relevance, **parameters), ("steps",)),
    "calibrated": (lambda _, widened, threshold: widened > threshold, ("threshold", SPREAD)),
}


class MaskHead(nn.Module):
    """Relevance [N, H, W] → mask, bool [N, H, W]: smoothing, threshold, floor, outline, closing, opening.

    Whatever the method, a parameter ``floor`` is an absolute threshold besides: anything fainter is not a defect, even
    where it is the strongest of its frame. A parameter ``spread``, in pixels, lowers both thresholds in frames whose
    relevance is spread over more, see :func:`widening`.

    A parameter ``two_means`` moves the boundary, in so many steps, to where gray values are halfway between those
    inside and those outside, see :func:`~lrp_edge.relevance.outlines.two_means`.

    A parameter ``contrast`` keeps of the mask only pixels that differ from their surroundings by more than so many
    deviations, see :func:`~lrp_edge.relevance.outlines.local_contrast`; ``window`` and ``detail`` are the sides of
    surroundings and of what is compared with them. With ``thick``, parts that a square of that side fits in stay whole.

    Large areas have a mask of their own, which is filled and has no outline of the image's: what exceeds
    ``area_fraction`` of the frame's maximum, closed by a square of ``area_close``. It is taken in frames of one of the
    area classes, and in those whose relevance has a local extent of more than ``area_extent`` pixels, see
    :func:`local_extent`.

    Parameters
    ----------
    spec : MaskSpec
        What to do; stored in the model card.

    Raises
    ------
    LrpEdgeError
        If the method, a parameter of it, the smoothing or the morphology is unknown.
    """

    def __init__(self, spec: MaskSpec) -> None:
        super().__init__()
        check(spec)
        self.spec = spec
        self._smooth = smoothing_from(spec.smoothing)

    @property
    def is_outlined(self) -> bool:
        """Whether masks have an outline of the image's."""
        return bool({TWO_MEANS, CONTRAST} & self.spec.parameters.keys())

    @property
    def needs_guide(self) -> bool:
        """Whether masks depend on the gray image."""
        return self.is_outlined or self.spec.smoothing.startswith("guided")

    def smooth(self, relevance: Tensor, guide: Tensor | None = None) -> Tensor:
        """Return the smoothed positive part of relevance [N, H, W]."""
        return self._smooth(relevance.clamp(min=0), guide)

    def widen(self, smooth: Tensor) -> Tensor:
        """Return what is compared with the thresholds: smoothed relevance [N, H, W], more of it where it is spread."""
        spread = self.spec.parameters.get(SPREAD)
        return smooth if spread is None else smooth * widening(smooth, spread)

    def forward(self, relevance: Tensor, guide: Tensor | None = None, areas: Tensor | None = None) -> Tensor:
        """Return the mask of relevance.

        Parameters
        ----------
        relevance : Tensor, float [N, H, W]
        guide : Tensor, float [N, H, W], optional
            The gray image, 0 to 255, for smoothing ``guided`` and for outlines.
        areas : Tensor, bool [N], optional
            Which frames are of an area class; by default none is.
        """
        smooth = self.smooth(relevance, guide)
        strong = self.widen(smooth) > self.spec.parameters.get(FLOOR, 0.0)
        mask = self.outlined(self.threshold(smooth) & strong, guide)
        if self.spec.close:
            mask = close(mask, self.spec.close)
        if self.spec.open:
            mask = open_(mask, self.spec.open)
        large = self._large(relevance, areas)
        return mask if large is None else (large & self._filled(smooth, strong)) | (mask & ~large)

    def strength(self, relevance: Tensor, guide: Tensor | None = None, areas: Tensor | None = None) -> Tensor:
        """Return below which floor each pixel is in the mask [N, H, W]; 0 where it is in none.

        Arguments are those of a call. Two means are taken of the mask without a floor. Closing and opening after the
        outline are left out; the closing of large areas is
        that of gray values, which commutes with thresholds (Serra 1982).
        """
        smooth = self.smooth(relevance, guide)
        widened, mask = self.widen(smooth), self.outlined(self.threshold(smooth), guide)
        large = self._large(relevance, areas)
        if large is None or not large.any():
            return widened * mask
        above, side = self._above_fraction(smooth)
        filled = close_gray(widened * above, side) if side else widened * above
        return torch.where(large, filled, widened * mask)

    def threshold(self, smooth: Tensor) -> Tensor:
        """Return where smoothed relevance [N, H, W] exceeds the threshold of the method."""
        head, names = HEADS[self.spec.method]
        given = self.spec.parameters
        parameters: dict[str, Any] = {
            name: int(given[name]) if name == "steps" else given[name]
            for name in names
            if name in given and name != SPREAD
        }
        return head(smooth, self.widen(smooth), **parameters)

    def outlined(self, mask: Tensor, guide: Tensor | None) -> Tensor:
        """Return a mask [N, H, W] with the outline of the image: moved by two means, then gated by contrast.

        Raises
        ------
        LrpEdgeError
            If there is no gray image.
        """
        if not self.is_outlined:
            return mask
        if guide is None:
            raise LrpEdgeError("an outline needs the image; call the mask head with its guide")
        steps, contrast, window, detail, thick = map(self.spec.parameters.get, OUTLINE)
        sides = int(window or WINDOW), int(detail or DETAIL)
        if steps is not None:
            mask = two_means(guide, mask, int(steps), *sides)
        if contrast is None:
            return mask
        differs = local_contrast(guide, *sides) > contrast
        return mask & (differs | thick_parts(mask, int(thick)) if thick else differs)

    def _large(self, relevance: Tensor, areas: Tensor | None) -> Tensor | None:
        """Return which frames have a large area, bool [N, 1, 1]; None where none can have one."""
        extent = self.spec.parameters.get("area_extent")
        wide = None if extent is None else local_extent(relevance) > extent
        if not self.spec.area_classes or areas is None:
            return wide
        named = areas.reshape(-1, 1, 1)
        return named if wide is None else named | wide

    def _filled(self, smooth: Tensor, strong: Tensor) -> Tensor:
        above, side = self._above_fraction(smooth)
        return close(above & strong, side) if side else above & strong

    def _above_fraction(self, smooth: Tensor) -> tuple[Tensor, int]:
        """Return what a large area is made of, bool [N, H, W], and the side of the square that closes it."""
        fraction, side, _ = map(self.spec.parameters.get, AREA)
        above = smooth > threshold_fixed(smooth, AREA_FRACTION if fraction is None else fraction)
        return above, AREA_CLOSE if side is None else int(side)


#: Least and greatest value of parameters, the unit of those that are more than 0, and those that are sides of squares.
_RANGES = {
    "fraction": (0, 1),
    "q": (0, 1),
    "share": (0, 1),
    "steps": (1, 1000),
    "area_fraction": (0, 1),
    TWO_MEANS: (1, 20),
}
_POSITIVE = {SPREAD: "pixels", CONTRAST: "deviations", "area_extent": "pixels"}
_SIDES = {"window": 3, "detail": 1, "thick": 0, "area_close": 0}


def check(spec: MaskSpec) -> None:
    """Refuse a mask head that cannot be built, see :class:`MaskHead`."""
    _, names = look_up("mask head", spec.method, HEADS)
    head, given = f"mask head {spec.method}", spec.parameters
    check_names(head, given, (*names, FLOOR, *OUTLINE, *AREA))
    if spec.method == "calibrated" and "threshold" not in given:
        raise LrpEdgeError("mask head calibrated needs a threshold: calibrate it on defect-free frames, or give one")
    for name, (low, high) in _RANGES.items():
        if not low <= given.get(name, low) <= high:
            raise LrpEdgeError(f"{head}: {name} is {given[name]}; expected {low} to {high}")
    for name in ("steps", TWO_MEANS):
        if given.get(name, 1) % 1:
            raise LrpEdgeError(f"{head}: {name} is {given[name]}; expected a whole number")
    for name, unit in _POSITIVE.items():
        if given.get(name, 1) <= 0:
            raise LrpEdgeError(f"{head}: {name} is {given[name]}; expected {unit}, more than 0")
    for name, least in _SIDES.items():
        _check_side(f"{head}: {name}", given.get(name, least), least)
    _check_needs(spec)
    for name, side in (("close", spec.close), ("open", spec.open)):
        _check_side(f"mask {name}", side, 0)
    smoothing_from(spec.smoothing)


def _check_side(name: str, side: float, least: int) -> None:
    if side != least and (side < least or side % 2 != 1):
        expected = f"an odd number of pixels, {least} or more" if least else "an odd number of pixels, or 0 for none"
        raise LrpEdgeError(f"{name} is {side:g}; expected {expected}")


def _check_needs(spec: MaskSpec) -> None:
    """Refuse parameters that nothing reads."""
    areas = spec.area_classes or AREA[-1] in spec.parameters
    for names, read, needed in (
        (("thick",), CONTRAST in spec.parameters, "contrast, the least one that is kept"),
        (
            OUTLINE[2:],
            spec.parameters.keys() & {TWO_MEANS, CONTRAST},
            "contrast, the least one that is kept, or two_means",
        ),
        (AREA[:-1], areas, "area classes, or area_extent, the extent from which on a frame has an area"),
    ):
        given = [name for name in names if name in spec.parameters]
        if given and not read:
            raise LrpEdgeError(f"mask head {spec.method}: {given[0]} needs {needed}")


def calibrate(maxima: Tensor, budget: float = 0.05) -> float:
    """Return the absolute threshold that at most a share `budget` of values exceeds.

    Parameters
    ----------
    maxima : Tensor, float [M]
        Of each of M defect-free frames the greatest smoothed relevance, so that the budget is one of frames; or that of
        each pixel of them, so that it is one of pixels.
    budget : float
        Share of them that may exceed the threshold, 0 to 1.

    Raises
    ------
    LrpEdgeError
        If there are no values, or the budget is not within 0 and 1.
    """
    if maxima.numel() == 0 or not 0 <= budget <= 1:
        raise LrpEdgeError(
            f"calibration got {maxima.numel()} values of defect-free frames and a budget of {budget}; needs frames and "
            "0 to 1"
        )
    ordered = maxima.sort(descending=True).values
    return float(ordered[min(int(budget * len(ordered)), len(ordered) - 1)])
