"""Options that are declared once: a dataclass a group, from which flags, TOML keys and keyword arguments are made.

A field's help text, range and choices are declared with its default. A value is checked by the same code, and refused
in the same words, whether it comes from the command line, a file or Python.
"""

from dataclasses import MISSING

from lrp_edge.options.common import Common, DataOptions, PictureOptions
from lrp_edge.options.declare import (
    MOST_PIXELS,
    OptionGroup,
    accepted,
    check_name,
    frame_size,
    groups_of,
    like,
    make,
    option,
    options_of,
)
from lrp_edge.options.toml import read_toml
from lrp_edge.options.values import Option, Refused

__all__ = [
    "MISSING",
    "MOST_PIXELS",
    "Common",
    "DataOptions",
    "Option",
    "OptionGroup",
    "PictureOptions",
    "Refused",
    "accepted",
    "check_name",
    "frame_size",
    "groups_of",
    "like",
    "make",
    "option",
    "options_of",
    "read_toml",
]
