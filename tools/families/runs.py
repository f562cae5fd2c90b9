"""Measure what is missing, each subject in a process of its own with a limit of time and of memory."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import sleep, time
from typing import TYPE_CHECKING

import psutil

from tools.families.catalogue import Subject
from tools.families.steps import missing, perform
from tools.families.store import Record, Store

if TYPE_CHECKING:
    from tools.families.deployed import Deployed

#: Seconds between two looks at a process.
LOOK = 0.5
_THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@dataclass(frozen=True)
class Limits:
    """What is stored as a reason where it is exceeded.

    Attributes
    ----------
    minutes : float
        The most time of one step.
    gigabytes : float
        The most resident memory of a process.
    """

    minutes: float = 20
    gigabytes: float = 12


def drop(store: Store, subjects: Sequence[Subject], steps: Sequence[str], only_failed: bool) -> None:
    """Drop the stored figures of some steps, or of those among them that failed."""
    for subject in subjects:
        stored = store.steps(subject)
        store.forget(subject, [name for name in steps if not only_failed or "error" in stored.get(name, {})])


def measure_all(store: Store, subjects: Sequence[Subject], steps: Sequence[str], limits: Limits) -> None:
    """Measure what is missing.

    Parameters
    ----------
    store : Store
        Where figures are kept.
    subjects : sequence of Subject
        Of what.
    steps : sequence of str
        What to measure, keys of :data:`~tools.families.steps.STEPS`.
    limits : Limits
        Of each process.
    """
    for subject in subjects:
        while ahead := list(missing(subject, store.steps(subject), steps)):
            reason = _in_process(store, subject, ahead, limits)
            # The first step without figures is the one that the process was at.
            at = next(missing(subject, store.steps(subject), steps), None)
            if at is not None:
                store.keep(subject, at, {"error": reason})
        print(subject.name, _summary(store.steps(subject)), flush=True)


def measure_one(store: Store, deployed: Deployed, steps: Sequence[str]) -> None:
    """Measure some steps of one subject in this process, and store each when it is done."""
    for step in steps:
        # What it needs may have failed meanwhile.
        if step in missing(deployed.subject, store.steps(deployed.subject), steps):
            store.keep(deployed.subject, step, perform(step, deployed))


def _in_process(store: Store, subject: Subject, steps: Sequence[str], limits: Limits) -> str:
    """Measure in another process; return how it came to an end."""
    command = [sys.executable, "-m", "tools.families", "--docs", str(store.docs), "one", subject.name, *steps]
    # A process that is killed leaves files of hundreds of megabytes.
    with tempfile.TemporaryDirectory(prefix="families-") as scratch:
        process = subprocess.Popen(command, env={**os.environ, **_THREADS, "TMPDIR": scratch})
        try:
            end = _watch(process, store.path_of(subject), limits)
        finally:
            process.kill()
            process.wait()
    if process.returncode > 0:
        sys.exit(f"{' '.join(command)} failed: that is a fault of this program, so no reason is stored")
    return end


def _watch(process: subprocess.Popen[bytes], stored: Path, limits: Limits) -> str:
    """Wait for a process within its limits; return what it exceeded, or how it ended."""
    begun = time()
    while process.poll() is None:
        # A step begins when the one before is stored.
        since = max(begun, stored.stat().st_mtime if stored.exists() else 0)
        if time() - since > 60 * limits.minutes:
            return f"not done within {limits.minutes:g} minutes"
        try:
            resident = psutil.Process(process.pid).memory_info().rss
        except psutil.NoSuchProcess:
            continue
        if resident > limits.gigabytes * 1e9:
            return f"needs more than {limits.gigabytes:g} GB of memory"
        sleep(LOOK)
    return f"the process was ended by signal {-process.returncode}"


def _summary(stored: Record) -> str:
    errors = [f"{name}: {figures['error']}" for name, figures in stored.items() if "error" in figures]
    return "; ".join([f"{len(stored)} steps", *errors])
