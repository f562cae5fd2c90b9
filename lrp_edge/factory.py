"""Models that a user names as ``module:factory``, and weights from a local file."""

from __future__ import annotations

import contextlib
import importlib
import pickle
import sys
import traceback
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from lrp_edge.errors import LrpEdgeError, check_arguments, first_line, needs_extra

with needs_extra("export"):
    import torch
    from torch import Tensor, nn

    from lrp_edge.relevance.plain import unwrapped

#: Where checkpoints of trainings keep a state dict, in the order in which they are looked for.
STATES = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "state_dict_ema", "model_ema", "ema")
#: Parts of names that wrappers of a model add.
WRAPPERS = ("module", "_orig_mod")
#: BatchNorm's count of batches, which some files do not have and nothing here reads.
COUNTER = "num_batches_tracked"
#: Most parts of a prefix.
DEEPEST = 3


def load_factory(name: str, **arguments: Any) -> nn.Module:
    """Call a factory that is importable from the working folder.

    Parameters
    ----------
    name : str
        ``"module:factory"``; a ``torch.nn.Module`` in place of the factory is returned unchanged.
    **arguments
        Arguments of the factory.

    Raises
    ------
    LrpEdgeError
        If there is no such factory, it does not take the arguments, fails while it is imported or called, or returns
        something else.
    """
    module_name, _, factory_name = name.partition(":")
    # A factory may import others from there when it is called.
    with _working_folder():
        factory = getattr(_imported(module_name, name), factory_name, None)
        if factory is None:
            raise LrpEdgeError(f"{module_name} has no {factory_name!r}; expected module:factory, a function of it")
        if isinstance(factory, nn.Module):
            return factory
        _check_call(name, factory, arguments)
        try:
            model = factory(**arguments)
        except Exception as error:
            raise LrpEdgeError(f"{name} fails when it is called: {_said(error)}; correct it") from error
    if not isinstance(model, nn.Module):
        raise LrpEdgeError(f"{name} returned {type(model).__name__}; expected a torch.nn.Module")
    return model


@contextlib.contextmanager
def _working_folder() -> Iterator[None]:
    """Import from the working folder before any other place."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(here)


def _imported(module: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        # Whether it is the module itself, or a package of it, that is not there, or one that it imports.
        if error.name is not None and f"{module}.".startswith(f"{error.name}."):
            raise LrpEdgeError(
                f"cannot find {name!r}: no module {error.name!r}; expected module:factory, importable from here"
            ) from error
        raise LrpEdgeError(f"{module} cannot be imported: {_said(error)}; install it") from error
    except Exception as error:
        raise LrpEdgeError(f"{module} cannot be imported: {_said(error)}; correct it") from error


def _said(error: BaseException) -> str:
    """Return an error with the innermost line of the user's own code, which is not that of an installed package."""
    said = f"{type(error).__name__}: {first_line(error)}" if str(error).strip() else type(error).__name__
    if isinstance(error, SyntaxError) and error.filename:
        return f"{said} ({Path(error.filename).name}, line {error.lineno})"
    lines = traceback.extract_tb(error.__traceback__)
    own = [line for line in lines if Path(line.filename).is_file() and not _is_installed(line.filename)]
    return f"{said} ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else said


def _is_installed(file: str) -> bool:
    ours, library = Path(__file__).parent, Path(importlib.__file__).parent.parent
    return any(Path(file).is_relative_to(folder) for folder in (ours, library)) or "site-packages" in Path(file).parts


