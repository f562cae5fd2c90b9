"""From a dataset and options to a run folder: checkpoint, card, split, figures, curve; resumable at any time."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lrp_edge.card import ModelCard, defect_names
from lrp_edge.checkpoint import save_checkpoint
from lrp_edge.datasets import Dataset, Split, open_dataset, read_split, split, write_split
from lrp_edge.datasets.copies import said_of_copies
from lrp_edge.errors import LrpEdgeError, needs_extra
from lrp_edge.files import claim_folder, write_text
from lrp_edge.training.calibration import calibrated, decided
from lrp_edge.training.callbacks import RESUME, RunCheckpoint, running_average
from lrp_edge.training.cards import card_of
from lrp_edge.training.metrics import Figures, measure
from lrp_edge.training.modules import TrainingModule
from lrp_edge.training.options import PRECISIONS, Options, write_config
from lrp_edge.training.start import module_of, network_of
from lrp_edge.training.usability import shown
from lrp_edge.training.windows import Frames
from lrp_edge.usability import Usability

with needs_extra("train"):
    import lightning
    import torch
    from lightning.pytorch.callbacks import Callback, EarlyStopping, WeightAveraging
    from lightning.pytorch.loggers import TensorBoardLogger
    from torch.utils.data import DataLoader

CHECKPOINT, CARD, PARTS = "model.safetensors", "model.json", "split.json"
METRICS, CONFIG = "metrics.json", "config.toml"


@dataclass(frozen=True)
class TrainingResult:
    """A trained network: its checkpoint, its card, its figures, the seconds that it took, and whether it is usable.

    `val` and `test` are None for parts without images, and for the U-Net, which has no classes; `usability`, which is
    measured on validation images, is None for the U-Net.
    """

    checkpoint: Path
    card: ModelCard
    val: Figures | None
    test: Figures | None
    seconds: float
    usability: Usability | None = None


def train(
    data: str | os.PathLike[str] | Dataset,
    output: str | os.PathLike[str],
    options: Options | None = None,
    *,
    split_file: str | os.PathLike[str] | None = None,
    ok_class: str | None = None,
    skip_bad: bool = False,
    overwrite: bool = False,
    resume: bool = False,
    progress: bool = True,
) -> TrainingResult:
    """Train a network on labelled images.

    Parameters
    ----------
    data : path or Dataset
        See :func:`lrp_edge.datasets.open_dataset`.
    output : path
        Folder for ``model.safetensors`` (weights and card), ``model.json`` (card), ``split.json`` (the images of
        each part), ``config.toml`` (all options), ``metrics.json``, ``metrics.csv``, ``curve.png`` and
        ``tensorboard/``; created if it does not exist. While the training runs it holds ``resume.ckpt``.
    options : Options, optional
        How to train.
    split_file : path, optional
        The parts, as ``split.json`` of another run or of ``lrp-edge data split``; by default they are drawn.
    ok_class : str, optional
        The class without defect; by default known by its name.
    skip_bad : bool
        Skip files that are not readable images.
    overwrite : bool
        Replace a model that is in the output folder.
    resume : bool
        Go on after an interruption from the last whole epoch; the result is that of a training without one.
    progress : bool
        Show a progress bar where there is a terminal. A line an epoch is written to stderr in any case.

    Returns
    -------
    TrainingResult
        The same seed on the same machine gives the same weights.

    Raises
    ------
    LrpEdgeError
        If the data cannot be used, the output folder cannot be written or holds a model, there is nothing to
        resume or it was another training, an option is out of its range, or the training diverges.
    """
    started = time.monotonic()
    options = options or Options()
    dataset = data if isinstance(data, Dataset) else open_dataset(data, skip_bad=skip_bad)
    defects = defect_names(dataset.classes, ok_class)
    if not defects:
        raise LrpEdgeError(f"all classes {', '.join(dataset.classes)} count as OK; name the OK class with --ok-class")
    parts = read_split(split_file, dataset) if split_file else _drawn(dataset, options)
    folder = _claim(Path(output), overwrite, resume)
    if not resume and (said := said_of_copies(parts)):
        print(f"lrp-edge: warning: {said}", file=sys.stderr)
    lightning.seed_everything(options.seed, workers=True, verbose=False)
    model, card = network_of(card_of(parts.train, defects, options), options)
    before = _begin(folder, parts, options, resume)
    with _quiet():
        module, validation = module_of(model, parts, card, options)
        _fit(module, validation, RunCheckpoint(folder, options, parts.train.names), resume, progress)
        if not options.is_unet:
            card = card.replace(decision=decided(module.model, card, parts.val, options.false_alarm_rate))
            mask = calibrated(
                module.model,
                card,
                parts.val,
                options.false_alarms,
                options.seed,
                find_areas=options.area_classes == "auto",
            )
            card = card.replace(mask=mask)
        val, test = (_measure(module, card, part, options) for part in (parts.val, parts.test))
        usability = None
        if not options.is_unet:
            card, usability = shown(module.model, card, parts.val, "validation images", options.seed)
    seconds = before + time.monotonic() - started
    card = card.replace(provenance={**card.provenance, "seconds": round(seconds, 1)})
    save_checkpoint(folder / CHECKPOINT, module.model, card)
    write_text(folder / CARD, card.to_json(indent=2) + "\n")
    figures = {name: part and dataclasses.asdict(part) for name, part in (("val", val), ("test", test))}
    content = {
        **figures,
        "usable": card.usable,
        "seconds": round(seconds, 1),
        "supervision": options.supervision,
        "epochs": module.history,
    }
    write_text(folder / METRICS, json.dumps(content, indent=2) + "\n")
    (folder / RESUME).unlink(missing_ok=True)
    return TrainingResult(folder / CHECKPOINT, card, val, test, seconds, usability)


def _drawn(dataset: Dataset, options: Options) -> Split:
    shares = (1 - options.val - options.test, options.val, options.test)
    return split(dataset, seed=options.seed, fractions=shares)


def _claim(folder: Path, overwrite: bool, resume: bool) -> Path:
    if resume and not (folder / RESUME).exists():
        raise LrpEdgeError(
            f"{folder}: no {RESUME} to resume from; expected the folder of a training that was interrupted"
        )
    if (folder / CHECKPOINT).exists() and not overwrite and not resume:
        raise LrpEdgeError(f"{folder}: there is a model in this folder; choose another, or replace it with --overwrite")
    return claim_folder(folder)


def _begin(folder: Path, parts: Split, options: Options, resume: bool) -> float:
    """Write what was asked for, or check that it is what was asked for before; return the seconds spent before."""
    if not resume:
        (folder / RESUME).unlink(missing_ok=True)
        write_config(folder / CONFIG, options)
        write_split(folder / PARTS, parts)
        return 0.0
    saved = torch.load(folder / RESUME, map_location="cpu", weights_only=True)
    # The number of workers and devices may change: they decide speed, not what is drawn.
    now, then = (dict(values) for values in (dataclasses.asdict(options), saved["options"]))
    changed = [name for name, value in now.items() if then.get(name) != value and name not in ("workers", "devices")]
    if changed or saved["images"] != parts.train.names:
        what = f"option {changed[0]}" if changed else "the training images"
        raise LrpEdgeError(
            f"{folder}: {what} changed since the training was interrupted; resume with {CONFIG} and {PARTS}"
        )
    return float(saved["seconds"])


def _fit(
    module: TrainingModule, validation: DataLoader[Any] | None, begun: RunCheckpoint, resume: bool, progress: bool
) -> None:
    options, folder = module.options, begun.folder
    callbacks: list[Callback] = [begun]
    if options.ema:
        callbacks.append(WeightAveraging(avg_fn=running_average(options.ema)))
    if options.patience and validation:
        monitor = "val_iou" if options.is_unet else "val_auroc"
        callbacks.append(EarlyStopping(monitor, mode="max", patience=options.patience, check_on_train_epoch_end=False))
    trainer = lightning.Trainer(
        max_epochs=options.epochs,
        accelerator="auto",
        devices=options.devices or "auto",
        precision=_precision(options),
        accumulate_grad_batches=1 if options.patch else options.batch,
        deterministic="warn",
        gradient_clip_val=5.0,
        reload_dataloaders_every_n_epochs=1,
        check_val_every_n_epoch=options.val_every,
        callbacks=callbacks,
        logger=TensorBoardLogger(folder, name="", version="tensorboard"),
        log_every_n_steps=10,
        # Where there is no terminal, the lines of the epochs are enough.
        enable_progress_bar=progress and sys.stdout.isatty(),
        **_SILENT,
    )
    resume_from = folder / RESUME if resume else None
    trainer.fit(module, val_dataloaders=validation, ckpt_path=resume_from, weights_only=True)
    if trainer.interrupted:
        raise KeyboardInterrupt


def _measure(module: TrainingModule, card: ModelCard, part: Dataset, options: Options) -> Figures | None:
    """Measure whole images in float32, as they are deployed."""
    if not part.samples or options.is_unet:
        return None
    frames = Frames(part, card.input.network_order == "GRAY")
    model, answers = module.model.eval(), []
    with torch.no_grad():
        for image, label in DataLoader(frames, 1, num_workers=options.workers):
            answers.append((model(module.normalise(image.to(module.device) / 255)).softmax(1).cpu(), label))
    scores, labels = (torch.cat(column) for column in zip(*answers, strict=True))
    return measure(scores, labels, card)


_SILENT: Mapping[str, Any] = {
    "enable_checkpointing": True,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
}


def _precision(options: Options) -> Any:
    if options.precision != "auto":
        return PRECISIONS[options.precision]
    if torch.cuda.is_available():
        fast = torch.cuda.is_bf16_supported()
    else:
        # Processors take twice as long for the gradients of depthwise convolutions in bf16 as in fp32.
        fast = torch.ops.mkldnn._is_mkldnn_bf16_supported() and not options.is_cut
    return PRECISIONS["bf16" if fast else "fp32"]


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
