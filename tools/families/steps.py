"""What is measured of a subject, in steps that are stored one by one."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

from lrp_edge.errors import LrpEdgeError, first_line
from lrp_edge.relevance.plain import plain
from tools.families.catalogue import Subject

if TYPE_CHECKING:
    from tools.families.deployed import Deployed

GPUS, PRECISIONS = ("sm86", "sm120"), ("fp32", "fp16")
BUILD, UNROLL, EXPORT = "network", "relevance", "onnx"
#: Of a message, what comes after this is known, and no reason is longer.
KNOWN, MOST = "; compute it", 300


@dataclass(frozen=True)
class Step:
    """One thing that is measured.

    Attributes
    ----------
    measure : callable
        Takes what is deployed, returns figures for JSON.
    needs : str
        The step without which it cannot be; empty for none.
    heads : bool
        Whether it is measured of heads and single layers too.
    """

    measure: Callable[[Deployed], dict[str, Any]]
    needs: str = UNROLL
    heads: bool = False


def _network(deployed: Deployed) -> dict[str, Any]:
    return {"parameters": deployed.parameters}


def _relevance(deployed: Deployed) -> dict[str, Any]:
    from tools.families.oracles import images, relevance

    return relevance(deployed.subject, plain(deployed.model, images(deployed.subject)))


def _zennit(deployed: Deployed) -> dict[str, Any]:
    from tools.families.oracles import images
    from tools.families.rival import zennit

    return zennit(deployed.subject, plain(deployed.model, images(deployed.subject)))


def _of_file(name: str, *arguments: str) -> Callable[[Deployed], dict[str, Any]]:
    def measure(deployed: Deployed) -> dict[str, Any]:
        from tools.families import deployed as files

        figures: dict[str, Any] = partial(getattr(files, name), deployed)(*arguments)
        return figures

    return measure


STEPS = {
    BUILD: Step(_network, "", heads=True),
    UNROLL: Step(_relevance, BUILD, heads=True),
    "zennit": Step(_zennit),
    EXPORT: Step(_of_file("exported"), heads=True),
    "openvino": Step(_of_file("openvino"), EXPORT),
    "cost": Step(_of_file("cost"), EXPORT),
    "dynamic": Step(_of_file("dynamic")),
    **{
        f"rtx-{precision}-{gpu}": Step(_of_file("build", precision, gpu), EXPORT, heads=True)
        for precision in PRECISIONS
        for gpu in GPUS
    },
}
QUICK = (BUILD, UNROLL, "zennit")


def missing(subject: Subject, stored: dict[str, Any], steps: Collection[str]) -> Iterator[str]:
    """Yield the steps that have no figures yet and can have some."""
    for name, step in STEPS.items():
        is_asked = name in steps and (step.heads or not subject.is_head)
        if is_asked and name not in stored and not _is_blocked(step, stored):
            yield name


def _is_blocked(step: Step, stored: dict[str, Any]) -> bool:
    """Whether a step that it needs, or one that that needs, has failed."""
    return bool(step.needs) and ("error" in stored.get(step.needs, {}) or _is_blocked(STEPS[step.needs], stored))


def perform(name: str, deployed: Deployed) -> dict[str, Any]:
    """Measure one step; what goes wrong is its result, never skipped."""
    start = perf_counter()
    try:
        figures = STEPS[name].measure(deployed)
    except LrpEdgeError as error:
        # The file that it was about is gone, and its folder is nobody's business.
        figures = {"error": re.sub(r"\S*/\w+\.onnx: ", "", first_line(error)).partition(KNOWN)[0][:MOST]}
    except Exception as error:  # of any library
        figures = {"error": f"{type(error).__name__}: {first_line(error)}"[:MOST]}
    return {**figures, "seconds": round(perf_counter() - start, 1)}
