"""docs/families.md, from what is stored."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator

from tools.families.catalogue import FURTHER
from tools.families.steps import BUILD, EXPORT, GPUS, PRECISIONS, UNROLL
from tools.families.store import Record, Store

DASH = "–"
#: Beyond these a figure is one to look at, and stands in bold.
EXACT, OFF_SUM, OFF_FLOAT = 1e-6, 1e-2, 1e-4


class Notes:
    """Reasons by number, each told once, below the table."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def number(self, reason: str) -> int:
        return self._numbers.setdefault(reason, len(self._numbers) + 1)

    def lines(self) -> Iterator[str]:
        for reason, number in self._numbers.items():
            yield f"{number}. {_plain(reason)}"


def page(store: Store) -> str:
    """Return the page."""
    records = store.records()
    if not records:
        sys.exit(f"no figures in {store.docs / 'families'}; make them with: python -m tools.families measure")
    heads = {name: record for name, record in records.items() if name.startswith("head/")}
    further = {name: record for name, record in records.items() if name in FURTHER}
    networks = {name: record for name, record in records.items() if name not in heads | further}
    parts = {
        "networks": "\n".join(table(networks, NETWORK_COLUMNS)),
        "further": "\n".join(table(further, NETWORK_COLUMNS)),
        "heads": "\n".join(table(heads, HEAD_COLUMNS)),
        "network_counts": counts(networks, "networks"),
        "further_counts": counts(further, "networks"),
        "head_counts": counts(heads, "heads and layers"),
        "made": made(records),
    }
    text = (store.docs / "families" / "page.md").read_text().format(**parts)
    return re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n"


def table(records: dict[str, Record], columns: dict[str, Callable[[Record, Notes], str]]) -> Iterator[str]:
    """Yield the lines of a table, and its notes."""
    notes = Notes()
    yield f"| name | {' | '.join(columns)} |"
    yield "| :--- |" + " ---: |" * len(columns)
    for name, record in records.items():
        cells = (cell(record["steps"], notes) for cell in columns.values())
        yield f"| {_plain(name.removeprefix('head/'))} | {' | '.join(cells)} |"
    yield ""
    yield from notes.lines()


def _plain(text: str) -> str:
    """Return a text of which Markdown takes nothing for its own."""
    return re.sub(r"([|*<>\[\]`])", r"\\\1", text)


def _step(name: str, cell: Callable[[Record, Notes], str]) -> Callable[[Record, Notes], str]:
    """Return a cell of a step: a dash where it was not measured, the number of its reason where it failed."""

    def shown(steps: Record, notes: Notes) -> str:
        if name not in steps:
            return DASH
        return f"no [{notes.number(steps[name]['error'])}]" if "error" in steps[name] else cell(steps[name], notes)

    return shown


def _bold(text: str, is_off: bool) -> str:
    return f"**{text}**" if is_off else text


def _unrolls(steps: Record, notes: Notes) -> str:
    errors = [steps[name]["error"] for name in (BUILD, UNROLL) if "error" in steps.get(name, {})]
    if errors:
        return _plain(f"no: {errors[0].partition(';')[0]}")
    return "yes" if UNROLL in steps else DASH


def _of_unrolled(cell: Callable[[Record], str]) -> Callable[[Record, Notes], str]:
    """Return a cell of the step that unrolls, whose reason has a cell of its own."""

    def shown(steps: Record, notes: Notes) -> str:
        figures = steps.get(UNROLL, {"error": ""})
        return DASH if "error" in figures else cell(figures)

    return shown


def _lrp_0(figures: Record) -> str:
    unlike = figures["unlike_gradient"]
    said = f"{figures['lrp_0']:.1e}"
    return _plain(f"{said} ({', '.join(unlike)})") if unlike else _bold(said, figures["lrp_0"] > EXACT)


def _zennit(figures: Record, notes: Notes) -> str:
    if "not_compared" in figures:
        return f"n/a [{notes.number(figures['not_compared'])}]"
    return _bold(f"{figures['difference']:.1e}", figures["difference"] > EXACT)


