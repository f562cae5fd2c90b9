"""Make a folder with the headers and the library of ONNX Runtime, for ``-DONNXRUNTIME_ROOT=``.

Debian 12 has no package of ONNX Runtime. The headers of Debian 13's ``libonnxruntime-dev`` go with the library out of a
newer ``onnxruntime`` wheel, since its C API is versioned and backward compatible.

Run it with the Python that has onnxruntime installed, or give a wheel, which may be of another architecture::

    python onnxruntime_from_debian.py build/onnxruntime [onnxruntime-1.32.0-….whl]
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from zipfile import ZipFile

PACKAGE, VERSION, SUITE = "libonnxruntime-dev", "1.21.0+dfsg-1", "trixie"
SHA256 = "14f7d959d5deacbcf1504830d4189f91fc67382b399ed9ae9d3aa9c4050ced08"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


def main() -> None:
    """Make the folder, unless it is there already and of the same library."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("wheel", type=Path, nargs="?", help="by default the installed onnxruntime")
    arguments = parser.parse_args()
    headers, library = arguments.folder / "include", arguments.folder / "lib"
    if not (headers / "onnxruntime_cxx_api.h").is_file():
        write_headers(headers)
    write_library(library, arguments.wheel)


def write_headers(folder: Path) -> None:
    """Download the package through apt, which checks its signature, and unpack its headers."""
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        package = download(work)
        found = hashlib.sha256(package.read_bytes()).hexdigest()
        if found != SHA256:
            sys.exit(f"{package.name} has SHA-256 {found}; expected {SHA256}")
        subprocess.run(["dpkg-deb", "--extract", package, work / "files"], check=True)
        shutil.copytree(work / "files/usr/include/onnxruntime", folder, dirs_exist_ok=True)


def download(work: Path) -> Path:
    """Let apt download the package from where this system has its own ones, with lists in a folder of their own."""
    sources, lists, cache = work / "sources.list", work / "lists", work / "cache"
    address = debian_address(Path("/etc/apt"))
    sources.write_text(f"deb [signed-by={KEYRING} arch=amd64] {address} {SUITE} main\n")
    for folder in (lists / "partial", cache / "archives/partial"):
        folder.mkdir(parents=True)
    options = {"Dir::Etc::SourceList": sources, "Dir::Etc::SourceParts": "-", "Dir::State::Lists": lists}
    options |= {"Dir::Cache": cache, "APT::Architecture": "amd64", "APT::Architectures": "amd64"}
    options |= {"APT::Sandbox::User": "root"}  # its own user has no access to this folder
    apt = ["apt-get", "--quiet=2", *(f"--option={key}={value}" for key, value in options.items())]
    for command in (["update"], ["download", f"{PACKAGE}={VERSION}"]):
        subprocess.run([*apt, *command], check=True, cwd=work)
    return next(work.glob("*.deb"))


def debian_address(folder: Path) -> str:
    """Return where the system's own configuration gets Debian from."""
    files = [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*"))]
    for address in addresses(path.read_text() for path in files if path.is_file()):
        if address.rstrip("/").endswith("/debian"):
            return address
    sys.exit(f"{folder} names no mirror of Debian; give the headers' folder with -DONNXRUNTIME_ROOT=")


def addresses(texts: Iterable[str]) -> Iterable[str]:
    """Yield the addresses of package sources, of both of apt's formats."""
    for line in (line.strip() for text in texts for line in text.splitlines()):
        if line.startswith("URIs:"):
            yield from line.split()[1:]
        elif line.startswith("deb "):
            yield from (word for word in line.split() if "://" in word)


def write_library(folder: Path, wheel: Path | None) -> None:
    """Copy the shared libraries out of a wheel, or out of the installed package."""
    wanted = libraries(wheel)
    if all((folder / name).is_file() and (folder / name).read_bytes() == data for name, data in wanted.items()):
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, data in wanted.items():
        (folder / name).write_bytes(data)
        if name.startswith("libonnxruntime.so"):
            for link in ("libonnxruntime.so", "libonnxruntime.so.1"):
                (folder / link).symlink_to(name)


def libraries(wheel: Path | None) -> dict[str, bytes]:
    """Return names and bytes of the shared libraries that are not Python's."""
    if wheel is not None:
        with ZipFile(wheel) as archive:
            return {Path(name).name: archive.read(name) for name in archive.namelist() if is_library(Path(name))}
    spec = find_spec("onnxruntime")
    if spec is None or spec.origin is None:
        sys.exit("onnxruntime is not installed for this Python; install it, or give a wheel")
    folder = Path(spec.origin).parent / "capi"
    return {path.name: path.read_bytes() for path in folder.iterdir() if is_library(path)}


def is_library(path: Path) -> bool:
    """Say whether a file is ONNX Runtime's library, or one that it loads."""
    return path.parent.name == "capi" and path.name.startswith("libonnxruntime")


if __name__ == "__main__":
    main()
