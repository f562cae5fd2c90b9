"""ONNX → engines of TensorRT-RTX, on any machine, and of TensorRT, on the device itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter

from lrp_edge.card import ModelCard
from lrp_edge.export.options import CompileOptions
from lrp_edge.export.tensorrt.build import Progress, build
from lrp_edge.export.tensorrt.cache import EngineCache, cache_folder, cache_limit
from lrp_edge.export.tensorrt.profile import Size, profile_for
from lrp_edge.export.tensorrt.request import Options, Request
from lrp_edge.export.tensorrt.target import DEFAULT_GPUS, PRODUCTS, find_target
from lrp_edge.files import claim_folder, whole_pair
from lrp_edge.options import accepted

__all__ = ["DEFAULT_GPUS", "PRODUCTS", "to_engine"]


def to_engine(
    model: str | Path,
    output: str | Path | None = None,
    *,
    product: str = "rtx",
    gpus: Sequence[str] | None = None,
    batch: tuple[int, int, int] | None = None,
    smallest: Size | None = None,
    usual: Size | None = None,
    largest: Size | None = None,
    workspace_mb: int | None = None,
    version_compatible: bool = CompileOptions.version_compatible,
    hardware_compatible: str | None = None,
    optimization_level: int | None = None,
    cache: bool = CompileOptions.cache,
    progress: Progress = lambda phase, done, steps: None,
    say: Callable[[str], None] = lambda line: None,
) -> Path:
    """Compile an exported ONNX file with TensorRT-RTX or TensorRT.

    Parameters
    ----------
    model : path
        A file of :func:`lrp_edge.export.to_onnx`.
    output : path, optional
        Folder for the engine and its card; by default that of the model.
    product : {"rtx", "tensorrt"}
        TensorRT-RTX builds on any machine; TensorRT builds for the GPU that it runs on.
    gpus : sequence of str, optional
        For TensorRT-RTX, compute capabilities that the engine is for; by default ``("sm86", "sm89", "sm120")``. With
        ``"sm75"`` among them the whole engine is without matrix products in float32, which Turing lacks, so better
        compile an engine of its own for it; bfloat16 it lacks too.
    batch : (least, usual, most), optional
        Frames in one call; by default one, one, and as many as the model takes.
    smallest, usual, largest : (height, width), optional
        Sizes of frames that the engine is to take, for a model of dynamic size; by default 64x64, 512x512 and
        1024x1024, or what fits those that are given.
    workspace_mb : int, optional
        The most GPU memory that the engine may use for intermediate results, in MiB.
    version_compatible : bool
        Let newer versions of TensorRT load the engine (not of TensorRT-RTX).
    hardware_compatible : str, optional
        Let other GPUs run the engine: ``"ampere_plus"`` or ``"same_compute_capability"`` (not with TensorRT-RTX).
    optimization_level : int, optional
        From 0 (fast to build) to 5 (fast to run); by default the product's own.
    cache : bool
        Take the engine from the user's cache folder if it was built before, and keep it there.
    progress : callable
        Called with a phase's name, its steps done and all its steps, from any thread.
    say : callable
        Called with one line on where the engine comes from, and on a cache that is out of order.

    Returns
    -------
    Path
        ``<name>.<product>-<version>.<gpus>.<precision>.engine``; next to it the card as ``.json``, with the profile and
        the SHA-256 of model and engine.

    Raises
    ------
    LrpEdgeError
        If the product is not installed, has no GPU where it needs one or does not know one that is asked for, the file
        is not an export of this toolkit or does not take such frames, the builder refuses the graph, or the folder
        cannot be written. Existing files are then left unchanged.
    """
    asked = accepted(
        CompileOptions,
        batch=batch,
        smallest=smallest,
        usual=usual,
        largest=largest,
        workspace_mb=workspace_mb,
        version_compatible=version_compatible,
        hardware_compatible=hardware_compatible,
        optimization_level=optimization_level,
        cache=cache,
    )
    shapes = {name: asked.pop(name) for name in ("batch", "smallest", "usual", "largest")}
    target = find_target(product, gpus)
    # Not above: it needs onnx, and find_target names the extra that has it without torch.
    from lrp_edge.export.read import load_proto

    model = Path(model)
    proto, card = load_proto(model)
    cache = asked.pop("cache")
    options = Options(**asked)
    options.check(target)
    profile = profile_for(card.input, **shapes)
    request = Request(model, model.read_bytes(), proto, card, target, profile, options)
    request.check()
    folder = claim_folder(model.parent if output is None else output)
    engine, card = _obtain(request, EngineCache(cache_folder(), cache_limit(), say) if cache else None, progress, say)
    return _publish(folder / request.name, engine, card)


def _obtain(
    request: Request, cache: EngineCache | None, progress: Progress, say: Callable[[str], None]
) -> tuple[bytes, ModelCard]:
    """Take the engine from the cache, or build it."""
    kept = cache.take(request.key) if cache else None
    if kept is not None:
        say(f"taken from the cache, built before with {request.target.title}")
        return kept, request.describe(kept)
    start, timings = perf_counter(), request.target.timing_name
    timing = cache.timing(timings) if cache and request.target.measures else None
    engine, timing = build(request, progress, timing)
    say(f"built with {request.target.title} in {perf_counter() - start:.1f} s")
    if cache and timing is not None:
        cache.keep_timing(timings, timing)
    if cache and not cache.keep(request.key, engine, request.describe(engine)):
        # Another process built it meanwhile: whoever publishes last, file and card are of one build.
        engine = cache.take(request.key) or engine
    return engine, request.describe(engine)


def _publish(path: Path, engine: bytes, card: ModelCard) -> Path:
    """Give engine and card their names, or neither; a reader runs an engine only if its SHA-256 is the card's."""
    with whole_pair(path, path.with_suffix(".json")) as (new_engine, new_card):
        new_engine.write_bytes(engine)
        new_card.write_text(card.to_json(indent=2) + "\n", encoding="utf-8")
    return path