def _conservation(figures: Record) -> str:
    worst: float = max(figures["conservation"], key=lambda share: abs(share - 1))
    return _bold(f"{worst:.4f}" if abs(worst) < 10 else f"{worst:.1e}", abs(worst - 1) > OFF_SUM)


def _agreement(figures: Record, notes: Notes) -> str:
    return _bold(f"{figures['relevance_max']:.1e}", figures["relevance_max"] > OFF_FLOAT)


def _dynamic(figures: Record, notes: Notes) -> str:
    if "fixed_by_network" in figures:
        return f"fixed [{notes.number('the network itself: ' + figures['fixed_by_network'])}]"
    return f"yes, {_agreement(figures, notes)}"


def _counted(figures: Record, notes: Notes) -> str:
    alone: int = figures["classifier_macs"]
    return f"{(alone + figures['relevance_macs']) / alone:.1f}" if alone else DASH


def _measured(figures: Record, notes: Notes) -> str:
    alone, both = figures["classifier_ms"], figures["both_ms"]
    return f"{both / alone:.1f} ({both:.0f} / {alone:.0f} ms)"


def _engines(steps: Record, notes: Notes) -> str:
    """Say how many engines build, with reasons of those that do not."""
    built = [steps[name] for name in _BUILDS if name in steps]
    if not built:
        return DASH
    reasons = sorted({notes.number(each["error"]) for each in built if "error" in each})
    good = sum("error" not in each for each in built)
    said = "all" if good == len(_BUILDS) else f"{good} of {len(built)}"
    return said + "".join(f" [{number}]" for number in reasons)


_BUILDS = [f"rtx-{precision}-{gpu}" for precision in PRECISIONS for gpu in GPUS]

NETWORK_COLUMNS: dict[str, Callable[[Record, Notes], str]] = {
    "parameters": _step(BUILD, lambda figures, notes: f"{figures['parameters'] / 1e6:.1f} M"),
    "unrolls": _unrolls,
    "LRP-0 against gradient × input": _of_unrolled(_lrp_0),
    "zennit": _step("zennit", _zennit),
    "ΣR / logit, no biases": _of_unrolled(_conservation),
    "ONNX Runtime": _step(EXPORT, _agreement),
    "OpenVINO": _step("openvino", _agreement),
    "TensorRT-RTX": _engines,
    "any size": _step("dynamic", _dynamic),
    "arithmetic": _step(EXPORT, _counted),
    "time": _step("cost", _measured),
    "file / weights": _step(EXPORT, lambda figures, notes: f"{figures['bytes'] / figures['weight_bytes']:.1f}"),
}
HEAD_COLUMNS = {
    name: NETWORK_COLUMNS[name]
    for name in ("unrolls", "LRP-0 against gradient × input", "ΣR / logit, no biases", "ONNX Runtime", "TensorRT-RTX")
}


def counts(records: dict[str, Record], kind: str) -> str:
    """Say of how many there are figures, and of how many each holds."""
    measured = [record["steps"] for record in records.values()]
    said = [f"{_good(measured, UNROLL)} of {len(measured)} {kind} unroll"]
    for step, verb in ((EXPORT, "export and agree in ONNX Runtime"), ("openvino", "agree in OpenVINO")):
        tried = sum(step in steps for steps in measured)
        if tried:
            agree = sum(steps.get(step, {}).get("relevance_max", OFF_FLOAT * 2) <= OFF_FLOAT for steps in measured)
            said.append(f"{agree} of {tried} that were tried {verb}")
    tried = sum(name in steps for steps in measured for name in _BUILDS)
    if tried:
        said.append(f"{sum(_good(measured, name) for name in _BUILDS)} of {tried} engines build")
    return ", ".join(said) + "."


def _good(measured: list[Record], step: str) -> int:
    return sum(step in steps and "error" not in steps[step] for steps in measured)


def made(records: dict[str, Record]) -> str:
    """Say where the figures come from."""
    commits = sorted({step["commit"] for record in records.values() for step in record["steps"].values()})
    machines = sorted({record["machine"] for record in records.values()})
    packages = {name: number for record in records.values() for name, number in record["packages"].items()}
    listed = ", ".join(f"{name} {number}" for name, number in packages.items())
    return f"Measured at commit {', '.join(commits)}, on {'; '.join(machines)}, with {listed}."
