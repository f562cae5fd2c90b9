"""GStreamer and Aravis, as Python sees them: through PyGObject and descriptions (typelibs) that are system packages."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
from typing import Any

from lrp_edge.errors import LrpEdgeError, needs_extra

_PACKAGES = {
    "Gst": "gir1.2-gstreamer-1.0",
    "GstVideo": "gir1.2-gst-plugins-base-1.0",
    "Aravis": "gir1.2-aravis-0.8",
}


def load(name: str, version: str) -> Any:
    """Import a library that describes itself to GObject.

    Raises
    ------
    LrpEdgeError
        If PyGObject or the library is not there; names the Debian package to install.
    """
    with needs_extra("gobject"):
        try:
            import gi
        except ModuleNotFoundError:
            raise
        except ImportError as error:
            raise LrpEdgeError(f"PyGObject does not start ({error}); install PyGObject<3.51 on Debian 12") from error
    _keep_exceptions_whole()
    try:
        gi.require_version(name, version)
        return importlib.import_module(f"gi.repository.{name}")
    except (ValueError, ImportError) as error:
        package = _PACKAGES.get(name, name)
        raise LrpEdgeError(f"{name} {version} is not installed: apt install {package} ({error})") from error


def _keep_exceptions_whole() -> None:
    """Let C++ exceptions be raised and caught by one library.

    GStreamer brings libunwind, which has functions of the same names as the compiler's own library, and PyGObject
    shows them to all. An engine that was loaded before finds half of them in one library and half in the other, and its
    next exception ends the process. What is shown first is found first.
    """
    with contextlib.suppress(OSError):
        ctypes.CDLL("libgcc_s.so.1", mode=ctypes.RTLD_GLOBAL)
