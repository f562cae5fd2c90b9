"""``lrp-edge inspect``: what is in an exported file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lrp_edge.cli.options import command, write_json
from lrp_edge.export.options import InspectOptions

if TYPE_CHECKING:
    from lrp_edge.card import ModelCard
    from lrp_edge.export.inspect import Inspection


def register(app: typer.Typer) -> None:
    """Add the verb."""
    command(app, "inspect", inspect)


def inspect(
    model: Annotated[Path, typer.Argument(help="A file that lrp-edge export wrote.")], options: InspectOptions
) -> None:
    """Show a model's tensors, card, operators and arithmetic."""
    from lrp_edge.export.inspect import inspect as look

    found = look(model, options.size)
    write_json(options.json, json.dumps(_as_dict(found), indent=2) + "\n")
    if options.json != "-":
        _print(found)


def _as_dict(found: Inspection) -> dict[str, Any]:
    parts = {
        name: {"operators": dict(part.operators), "macs": part.macs, "other_elements": part.elements}
        for name, part in (("forward", found.forward), ("relevance", found.relevance))
    }
    tensors = [dict(zip(("name", "type", "shape"), tensor, strict=True)) for tensor in found.tensors]
    return {"tensors": tensors, "size": found.size, **parts, "card": json.loads(found.card.to_json())}


def _print(found: Inspection) -> None:
    from rich.console import Console
    from rich.table import Table

    console, card = Console(), found.card
    tensors = Table("tensor", "type", "shape")
    for row in found.tensors:
        tensors.add_row(*row)
    console.print(tensors)
    facts = Table(show_header=False)
    facts.add_row("classes", ", ".join(card.classes))
    facts.add_row("defects", ", ".join(card.defects))
    facts.add_row("decision", _decision(card))
    where = "the pixels" if card.relevance_stride == 1 else f"the stage of stride {card.relevance_stride}"
    facts.add_row("explained", f"{card.explained}, at {where}")
    facts.add_row("frames", f"{card.input.order}, {_size(card.input.size)}, up to {card.input.max_batch} at once")
    facts.add_row("usable", _usable(card))
    facts.add_row("receptive field", _field(card))
    facts.add_row("composite", " ".join([card.composite, *_pairs(card.composite_parameters)]))
    facts.add_row("mask", f"{' '.join([card.mask.method, *_pairs(card.mask.parameters)])} ({card.mask.found})")
    facts.add_row("smoothing", f"{card.mask.smoothing}, close {card.mask.close}, open {card.mask.open}")
    facts.add_row("area classes", ", ".join(card.mask.area_classes) or "none")
    facts.add_row("precision", card.precision)
    facts.add_row("parity", ", ".join(_pairs(card.parity)) + _measured_before(card))
    facts.add_row("provenance", ", ".join(_pairs(card.provenance)))
    console.print(facts)
    work = Table("part", "nodes", "GFLOP", "other elements", "operators", title=f"one frame of {_size(found.size)}")
    for name, part in (("forward", found.forward), ("relevance", found.relevance)):
        operators = ", ".join(f"{kind} {count}" for kind, count in part.operators.most_common())
        nodes = str(sum(part.operators.values()))
        work.add_row(name, nodes, f"{2 * part.macs / 1e9:.3f}", f"{part.elements / 1e6:.2f} M", operators)
    console.print(work)
    total = found.forward.macs + found.relevance.macs
    console.print(f"class + mask: {total / max(1, found.forward.macs):.2f} times the classifier's arithmetic")


def _usable(card: ModelCard) -> str:
    if not card.usable:
        return "not measured"
    measured = f"on {card.usable.get('images')} {card.usable.get('part')}"
    return f"no, {measured}: {'; '.join(card.unusable)}" if card.unusable else f"yes, {measured}"


def _decision(card: ModelCard) -> str:
    from lrp_edge.decision import describe

    return describe(card.decision) if card.decision else "the class with the greatest score: the file has no threshold"


def _measured_before(card: ModelCard) -> str:
    """Say where labels and masks were compared at another threshold; scores and relevance do not depend on it."""
    measured = card.parity.get("threshold")
    if card.decision is None or measured is None or measured == card.decision.threshold:
        return ""
    return f" (labels and masks at the threshold before this one, {measured:.4g}; lrp-edge verify compares them again)"


def _size(size: tuple[int, int] | None) -> str:
    return f"{size[0]}x{size[1]}" if size else "any size"


def _field(card: ModelCard) -> str:
    if card.receptive_field is None:
        return "not known"
    resized = f" of a frame that is resized to {_size(card.input.resize)}" if card.input.resize else ""
    return f"{_size(card.receptive_field)} pixels{resized}"


def _pairs(values: dict[str, Any]) -> list[str]:
    return [f"{key}={value:.3g}" if isinstance(value, float) else f"{key}={value}" for key, value in values.items()]
