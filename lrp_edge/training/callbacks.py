"""Callbacks that write the run folder during training: the checkpoint to resume from, the metrics, the curve."""

from __future__ import annotations

import csv
import dataclasses
import io
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lrp_edge.errors import needs_extra
from lrp_edge.files import whole, write_text
from lrp_edge.training.options import Options

with needs_extra("train"):
    from lrp_edge import _torchvision  # noqa: F401
with needs_extra("train"):
    from lightning.pytorch.callbacks import Checkpoint
    from matplotlib.figure import Figure
    from torch import Tensor

HISTORY, CURVE, RESUME = "metrics.csv", "curve.png", "resume.ckpt"


def running_average(decay: float) -> Callable[[Tensor, Tensor, Any], Tensor]:
    """Return how the running average of the weights takes in those of one more step.

    A constant decay would leave a training of few steps near its start; so the decay of step n is (1 + n) / (10 + n)
    until that reaches the given one, as in TensorFlow's ``ExponentialMovingAverage`` with ``num_updates``.
    """

    def average(averaged: Tensor, current: Tensor, steps: Any) -> Tensor:
        reached = min(decay, (1 + int(steps)) / (10 + int(steps)))
        return averaged + (1 - reached) * (current - averaged)

    return average


class RunCheckpoint(Checkpoint):
    """After each epoch, write the checkpoint to resume from, the table of metrics and the curve, each file atomically.

    Lightning's own checkpoint callback writes to the system's temporary folder and copies from there, so a full
    disk could destroy the checkpoint that is being replaced.
    """

    def __init__(self, folder: Path, options: Options, images: list[str]) -> None:
        self.folder, self.options, self.images = folder, options, images
        self.before, self.started = 0.0, time.monotonic()

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        checkpoint["options"] = dataclasses.asdict(self.options)
        checkpoint["images"] = self.images
        checkpoint["seconds"] = self.before + time.monotonic() - self.started

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        self.before = float(checkpoint["seconds"])

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        # No checkpoint after the last epoch, since a resumed training with no epoch left would not hand over the
        # running average: one that is killed between it and the final checkpoint repeats its last epoch.
        if not trainer.should_stop and pl_module.current_epoch + 1 < trainer.max_epochs:
            with whole(self.folder / RESUME) as partial:
                trainer.save_checkpoint(partial)
        if trainer.is_global_zero:
            self._tell(pl_module.history[-1])
            write_text(self.folder / HISTORY, _as_csv(pl_module.history))
            if len(pl_module.history[-1]) > 2 or len(pl_module.history) == self.options.epochs:
                draw_curve(pl_module.history, self.folder / CURVE)

    def _tell(self, entry: dict[str, float]) -> None:
        """Write a line on an epoch, with the time that is left."""
        spent = self.before + time.monotonic() - self.started
        done, epochs = int(entry["epoch"]), self.options.epochs
        figures = ", ".join(f"{name} {value:.4g}" for name, value in entry.items() if name != "epoch")
        left = f", about {_minutes(spent / done * (epochs - done))} left" if done < epochs else ""
        print(f"epoch {done} of {epochs}: {figures}, {_minutes(spent)}{left}", file=sys.stderr, flush=True)


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.0f} s"


def _as_csv(history: list[dict[str, float]]) -> str:
    names = list(dict.fromkeys(name for entry in history for name in entry))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return text.getvalue()


def draw_curve(history: list[dict[str, float]], path: Path) -> None:
    """Plot loss and validation metrics by epoch as a PNG."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    loss = figure.subplots()
    loss.plot(
        [entry["epoch"] for entry in history], [entry["loss"] for entry in history], color="tab:gray", label="loss"
    )
    loss.set(xlabel="epoch", ylabel="training loss")
    other = loss.twinx()
    for name, colour in (("val_auroc", "tab:blue"), ("val_accuracy", "tab:orange"), ("val_iou", "tab:green")):
        points = [(entry["epoch"], entry[name]) for entry in history if name in entry]
        if points:
            other.plot(*zip(*points, strict=True), marker="o", color=colour, label=name.replace("val_", "validation "))
    other.set(ylim=(0, 1), ylabel="validation")
    figure.legend(loc="outside upper center", ncols=3)
    with whole(path) as partial:
        figure.savefig(partial, format="png", dpi=120)
