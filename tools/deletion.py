"""The deletion curve: how soon a classifier loses its class as an image is deleted in the order of relevance.

``python -m tools.deletion [-o FILE.png]`` takes EfficientNet-Lite0 with its ImageNet weights, and the photographs that
scikit-image and scikit-learn bring. Of each it deletes patches, the most relevant first, by what is there in a blurred
image or by the mean colour, and follows the probability of the class that the whole image has, as a share of what it
was. The smaller the area under that curve, the sooner what the class rests on is gone (Samek et al. 2017, "Evaluating
the Visualization of What a Deep Neural Network Has Learned", arXiv 1509.06321). Beside relevance stand the gradient
times the input, and random orders.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from skimage import data
from sklearn.datasets import load_sample_images
from torch import Tensor, nn
from torch.nn import functional as F

from lrp_edge.backbones.efficientnet_lite0 import efficientnet_lite0
from lrp_edge.backbones.weights import LITE_DEVIATION, imagenet_lite0, start_lite0
from lrp_edge.relevance import unroll

SIDE = 224
#: Colour photographs that scikit-image has in its package; the others it would download.
PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket")
COMPOSITES = ("Segmentation", "EpsilonPlusFlat")
GRADIENT, RANDOM = "gradient × input", "random"
#: Of the Gaussian that blurs an image, in pixels.
BLUR = 12.0
FILLS = ("blur", "mean")

#: From an image [1, 3, H, W] to relevance of the same shape.
Explain = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Curve:
    """What is left of the class's probability, by the share that is deleted.

    Attributes
    ----------
    left : float64 [runs, levels]
        The curve of each photograph, or of each seed; from 1 at nothing deleted.
    """

    left: NDArray[np.float64]

    @property
    def areas(self) -> NDArray[np.float64]:
        """The area under each curve, [runs]."""
        return np.trapezoid(self.left, dx=1 / (self.left.shape[1] - 1), axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("-o", "--output", type=Path, help="draw the curves of the first patch and fill there, as PNG")
    parser.add_argument("--patches", type=int, nargs="+", default=[16, 8], help="sides of a patch in pixels")
    parser.add_argument("--fills", nargs="+", choices=FILLS, default=list(FILLS), help="what stands in its place")
    parser.add_argument("--steps", type=int, default=28, help="how many times something is deleted")
    parser.add_argument("--seeds", type=int, default=5, help="how many random orders")
    arguments = parser.parse_args()
    model, images = lite0(), photographs()
    found = {}
    for patch in arguments.patches:
        for fill in arguments.fills:
            curves = measure(model, images, patch, fill, arguments.steps, arguments.seeds)
            found[f"{patch} px, {fill}"] = curves
    print(table(found))
    if arguments.output:
        draw(*next(iter(found.items())), arguments.output)


def lite0() -> nn.Module:
    """Return the whole of EfficientNet-Lite0 with its ImageNet weights, for what :func:`normalised` returns."""
    head = nn.Sequential(nn.Conv2d(320, 1280, 1, bias=False), nn.BatchNorm2d(1280, eps=1e-3), nn.ReLU6())
    pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, 1000))
    model = nn.Sequential(efficientnet_lite0(channels=3, stages=7, stride=32), head, pooled).eval()
    start_lite0(model, imagenet_lite0(), "imagenet")
    return model.requires_grad_(False)


def photographs() -> dict[str, NDArray[np.uint8]]:
    """Return photographs by name, uint8 [224, 224, 3], RGB: the middle of each, made smaller."""
    whole = {name: np.asarray(getattr(data, name)()) for name in PHOTOGRAPHS}
    whole |= {"motorcycle": data.stereo_motorcycle()[0]}
    samples = load_sample_images()
    whole |= {Path(name).stem: image for name, image in zip(samples.filenames, samples.images, strict=True)}
    return {name: _middle(image) for name, image in whole.items()}


def _middle(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    side = min(image.shape[:2])
    top, left = ((length - side) // 2 for length in image.shape[:2])
    square = image[top : top + side, left : left + side]
    return np.asarray(cv2.resize(square, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.uint8)


def normalised(images: NDArray[np.uint8]) -> Tensor:
    """Return images [N, H, W, 3] as the network takes them, float32 [N, 3, H, W]."""
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    # (x − 127) / 128 is what it was trained on; start_lite0 scales its first layer to ImageNet's deviation.
    return (x - 127) / (128 * LITE_DEVIATION)


def measure(
    model: nn.Module, images: Mapping[str, NDArray[np.uint8]], patch: int, fill: str, steps: int, seeds: int
) -> dict[str, Curve]:
    """Return the curves of each order of deletion: one a photograph, of random orders the mean of them a seed.

    Parameters
    ----------
    model : nn.Module
        float32 [N, 3, H, W] → logits [N, K].
    images : mapping of str to uint8 [H, W, 3]
        Photographs, of sides that are multiples of a patch's.
    patch : int
        Side of a patch in pixels.
    fill : {"blur", "mean"}
        What stands in place of what is deleted.
    steps : int
        How many times something is deleted, each time the same number of patches.
    seeds : int
        How many random orders.
    """
    explain = {name: _by_composite(model, name, images) for name in COMPOSITES} | {GRADIENT: _by_gradient(model)}
    curves = {
        name: Curve(
            np.stack([_curve(model, image, per_patch(of, image, patch), fill, steps) for image in images.values()])
        )
        for name, of in explain.items()
    }
    orders = []
    for seed in range(seeds):
        generator = torch.Generator().manual_seed(seed)
        of = [torch.rand([side // patch for side in image.shape[:2]], generator=generator) for image in images.values()]
        curve = [_curve(model, image, order, fill, steps) for image, order in zip(images.values(), of, strict=True)]
        orders.append(np.mean(curve, axis=0))
    return curves | {RANDOM: Curve(np.stack(orders))}


def per_patch(explain: Explain, image: NDArray[np.uint8], patch: int) -> Tensor:
    """Return the relevance of each patch of an image, float [rows, columns]."""
    relevance = explain(normalised(image[None])).sum(1, keepdim=True)
    return F.avg_pool2d(relevance, patch)[0, 0]


def _by_composite(model: nn.Module, composite: str, images: Mapping[str, NDArray[np.uint8]]) -> Explain:
    example = normalised(next(iter(images.values()))[None])
    unrolled = unroll(model, example, composite, any_size=False)

    def explain(x: Tensor) -> Tensor:
        with torch.no_grad():
            relevance: Tensor = unrolled(x)[1]
        return relevance

    return explain


def _by_gradient(model: nn.Module) -> Explain:
    def explain(x: Tensor) -> Tensor:
        x = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(model(x).amax(1).sum(), x)
        return (gradient * x).detach()

    return explain


def _curve(model: nn.Module, image: NDArray[np.uint8], scores: Tensor, fill: str, steps: int) -> NDArray[np.float64]:
    """Return what is left of the probability after each step, [steps + 1], if what scores most is deleted first."""
    order = scores.flatten().argsort(descending=True, stable=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order))
    patch = image.shape[0] // scores.shape[0]
    ranks = np.kron(rank.reshape(scores.shape).numpy(), np.ones((patch, patch), np.int64))
    levels = np.linspace(0, len(order), steps + 1)[:, None, None, None]
    deleted = np.where(ranks[None, ..., None] < levels, filled(image, fill), image)
    with torch.no_grad():
        probability = model(normalised(deleted)).double().softmax(1)
    of_class = probability[:, probability[0].argmax()]
    return np.asarray(of_class / of_class[0])


def filled(image: NDArray[np.uint8], fill: str) -> NDArray[np.uint8]:
    """Return what stands in place of each pixel, uint8 [H, W, 3]."""
    if fill == "mean":
        return np.broadcast_to(image.mean((0, 1)).round().astype(np.uint8), image.shape)
    return np.asarray(cv2.GaussianBlur(image, (0, 0), BLUR), np.uint8)


def table(found: Mapping[str, Mapping[str, Curve]]) -> str:
    """Return the areas under the curves as Markdown: their mean, and of random orders the least and the greatest."""
    lines = [f"| deleted first | {' | '.join(found)} |", "|---|" + "---:|" * len(found)]
    for name in next(iter(found.values())):
        areas = (curves[name].areas for curves in found.values())
        cells = (
            f"{area.mean():.3f}" + (f" ({area.min():.3f}–{area.max():.3f})" if name == RANDOM else "") for area in areas
        )
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(title: str, curves: Mapping[str, Curve], path: Path) -> None:
    """Draw the mean curve of each order, and the random ones as a band between the least and the greatest."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axis = figure.subplots()
    for name, curve in curves.items():
        share = np.linspace(0, 1, curve.left.shape[1])
        axis.plot(share, curve.left.mean(0), label=f"{name}: {curve.areas.mean():.3f}")
        if name == RANDOM:
            axis.fill_between(share, curve.left.min(0), curve.left.max(0), color=axis.lines[-1].get_color(), alpha=0.2)
    axis.set(title=f"patches of {title}", xlabel="share deleted", ylabel="probability of the class that is left")
    axis.grid(alpha=0.3)
    axis.legend(title="area under the curve")
    figure.savefig(path, metadata={"Software": None}, dpi=90)


if __name__ == "__main__":
    main()
