"""Models that a user names as ``module:factory``, and weights from a local file."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lrp_edge.errors import LrpEdgeError, check_arguments, first_line, needs_extra

with needs_extra("export"):
    import torch
    from torch import Tensor, nn


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
        If there is no such factory, it does not take the arguments, or returns something else.
    """
    module_name, _, factory_name = name.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        factory = getattr(importlib.import_module(module_name), factory_name)
    except (ImportError, AttributeError) as error:
        raise LrpEdgeError(f"cannot find {name!r} ({error}); expected module:factory, importable from here") from error
    finally:
        sys.path.pop(0)
    if isinstance(factory, nn.Module):
        return factory
    _check_call(name, factory, arguments)
    try:
        model = factory(**arguments)
    except TypeError as error:
        raise LrpEdgeError(f"{name} fails when it is called ({first_line(error)}); correct it") from error
    if not isinstance(model, nn.Module):
        raise LrpEdgeError(f"{name} returned {type(model).__name__}; expected a torch.nn.Module")
    return model


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
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise LrpEdgeError(
            f"{path}: these weights cannot be loaded ({first_line(error)}); expected a state dict"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise LrpEdgeError(f"{path}: this is not a state dict; save model.state_dict()")
    return state


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Load weights that are those of a whole model.

    Raises
    ------
    LrpEdgeError
        If they cannot be read or do not fit.
    """
    try:
        model.load_state_dict(read_weights(path))
    except RuntimeError as error:
        raise LrpEdgeError(
            f"{path}: these weights cannot be loaded ({first_line(error)}); expected a state dict of "
            f"{type(model).__name__}"
        ) from error


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
    fitting = {name: value for name, value in given.items() if name in own and own[name].shape == value.shape}
    if not fitting:
        raise LrpEdgeError(
            f"{source}: none of its {len(given)} weights fits {type(model).__name__} by name and shape, e.g. "
            f"{next(iter(given), 'none')!r}; expected names like {next(iter(own))!r}"
        )
    return fitting, [name for name in own if name not in fitting and not name.endswith("num_batches_tracked")]
