"""The programs of docs/embed.md, taken out of the page, run against the installed package and answer as Python does."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest

from lrp_edge.runtime import Segmenter
from lrp_edge.runtime.regions import find_regions
from tests.support import cpp_build

PAGE = (cpp_build.ROOT / "docs/embed.md").read_text()


def block(language: str) -> str:
    """Return the page's one block of code in a language."""
    (code,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return str(code)


@pytest.fixture(scope="module")
def libraries(prefix: Path) -> Path:
    """The folder of its library."""
    (library,) = prefix.rglob("liblrp_edge.so")
    return library.parent


@pytest.fixture(scope="module")
def models(model: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Models that call the page's frame stained, with one region, and OK, without any."""
    graph = onnx.load(model)
    others = {"limit": np.array(250, np.float32), "bias": np.array([(15, -15)], np.float32)}
    for constant in graph.graph.initializer:
        if constant.name in others:
            constant.CopyFrom(onnx.numpy_helper.from_array(others.pop(constant.name), constant.name))
    assert not others
    milder = tmp_path_factory.mktemp("milder") / "model.onnx"
    onnx.save(graph, milder)
    return [model, milder]


def run(words: list[object], libraries: Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "LD_LIBRARY_PATH": str(libraries)}
    return subprocess.run(list(map(str, words)), capture_output=True, text=True, env=env, timeout=300)


def assert_answers(words: list[object], models: list[Path], libraries: Path) -> None:
    """Compare what a program says of its frame with Python, with regions and without; a missing file is an error."""
    for model, name, count in zip(models, ("stain", "ok"), (1, 0), strict=True):
        done = run([*words, model], libraries)
        assert done.returncode == 0, done.stderr
        with Segmenter(model, provider="cpu") as segmenter:
            expected = segmenter(np.full((480, 640, 3), 200, np.uint8))
        areas = [region.area for region in find_regions(expected.mask)]
        assert (expected.name, len(areas)) == (name, count)
        found = re.fullmatch(r"(\w+): ([\d.]+), (\d+) regions(?:, (\d+) px)?\n", done.stdout)
        assert found, done.stdout
        assert found[1] == name
        assert float(found[2]) == pytest.approx(float(expected.scores[expected.label]), rel=1e-5)
        assert (int(found[3]), found[4]) == (count, str(areas[0]) if areas else None)
    done = run([*words, "none.onnx"], libraries)
    assert (done.stderr, done.returncode) == ("no model at none.onnx\n", 1)


def pkg_config(libraries: Path) -> list[str]:
    cpp_build.require("pkg-config")
    env = {**os.environ, "PKG_CONFIG_PATH": str(libraries / "pkgconfig")}
    return cpp_build.command("pkg-config", "--cflags", "--libs", "lrp_edge", env=env).split()


def test_cpp_with_cmake(prefix: Path, libraries: Path, models: list[Path], tmp_path: Path) -> None:
    (tmp_path / "CMakeLists.txt").write_text(block("cmake"))
    (tmp_path / "inspection.cpp").write_text(block("cpp"))
    settings = [f"-DCMAKE_PREFIX_PATH={prefix}", f"-DCMAKE_CXX_FLAGS={' '.join(cpp_build.WARNINGS)}"]
    cpp_build.command("cmake", "-S", tmp_path, "-B", tmp_path / "build", "-G", "Ninja", *settings)
    cpp_build.command("cmake", "--build", tmp_path / "build")
    assert_answers([tmp_path / "build/inspection"], models, libraries)


def compiled(language: str, libraries: Path, folder: Path) -> Path:
    """Compile the page's program with what pkg-config says, C++ with the page's own command."""
    cpp_build.require("cc")
    source, program = folder / f"inspection.{language}", folder / "inspection"
    source.write_text(block(language))
    words = ["cc", "-std=c99", *cpp_build.WARNINGS]
    if language == "cpp":
        (command,) = re.findall(r"`(c\+\+ .*?) inspection\.cpp \$\(pkg-config --cflags --libs lrp_edge\)`", PAGE)
        words = command.split()
    cpp_build.command(*words, source, "-o", program, *pkg_config(libraries))
    return program


@pytest.mark.parametrize("language", ["cpp", "c"])
def test_with_pkg_config(libraries: Path, models: list[Path], tmp_path: Path, language: str) -> None:
    assert_answers([compiled(language, libraries, tmp_path)], models, libraries)


def test_csharp(libraries: Path, models: list[Path], tmp_path: Path) -> None:
    cpp_build.require("mcs", "mono")
    source, program = tmp_path / "inspection.cs", tmp_path / "inspection.exe"
    source.write_text(block("csharp"))
    cpp_build.command("mcs", "-warnaserror", f"-out:{program}", source)
    assert_answers(["mono", program], models, libraries)


# How a type of the header is written in C#; pointers are IntPtr.
CSHARP = {"size_t": "UIntPtr", "ptrdiff_t": "IntPtr", "int32_t": "int", "int64_t": "long", "double": "double"}


def header_fields(header: str, name: str) -> list[tuple[str, str]]:
    """Return C#'s type, and the name, of each field of a structure of the header."""
    (body,) = re.findall(rf"typedef struct {name} \{{(.*?)\}} {name};", header, re.DOTALL)
    fields = re.findall(r"^\s*(?:const )?(\w+)(\*?) (\w+);", body, re.MULTILINE)
    return [("IntPtr" if pointer else CSHARP[kind], field.replace("_", "")) for kind, pointer, field in fields]


def csharp_fields(name: str) -> list[tuple[str, str]]:
    (body,) = re.findall(rf"public struct {name}\s*\{{(.*?)\}}", block("csharp"), re.DOTALL)
    groups = re.findall(r"public (\w+) ([\w, ]+);", body)
    return [(kind, field.strip().lower()) for kind, names in groups for field in names.split(",")]


@pytest.mark.parametrize("name", ["Options", "Info", "Frame", "Region", "Result"])
def test_csharp_structures_are_those_of_the_header(name: str) -> None:
    header = (cpp_build.SOURCE / "include/lrp_edge.h").read_text()
    fields = header_fields(header, f"lrp_edge_{name.lower()}")
    assert len(fields) >= 5
    assert csharp_fields(name) == fields


def test_csharp_signatures_are_those_of_the_header() -> None:
    header = (cpp_build.SOURCE / "include/lrp_edge.h").read_text()
    found = re.findall(r"extern (\w+) (lrp_edge_\w+)\((.*?)\);", block("csharp"), re.DOTALL)
    assert len(found) == 7
    for returned, name, parameters in found:
        ((kind, expected),) = re.findall(rf"LRP_EDGE_C_API ([\w *]+?) ?{name}\((.*?)\)", header, re.DOTALL)
        assert re.sub(r"\[.*?\] ", "", parameters).count(",") == expected.count(",")
        assert returned == {"lrp_edge_status": "int", "void": "void", "const char*": "IntPtr"}[kind]
