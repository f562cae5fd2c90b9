"""The stored figures: one JSON file a subject, written anew with each step."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Collection
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lrp_edge.files import write_text
from tools.families.catalogue import SUBJECTS, Subject

#: What a subject's file holds.
Record = dict[str, Any]
PACKAGES = ("lrp-edge", "torch", "torchvision", "timm", "zennit", "onnxruntime", "openvino", "tensorrt_rtx")


@dataclass(frozen=True)
class Store:
    """Where figures are kept.

    Attributes
    ----------
    docs : Path
        Folder of the page; figures are in ``families`` there.
    """

    docs: Path

    def path_of(self, subject: Subject) -> Path:
        """Return the file of a subject."""
        return self.docs / "families" / f"{subject.slug}.json"

    def records(self) -> dict[str, Record]:
        """Return all files by the names of their subjects, in the order of the catalogue."""
        found = [json.loads(path.read_text()) for path in sorted((self.docs / "families").glob("*.json"))]
        order = {name: i for i, name in enumerate(SUBJECTS)}
        found.sort(key=lambda record: order.get(record["name"], len(order)))
        return {record["name"]: record for record in found}

    def steps(self, subject: Subject) -> Record:
        """Return the figures of a subject by step."""
        path = self.path_of(subject)
        return dict(json.loads(path.read_text())["steps"]) if path.exists() else {}

    def keep(self, subject: Subject, step: str, figures: Record) -> None:
        """Store the figures of a step, with the commit that is checked out."""
        self._write(subject, self.steps(subject) | {step: figures | {"commit": head()}})

    def forget(self, subject: Subject, steps: Collection[str]) -> None:
        """Drop the figures of some steps, to be measured anew."""
        stored = self.steps(subject)
        kept = {name: figures for name, figures in stored.items() if name not in steps}
        if not kept:
            self.path_of(subject).unlink(missing_ok=True)
        elif kept != stored:
            self._write(subject, kept)

    def _write(self, subject: Subject, steps: Record) -> None:
        content = {
            "name": subject.name,
            "packages": {name: version(name) for name in PACKAGES},
            "machine": f"{platform.machine()}, one thread",
            "steps": steps,
        }
        write_text(self.path_of(subject), json.dumps(content, indent=1) + "\n")


def head() -> str:
    """Return the commit that is checked out."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
