"""The shared library exports what its headers declare, and nothing else."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from tests.support import cpp_build

INCLUDE = cpp_build.SOURCE / "include"


def code(header: Path) -> str:
    """Return a header's text without comments and preprocessor lines."""
    return re.sub(r"/\*.*?\*/|//[^\n]*|^#[^\n]*", "", header.read_text(), flags=re.DOTALL | re.MULTILINE)


def declared_in_c() -> Counter[str]:
    return Counter(re.findall(r"LRP_EDGE_C_API [\w *]*?(\w+)\(", code(INCLUDE / "lrp_edge.h")))


def declared_in_cpp() -> Counter[str]:
    """Return how often each function is declared as exported, by itself or with its class."""
    found: Counter[str] = Counter()
    for header in sorted(INCLUDE.glob("lrp_edge/*.hpp")):
        classes = re.findall(r"^(?:class|struct) (.*?)\{(.*?)^\};", code(header), re.DOTALL | re.MULTILINE)
        for head, body in classes:
            owner = head.removeprefix("LRP_EDGE_API ").split()[0]
            for statement in body.split(";"):
                exported = "LRP_EDGE_API" in head + statement and not re.search(r"= (default|delete)$", statement)
                name = re.search(r"(~?\w+|operator\W+?)\(", statement)
                if exported and name:
                    found[f"lrp_edge::{owner}::{name[1]}"] += 1
    return found


def exported(library: Path) -> Counter[str]:
    """Return how many functions of each name there are, and what else has a symbol."""
    symbols = cpp_build.command("nm", "-DC", "--defined-only", "--extern-only", library).splitlines()
    places = [line.split(maxsplit=2)[1:] for line in symbols]
    # The map's version is a symbol too. Constructors and destructors have several symbols of one name.
    names = {name.partition("@")[0].replace("[abi:cxx11]", "") for kind, name in places if kind != "A"}
    return Counter(name.partition("(")[0] for name in names)


def test_exported_is_what_the_headers_declare(release: Path) -> None:
    cpp_build.require("nm")
    in_c, in_cpp = declared_in_c(), declared_in_cpp()
    assert in_c["lrp_edge_run_batch"] == 1
    assert in_cpp["lrp_edge::Segmenter::run"] == in_cpp["lrp_edge::Segmenter::Segmenter"] == 2
    # By these, an error is caught outside of the library.
    kinds = Counter(f"{kind} for lrp_edge::Error" for kind in ("typeinfo", "typeinfo name", "vtable"))
    assert exported(release / "liblrp_edge.so") == in_c + in_cpp + kinds


def test_soname_changes_with_what_may_break_a_program(release: Path) -> None:
    """That is the minor version, as long as the major one is 0."""
    cpp_build.require("readelf")
    said = cpp_build.command("readelf", "-d", release / "liblrp_edge.so")
    assert "soname: [liblrp_edge.so.0.1]" in said
    assert (release / "liblrp_edge.so").resolve().name == "liblrp_edge.so.0.1.0"
