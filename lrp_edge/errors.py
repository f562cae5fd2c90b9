"""What goes wrong for a user, and how it is said: what was found, what was expected, what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class LrpEdgeError(Exception):
    """Base of all errors that a user can fix; the message is one line."""


@contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """Turn a failed import inside the block into an error that names the extra to install.

    Parameters
    ----------
    extra : str
        Name of the optional dependency group, e.g. ``"export"``.

    Raises
    ------
    LrpEdgeError
        If a third-party module that the block imports is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing == "lrp_edge":
            raise
        raise LrpEdgeError(f"this needs {missing}, which is not installed: pip install 'lrp-edge[{extra}]'") from error
