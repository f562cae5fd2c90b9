"""Whether an image file is whole, by its first and last bytes.

OpenCV 4 decodes a file cut short to a picture that is part gray, with no more than a line on stderr.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

_JPEG_END = b"\xff\xd9"
_JPEG_SCAN = 0xDA
_PNG_END = b"IEND\xaeB`\x82"


def fault_of(path: Path) -> str:
    """Say what is wrong with an image file, or return an empty text.

    Parameters
    ----------
    path : Path
        The file; nothing is decoded.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if not data:
        return "empty file"
    whole = _format(data)
    if whole is None:
        return "no image"
    return "" if whole(data) else "image cut short"


def is_image(path: Path) -> bool:
    """Say whether a file begins as an image does."""
    with path.open("rb") as file:
        return _format(file.read(16)) is not None


def _format(data: bytes) -> Callable[[bytes], bool] | None:
    if data[:4] == b"RIFF":
        return _webp if data[8:12] == b"WEBP" else None
    return next((whole for magic, whole in _FORMATS.items() if data.startswith(magic)), None)


def _jpeg(data: bytes) -> bool:
    """Look for the end marker after the first scan begins; a thumbnail before it has an end marker of its own."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        if data[at + 1] == _JPEG_SCAN:
            return _JPEG_END in data[at + 2 :]
        at += 1 if data[at + 1] == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return False


def _png(data: bytes) -> bool:
    return _PNG_END in data


def _bmp(data: bytes) -> bool:
    return len(data) >= int.from_bytes(data[2:6], "little")


def _webp(data: bytes) -> bool:
    return len(data) >= 8 + int.from_bytes(data[4:8], "little")


def _left_to_the_decoder(data: bytes) -> bool:
    return True


_FORMATS: dict[bytes, Callable[[bytes], bool]] = {
    b"\xff\xd8\xff": _jpeg,
    b"\x89PNG\r\n\x1a\n": _png,
    b"BM": _bmp,
    b"II*\0": _left_to_the_decoder,
    b"MM\0*": _left_to_the_decoder,
    b"P5": _left_to_the_decoder,
    b"P6": _left_to_the_decoder,
}
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".pgm", ".ppm"})
