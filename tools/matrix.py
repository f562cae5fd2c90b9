"""The deployment matrix: which models build with TensorRT-RTX, in which precision and form, for which GPUs.

``python -m tools.matrix [-o OUT] [--checkpoint FILE]`` writes ``matrix.md``, and ``matrix.jsonl`` with a line a build.
A run that was stopped goes on where it was: what has a line is not built again.
"""

from __future__ import annotations

import argparse
import atexit
import functools
import itertools
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

from lrp_edge.card import PRECISIONS, ModelCard
from lrp_edge.errors import LrpEdgeError

CLASSES = ("ok", "crack", "scratch", "hole", "stain")
MODELS = {"VGG-A": "vgg11", "ResNet-18": "resnet18", "ResNet-50": "resnet50"}
FORMS = ("fixed", "dynamic batch", "dynamic HxW")
GPUS = ("sm75", "sm86", "sm89", "sm120")
SIZE = (224, 224)
NO_BFLOAT16 = "no bfloat16 on sm75"


@dataclass(frozen=True)
class Case:
    """One export: a model in a precision and a form, with or without gate."""

    model: str
    precision: str
    form: str
    gate: bool


def cases(models: Sequence[str]) -> Iterator[Case]:
    """Yield every case."""
    for model, form, precision, gate in itertools.product(models, FORMS, PRECISIONS, (False, True)):
        yield Case(model, precision, form, gate)


def measure(case: Case, gpus: Sequence[str], checkpoint: Path | None = None) -> list[dict[str, Any]]:
    """Export a case and build it for each GPU; what goes wrong is an entry of the row, never skipped.

    Returns
    -------
    list of dict
        The case, ``gpu``, ``engine_mb``, ``seconds`` of the build, and ``error``: empty where it builds.
    """
    from lrp_edge.export import to_engine

    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        try:
            model = _export(case, Path(scratch), checkpoint)
            failed = ""
        except Exception as error:
            failed = f"export: {_text(error)}"
        for gpu in gpus:
            row: dict[str, Any] = {**asdict(case), "gpu": gpu, "engine_mb": 0.0, "seconds": 0.0, "error": failed}
            if case.precision == "bf16" and gpu == "sm75" and not failed:
                row["error"] = NO_BFLOAT16
            start = perf_counter()
            try:
                if not row["error"]:
                    largest = {"largest": (512, 512)} if case.form == "dynamic HxW" else {}
                    engine = to_engine(model, gpus=[gpu], cache=False, **largest)
                    row |= {"engine_mb": engine.stat().st_size / 1e6, "seconds": perf_counter() - start}
            except Exception as error:
                row["error"] = _text(error).replace(f"{scratch}/", "")
            rows.append(row)
    return rows


def _text(error: Exception) -> str:
    return str(error) if isinstance(error, LrpEdgeError) else f"{type(error).__name__}: {error}"


def _export(case: Case, folder: Path, checkpoint: Path | None) -> Path:
    import onnx

    from lrp_edge.export.onnx_file import OPSETS, with_card, with_precision
    from lrp_edge.export.passes.gate import gate
    from lrp_edge.export.read import load_proto
    from lrp_edge.export.verify.parity import random_frames

    proto, card = load_proto(Path(_flat(case.model, case.form, checkpoint)))
    proto.opset_import[0].version = OPSETS[case.precision]
    card = card.replace(precision=case.precision, gate=case.gate)
    proto, card = with_precision(proto, card, random_frames(SIZE, card.input.channels, 2))
    file = folder / "model.onnx"
    onnx.save(with_card(gate(proto, card) if case.gate else proto, card), file)
    return file


@functools.lru_cache(maxsize=1)
def _flat(model: str, form: str, checkpoint: Path | None) -> str:
    """Export a model in float32, which all precisions and gates of a form start from."""
    from lrp_edge.export import to_onnx
    from lrp_edge.export.origin import load_model

    if model in MODELS:
        from tests.support.oracles import torchvision_model

        network, card = torchvision_model(MODELS[model]).float(), ModelCard(CLASSES, CLASSES[1:])
    else:
        network, own, _ = load_model(checkpoint or model)
        assert own is not None
        card = own
    folder = tempfile.mkdtemp(prefix="matrix-")
    atexit.register(shutil.rmtree, folder)
    return str(to_onnx(network, folder, card=card.replace(input=replace(card.input, **_shape(model, form)))))


def _shape(model: str, form: str) -> dict[str, Any]:
    if form == "dynamic HxW":
        return {"size": None, "resize": SIZE if model == "VGG-A" else None, "max_batch": 8}
    return {"size": SIZE, "resize": None, "max_batch": 8 if form == "dynamic batch" else 1}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the rows as Markdown, a line a case and a column a GPU, with all errors below."""
    gpus = [gpu for gpu in GPUS if any(row["gpu"] == gpu for row in rows)]
    errors: dict[str, int] = {}
    grouped: dict[tuple[Any, ...], dict[str, str]] = {}
    for row in rows:
        key = (row["model"], row["precision"], row["form"], "yes" if row["gate"] else "no")
        grouped.setdefault(key, {})[row["gpu"]] = _cell(row, errors)
    built = sum(not row["error"] for row in rows)
    lines = [
        f"{built} of {len(rows)} engines build. A cell has an engine's size and the time of its build, or an error. "
        "int8 was calibrated on noise, which is enough to see whether it builds.\n",
        "| model | precision | form | gate | " + " | ".join(gpu.upper() for gpu in gpus) + " |",
        "|---" * (4 + len(gpus)) + "|",
    ]
    lines += [f"| {' | '.join((*key, *(cells.get(gpu, '') for gpu in gpus)))} |" for key, cells in grouped.items()]
    lines += ["", *(f"{number}. {error}" for error, number in errors.items())]
    return "\n".join(lines).rstrip() + "\n"


def _cell(row: dict[str, Any], errors: dict[str, int]) -> str:
    if row["error"]:
        return f"no: error {errors.setdefault(row['error'].splitlines()[0], len(errors) + 1)}"
    return f"{row['engine_mb']:.1f} MB, {row['seconds']:.1f} s"


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read the lines of a run before; one that was cut short by a kill is taken away."""
    if not path.exists():
        return []
    lines = path.read_text().splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines.pop()
        path.write_text("".join(lines))
    return [json.loads(line) for line in lines]


def work(models: Sequence[str], gpus: Sequence[str], log: Path, checkpoint: Path | None) -> None:
    """Build what has no line in the log yet, and write a line for each."""
    for case in cases(models):
        done = {row["gpu"] for row in read_rows(log) if asdict(case).items() <= row.items()}
        missing = [gpu for gpu in gpus if gpu not in done]
        for row in measure(case, missing, checkpoint) if missing else ():
            with log.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)


def main() -> None:
    """Build all, each model in a process of its own, so that its memory is freed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path("out"), help="folder for matrix.md and matrix.jsonl")
    parser.add_argument("--checkpoint", type=Path, help="a trained checkpoint to build besides")
    parser.add_argument("--only", help="build one model here, and write no table")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    log = options.output / "matrix.jsonl"
    if options.only:
        return work([options.only], GPUS, log, options.checkpoint)
    for model in (*MODELS, *([options.checkpoint.stem] if options.checkpoint else [])):
        subprocess.run([sys.executable, __file__, *sys.argv[1:], "--only", model], check=True)
    (options.output / "matrix.md").write_text(table(read_rows(log)))
    return None


if __name__ == "__main__":
    main()