def _check_call(name: str, factory: Any, arguments: Mapping[str, Any]) -> None:
    if not callable(factory):
        raise LrpEdgeError(f"{name} is {type(factory).__name__}; expected a function that returns a torch.nn.Module")
    # Some functions written in C do not tell their parameters.
    with contextlib.suppress(ValueError):
        try:
            check_arguments(name, factory, arguments)
        except LrpEdgeError as error:
            given = ", ".join(arguments) or "no argument"
            raise LrpEdgeError(f"{name} cannot be called with {given}: {error}") from error


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read a state dict from safetensors, or from what `torch.save` made of one; never a pickle of anything else.

    A training's checkpoint, as Lightning and others write it, holds the state dict among other things, under one of
    :data:`STATES`.

    Raises
    ------
    LrpEdgeError
        If the file is missing or holds no state dict.
    """
    path = Path(path)
    if not path.is_file():
        raise LrpEdgeError(f"no weights at {path}")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        if isinstance(error, pickle.UnpicklingError) and "Unsupported global" in str(error):
            raise LrpEdgeError(
                f"{path}: this file holds other objects than tensors, which could run code when they are read; save "
                "model.state_dict() alone"
            ) from error
        raise LrpEdgeError(
            f"{path}: these weights cannot be loaded ({first_line(error)}); expected a state dict"
        ) from error
    state = _state_in(stored)
    if state is None:
        found = f"a dict of {', '.join(map(str, stored))}" if isinstance(stored, dict) else type(stored).__name__
        raise LrpEdgeError(f"{path}: this is not a state dict but {found[:200]}; save model.state_dict()")
    return state


def _state_in(stored: Any) -> dict[str, Tensor] | None:
    if not isinstance(stored, dict):
        return None
    if stored and all(isinstance(name, str) and isinstance(value, Tensor) for name, value in stored.items()):
        return dict(stored)
    return next((state for name in STATES if (state := _state_in(stored.get(name))) is not None), None)


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Load weights that are those of a whole model, by name; prefixes of wrappers do not matter, see :func:`named_as`.

    Raises
    ------
    LrpEdgeError
        If they cannot be read, or some are missing, too many, or of another shape.
    """
    model = unwrapped(model)
    own = model.state_dict()
    given = named_as(own, read_weights(path))
    missing = [name for name in own if name not in given and not name.endswith(COUNTER)]
    unknown = [name for name in given if name not in own and not name.endswith(COUNTER)]
    misfits = [
        f"{name} is {list(given[name].shape)} and not {list(own[name].shape)}"
        for name in own
        if name in given and given[name].shape != own[name].shape
    ]
    wrong = [*misfits[:1], *_some("missing", missing), *_some("not expected", unknown)]
    if wrong:
        raise LrpEdgeError(
            f"{path}: these are not the weights of {type(model).__name__}: {'; '.join(wrong)}; expected its state dict"
        )
    model.load_state_dict(given, strict=False)


def _some(what: str, names: Sequence[str]) -> list[str]:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return [f"{what} {', '.join(names[:3])}{more}"] if names else []


def named_as(own: Collection[str], given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights under a model's own names, from under what a wrapper or a training put before them.

    That is ``module.`` of `DataParallel` and ``_orig_mod.`` of `torch.compile`, wherever they stand, and any one prefix
    of all the rest, such as ``model.`` of a Lightning module. What does not have that prefix, a loss's weights for
    instance, is left out. The names stay as they are where no such change makes more of them fit. A model with compiled
    parts has such names itself, and takes weights without them.
    """
    names_of = {**{_bare(name): name for name in own}, **{name: name for name in own}}
    best, most = dict(given), sum(name in names_of for name in given)
    for names in (dict(given), {_bare(name): value for name, value in given.items()}):
        for prefix in ("", *sorted({prefix for name in names for prefix in _prefixes(name)}, key=len)):
            renamed = {name[len(prefix) :]: value for name, value in names.items() if name.startswith(prefix)}
            fitting = sum(name in names_of for name in renamed)
            if fitting > most:
                best, most = renamed, fitting
    return {names_of.get(name, name): value for name, value in best.items()}


def _bare(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def _prefixes(name: str) -> list[str]:
    """Return the first parts of a name, ``"a."`` and ``"a.b."`` of ``"a.b.weight"``."""
    parts = name.split(".")[:-1]
    return [".".join(parts[: count + 1]) + "." for count in range(min(len(parts), DEEPEST))]


def fitting_weights(model: nn.Module, given: Mapping[str, Tensor], source: str) -> tuple[dict[str, Tensor], list[str]]:
    """Choose those of a like model's weights that fit by name and shape.

    Returns
    -------
    fitting : dict
        By name.
    missing : list of str
        Names of the model's weights that are not given in this shape, e.g. those of another head.

    Raises
    ------
    LrpEdgeError
        If nothing fits.
    """
    own = model.state_dict()
    given = named_as(own, given)
    fitting = {name: value for name, value in given.items() if name in own and own[name].shape == value.shape}
    if not fitting:
        raise LrpEdgeError(
            f"{source}: none of its {len(given)} weights fits {type(model).__name__} by name and shape, e.g. "
            f"{next(iter(given), 'none')!r}; expected names like {next(iter(own))!r}"
        )
    return fitting, [name for name in own if name not in fitting and not name.endswith(COUNTER)]
