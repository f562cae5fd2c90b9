"""Train a classifier from labels of whole images."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import os
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

import lrp_edge
from lrp_edge.card import InputSpec, ModelCard, defect_names
from lrp_edge.checkpoint import save_checkpoint
from lrp_edge.classifiers import SMALLEST_SIDE
from lrp_edge.datasets import Dataset, Split, open_dataset, read_image, split
from lrp_edge.errors import LrpEdgeError, needs_extra
from lrp_edge.learning import Figures, LabelLesson, MarkLesson
from lrp_edge.marks import MarkedWindows
from lrp_edge.windows import Frames, Windows

with needs_extra("train"):
    import lightning
    import torch
    from torch import Tensor
    from torch.utils.data import DataLoader

CHECKPOINT, CARD, PARTS, METRICS = "model.safetensors", "model.json", "split.json", "metrics.json"
PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed"}


@dataclass(frozen=True)
class Options:
    """How to train.

    Attributes
    ----------
    variant, width, pools, pooling, power, dropout
        The network, see :func:`lrp_edge.classifiers.vgg`.
    mark_epochs, mark_patch : int
        Passes of the first lesson, marks drawn on windows, and the side of its windows; 0 passes leave it
        out.
    epochs : int
        Passes of the second lesson, the labels; a pass is as many windows as there are training images.
    patch : int
        Side of a window in pixels of the image.
    batch : int
        Windows in one step.
    lr, weight_decay, label_smoothing : float
        Peak learning rate of the one-cycle schedule, decay of AdamW, and smoothing of the labels.
    guided : float
        Fraction of the windows that are chosen by the model's evidence rather than at random.
    look_every, look_from : int
        Epochs from one look for evidence to the next, and the first epoch with one.
    balance : float
        0 draws images as they occur, 1 draws all classes equally often.
    channels : {"auto", "gray", "color"}
        Channels of the network; ``auto`` takes gray if every image has one channel.
    val, test : float
        Shares of the images that are kept from training.
    precision : {"auto", "fp32", "bf16"}
        Numeric type of the training; ``auto`` takes bf16 where the processor has it.
    seed, workers : int
        Random seed; processes that read images, which do not change the result.
    """

    variant: str = "A"
    width: float = 0.25
    pools: int = 5
    pooling: str = "gem"
    power: float = 3.0
    dropout: float = 0.1
    mark_epochs: int = 18
    mark_patch: int = 128
    epochs: int = 30
    patch: int = 192
    batch: int = 16
    lr: float = 2e-3
    weight_decay: float = 1e-2
    label_smoothing: float = 0.05
    guided: float = 0.5
    look_every: int = 3
    look_from: int = 4
    balance: float = 0.5
    channels: str = "auto"
    val: float = 0.1
    test: float = 0.3
    precision: str = "auto"
    seed: int = 0
    workers: int = 0

    def __post_init__(self) -> None:
        limits = {
            "mark_epochs": self.mark_epochs >= 0,
            "mark_patch": self.mark_patch >= SMALLEST_SIDE,
            "epochs": self.epochs >= 1,
            "batch": self.batch >= 2,
            "patch": self.patch >= SMALLEST_SIDE,
            "lr": 0 < self.lr < math.inf,
            "weight_decay": self.weight_decay >= 0,
            "label_smoothing": 0 <= self.label_smoothing < 1,
            "guided": 0 <= self.guided <= 1,
            "look_every": self.look_every >= 1,
            "look_from": self.look_from >= 0,
            "balance": 0 <= self.balance <= 1,
            "channels": self.channels in ("auto", "gray", "color"),
            "val": 0 <= self.val < 1,
            "test": 0 <= self.test < 1 - self.val,
            "precision": self.precision in ("auto", *PRECISIONS),
            "workers": self.workers >= 0,
        }
        for name, holds in limits.items():
            if not holds:
                raise LrpEdgeError(f"training option {name} is {getattr(self, name)!r}, which is out of its range")


@dataclass(frozen=True)
class TrainingResult:
    """A trained classifier: its checkpoint, its card, its figures, and the seconds that it took."""

    checkpoint: Path
    card: ModelCard
    val: Figures | None
    test: Figures | None
    seconds: float


def train(
    data: str | os.PathLike[str],
    output: str | os.PathLike[str],
    options: Options | None = None,
    *,
    ok_class: str | None = None,
    skip_bad: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> TrainingResult:
    """Train a classifier on a folder of labelled images.

    Parameters
    ----------
    data : path
        A folder per class, or the magnetic-tile layout, see :func:`lrp_edge.datasets.open_dataset`.
    output : path
        Folder for ``model.safetensors`` (weights and card), ``model.json`` (card), ``split.json`` (the images
        of each part) and ``metrics.json``; made if it does not exist.
    options : Options, optional
        How to train.
    ok_class : str, optional
        The class without defect; by default known by its name.
    skip_bad : bool
        Leave out files that are no readable images.
    overwrite : bool
        Replace a model that is in the output folder.
    progress : bool
        Show a progress bar.

    Returns
    -------
    TrainingResult
        The same seed on the same machine gives the same weights.

    Raises
    ------
    LrpEdgeError
        If the data cannot be used, the output folder cannot be written or holds a model, an option is out of
        its range, or the training diverges.
    """
    started = time.monotonic()
    options = options or Options()
    dataset = open_dataset(data, skip_bad=skip_bad)
    defects = defect_names(dataset.classes, ok_class)
    if not defects:
        raise LrpEdgeError(f"all classes {', '.join(dataset.classes)} count as OK; name the OK class with --ok-class")
    output = _claim(Path(output), overwrite)
    parts = split(dataset, seed=options.seed, fractions=(1 - options.val - options.test, options.val, options.test))
    card = _card(parts.train, defects, options)
    with _quiet():
        learner = _fit(parts, card, options, progress)
        val, test = (_measure(learner, part, options) for part in (parts.val, parts.test))
    seconds = time.monotonic() - started
    save_checkpoint(output / CHECKPOINT, learner.model, card)
    _write(output / CARD, json.loads(card.to_json()))
    _write(output / PARTS, {name: part.names for name, part in parts._asdict().items()})
    figures = {name: part and dataclasses.asdict(part) for name, part in (("val", val), ("test", test))}
    _write(output / METRICS, {**figures, "seconds": round(seconds, 1), "epochs": learner.history})
    return TrainingResult(output / CHECKPOINT, card, val, test, seconds)


def _fit(parts: Split, card: ModelCard, options: Options, progress: bool) -> LabelLesson:
    """Give both lessons, the first only if it has epochs."""
    lightning.seed_everything(options.seed, workers=True, verbose=False)
    gray = card.input.network_order == "GRAY"
    frames = Frames(parts.train, gray)
    windows = Windows(frames, options.patch, options.balance, options.guided, options.seed)
    features = None
    if options.mark_epochs:
        marked = MarkedWindows(Windows(frames, options.mark_patch, 0, 0, options.seed), 2**options.pools)
        marks = MarkLesson(card, options, marked)
        _trainer(options, options.mark_epochs, progress).fit(marks)
        marks.look(windows)
        features = marks.model.features
    labels = LabelLesson(features, card, options, windows)
    whole = _whole(parts.val, gray, options) if parts.val.samples else None
    _trainer(options, options.epochs, progress).fit(labels, val_dataloaders=whole)
    return labels


def _measure(learner: LabelLesson, part: Dataset, options: Options) -> Figures | None:
    """Measure whole images in float32, as they are deployed."""
    if not part.samples:
        return None
    gray = learner.card.input.network_order == "GRAY"
    trainer = lightning.Trainer(accelerator="auto", devices=1, enable_progress_bar=False, **_SILENT)
    trainer.validate(learner, _whole(part, gray, options), verbose=False)
    return learner.figures


def _trainer(options: Options, epochs: int, progress: bool) -> lightning.Trainer:
    return lightning.Trainer(
        max_epochs=epochs,
        accelerator="auto",
        devices=1,
        precision=_precision(options.precision),
        deterministic="warn",
        reload_dataloaders_every_n_epochs=1,
        check_val_every_n_epoch=5,
        enable_progress_bar=progress,
        **_SILENT,
    )


def _whole(part: Dataset, gray: bool, options: Options) -> DataLoader[tuple[Tensor, int]]:
    return DataLoader(Frames(part, gray), 1, num_workers=options.workers)


_SILENT: Mapping[str, Any] = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
}


def _precision(name: str) -> Any:
    if name == "auto":
        fast = (
            torch.cuda.is_bf16_supported()
            if torch.cuda.is_available()
            else torch.ops.mkldnn._is_mkldnn_bf16_supported()
        )
        name = "bf16" if fast else "fp32"
    return PRECISIONS[name]


def _card(train_part: Dataset, defects: tuple[str, ...], options: Options) -> ModelCard:
    gray = options.channels == "gray" or (options.channels == "auto" and train_part.gray)
    mean, std = _pixel_statistics(train_part, gray)
    order = ("GRAY", "GRAY") if gray else ("BGR", "RGB")
    architecture = {
        "family": "vgg",
        "channels": 1 if gray else 3,
        "classes": len(train_part.classes),
        **{name: getattr(options, name) for name in ("variant", "width", "pools", "pooling", "power", "dropout")},
    }
    return ModelCard(
        classes=train_part.classes,
        defects=defects,
        input=InputSpec(order=order[0], mean=mean, std=std, network_order=order[1]),
        architecture=architecture,
        provenance={
            "trained": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "training": dataclasses.asdict(options),
            "images": {
                name: int(n) for name, n in zip(train_part.classes, np.bincount(train_part.labels), strict=True)
            },
            "packages": {
                "lrp-edge": lrp_edge.__version__,
                "torch": torch.__version__,
                "lightning": lightning.__version__,
            },
        },
    )


def _pixel_statistics(part: Dataset, gray: bool) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation by channel over all pixels, in [0, 1], in the network's order."""
    count, first, second = 0, 0.0, 0.0
    for sample in part.samples:
        pixels = read_image(sample.path, gray)[..., ::-1].reshape(-1, 1 if gray else 3) / 255.0
        count, first, second = count + len(pixels), first + pixels.sum(0), second + (pixels**2).sum(0)
    mean = np.asarray(first) / count
    # A black data set has no deviation; the floor of one gray level keeps the division finite.
    std = np.maximum(np.sqrt(np.maximum(np.asarray(second) / count - mean**2, 0)), 1 / 255)
    return tuple(round(float(v), 6) for v in mean), tuple(round(float(v), 6) for v in std)


def _claim(output: Path, overwrite: bool) -> Path:
    """Make sure, before hours of training, that the result can be written."""
    if (output / CHECKPOINT).exists() and not overwrite:
        raise LrpEdgeError(f"{output}: there is a model in this folder; choose another, or replace it with --overwrite")
    probe = output / f".{os.getpid()}.partial"
    try:
        output.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise LrpEdgeError(
            f"{output}: the output folder cannot be written ({error.strerror}); choose another"
        ) from error
    return output


def _write(path: Path, content: Mapping[str, Any]) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    os.replace(partial, path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Lightning's notes on hardware and workers from the terminal; its errors stay."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\..*")
            yield
    finally:
        logger.setLevel(level)
