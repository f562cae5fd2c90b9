"""ONNX Runtime sessions: execution provider, model card, and whether a file fits the graph contract."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from lrp_edge.card import METADATA_KEY, ModelCard
from lrp_edge.errors import LrpEdgeError, needs_extra


class Provider(NamedTuple):
    """An execution provider of ONNX Runtime and the extra that installs it."""

    name: str
    extra: str


# From the best to the one that is always there.
PROVIDERS = {
    "cuda": Provider("CUDAExecutionProvider", "gpu"),
    "cpu": Provider("CPUExecutionProvider", "cpu"),
}
TYPES = {
    "scores": "tensor(float)",
    "label": "tensor(int32)",
    "mask": "tensor(uint8)",
    "relevance": "tensor(float)",
}
OUTPUTS = tuple(TYPES)
FATAL_ONLY = 4


def open_session(path: Path, provider: str | None, threads: int | None) -> tuple[Any, str]:
    """Load an ONNX file.

    Parameters
    ----------
    path : Path
        The file.
    provider : {"cpu", "cuda"} or None
        Where it is to run; None takes the best that is there.
    threads : int or None
        Threads of one operator; None leaves it to ONNX Runtime.

    Returns
    -------
    session : onnxruntime.InferenceSession
    provider : str
        The provider that ONNX Runtime took.

    Raises
    ------
    LrpEdgeError
        If the file is missing or no ONNX model, the provider is unknown or not there, or `threads` is below 1.
    """
    with needs_extra("cpu"):
        import onnxruntime
    if not path.is_file():
        raise LrpEdgeError(f"{path}: no such file; expected an ONNX file that lrp-edge export wrote")
    if threads is not None and threads < 1:
        raise LrpEdgeError(f"threads is {threads}; expected 1 or more")
    names = _choose(provider, onnxruntime.get_available_providers())
    options = onnxruntime.SessionOptions()
    # What goes wrong is raised; ONNX Runtime's own lines would break up the one-line error.
    options.log_severity_level = FATAL_ONLY
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=[PROVIDERS[name].name for name in names]
        )
    except Exception as error:  # ONNX Runtime's exceptions have no common base but this.
        raise LrpEdgeError(
            f"{path}: no model that ONNX Runtime loads ({first_line(error)}); expected an ONNX file that "
            f"lrp-edge export wrote"
        ) from error
    taken = next(name for name in PROVIDERS if PROVIDERS[name].name in session.get_providers())
    if provider is not None and taken != provider:
        raise LrpEdgeError(
            f"provider {provider} did not start on this machine and ONNX Runtime fell back to {taken}: check driver "
            f"and libraries, or ask for {taken}"
        )
    return session, taken


def _choose(provider: str | None, available: list[str]) -> list[str]:
    present = [name for name in PROVIDERS if PROVIDERS[name].name in available]
    if provider is None:
        return present
    if provider not in PROVIDERS:
        raise LrpEdgeError(f"provider is {provider!r}; expected one of {', '.join(sorted(PROVIDERS))}")
    if provider not in present:
        raise LrpEdgeError(
            f"provider {provider} is not in the installed ONNX Runtime, which has {', '.join(present)}: "
            f"pip install 'lrp-edge[{PROVIDERS[provider].extra}]' in a fresh environment"
        )
    return present[present.index(provider) :]


def read_card(session: Any, path: Path) -> ModelCard:
    """Read the model card inside an ONNX file.

    Raises
    ------
    LrpEdgeError
        If there is none, or it cannot be read.
    """
    text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if text is None:
        raise LrpEdgeError(
            f"{path}: no model card in the file's metadata; expected an ONNX file that lrp-edge export wrote"
        )
    return ModelCard.from_json(text, str(path))


def check_contract(session: Any, card: ModelCard, path: Path) -> tuple[int | None, int | None]:
    """Compare a file's tensors with the graph contract.

    Returns
    -------
    (height, width) : int or None
        Size of the frames in pixels; None where any is taken.

    Raises
    ------
    LrpEdgeError
        If a tensor is missing or has another type, rank, or number of channels or classes than the contract and
        the card say.
    """
    expected = {"image": ("tensor(uint8)", (None, None, None, card.input.channels))}
    expected |= {
        name: (kind, {"scores": (None, len(card.classes)), "label": (None,)}.get(name, (None,) * 3))
        for name, kind in TYPES.items()
    }
    inputs = {value.name: value for value in session.get_inputs()}
    found = inputs | {value.name: value for value in session.get_outputs()}
    if set(inputs) != {"image"}:
        raise LrpEdgeError(
            f"{path}: the inputs are {', '.join(inputs)}; expected one, image: export the model again"
        )
    for name, (kind, shape) in expected.items():
        if name not in found:
            raise LrpEdgeError(
                f"{path}: no tensor {name}; expected {', '.join(expected)}: export the model again"
            )
        value = found[name]
        if value.type != kind or not _fits(value.shape, shape):
            raise LrpEdgeError(
                f"{path}: {name} is {value.type} {_dims(value.shape)}; expected {kind} {_dims(shape)}: "
                f"export the model again"
            )
    height, width = inputs["image"].shape[1:3]
    return (height if isinstance(height, int) else None), (width if isinstance(width, int) else None)


def _fits(found: list[int | str | None], expected: tuple[int | None, ...]) -> bool:
    return len(found) == len(expected) and all(
        want is None or not isinstance(have, int) or have == want
        for have, want in zip(found, expected, strict=True)
    )


def _dims(shape: list[int | str | None] | tuple[int | None, ...]) -> str:
    return "[" + ", ".join("?" if size is None else str(size) for size in shape) + "]"


def first_line(error: BaseException) -> str:
    """Return an error's message as one line."""
    return " ".join(str(error).split())[:200]
