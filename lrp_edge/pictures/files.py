"""Opening a picture: which formats there are, how large it may be, how many pages it has, and its checksums."""

from __future__ import annotations

import io
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from lrp_edge.errors import LrpEdgeError, first_line, needs_extra

with needs_extra("cpu"):
    from PIL import Image

#: What is read, by the name that Pillow has for it, and how names of such files end.
FORMATS = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp", ".dib"),
    "WEBP": (".webp",),
    "PPM": (".pgm", ".ppm", ".pbm", ".pnm"),
    "JPEG2000": (".jp2", ".j2k"),
    "GIF": (".gif",),
}
#: How names of pictures end, in lower case.
ENDINGS = frozenset(ending for endings in FORMATS.values() for ending in endings)
_PAGED = frozenset({".tif", ".tiff", ".gif", ".webp", ".png"})
#: Tags of a TIFF, and bits of its page's kind: a smaller copy, or a mask, of another page.
_KIND, _COMPRESSION, _STRIPS, _TILES = 254, 259, (273, 279), (324, 325)
_SMALLER, _MASK = 1, 4
_DEFLATE = (8, 32946)
_JPEG_SCAN, _JPEG_END = 0xDA, b"\xff\xd9"


@contextmanager
def refusing(name: str) -> Iterator[None]:
    """Say in one line what a decoder raises: each raises whatever its parser meets in a damaged file.

    Raises
    ------
    LrpEdgeError
        In place of any other exception.
    """
    try:
        yield
    except LrpEdgeError:
        raise
    except Exception as error:
        raise LrpEdgeError(f"{name} is damaged or cut short ({first_line(error)})") from error


def opened(source: bytes | IO[bytes], name: str, max_megapixels: float = math.inf) -> Any:
    """Read the header of a picture.

    Parameters
    ----------
    source : bytes or file
        All of it.
    name : str
        What errors call it.
    max_megapixels : float
        Largest picture that is taken, in millions of pixels.

    Returns
    -------
    PIL.Image.Image
        Not decoded yet.

    Raises
    ------
    LrpEdgeError
        If it is in none of the formats, or too large.
    """
    # Image.open has a limit of pixels too, but one for the whole process, and only warns up to twice that.
    Image.init()
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    start = file.read(16)
    for kind in FORMATS:
        factory, accept = Image.OPEN[kind]
        if accept is None or accept(start) is not True:
            continue
        file.seek(0)
        image = factory(file, "")
        pixels = image.width * image.height / 1e6
        if pixels > max_megapixels:
            raise LrpEdgeError(
                f"{name} is {image.height}x{image.width}, {pixels:.0f} million pixels, of which at most "
                f"{max_megapixels:g} are decoded; cut it, or allow more with --max-megapixels"
            )
        return image
    raise LrpEdgeError(f"{name} is not a picture in a format that is read ({', '.join(FORMATS)})")


def pages_of(image: Any) -> list[int]:
    """Return the numbers of the pages that are pictures of their own; the first page is open afterwards."""
    # The others of a camera's MPO are previews of the first.
    count = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    if image.format != "TIFF" or count == 1:
        return list(range(count))
    found = [number for number in range(count) if _is_own(image, number)]
    image.seek(0)
    return found or [0]


def _is_own(image: Any, number: int) -> bool:
    image.seek(number)
    return not int(image.tag_v2.get(_KIND, 0)) & (_SMALLER | _MASK)


def count_pages(path: Path) -> int:
    """Return the number of pictures in a file; 1 where that cannot be told, which shows when it is read."""
    if path.suffix.lower() not in _PAGED:
        return 1
    try:
        with path.open("rb") as file, refusing(str(path)):
            return len(pages_of(opened(file, str(path))))
    except (OSError, ValueError, LrpEdgeError):
        return 1


def check_data(image: Any, data: bytes) -> None:
    """Look at what decoders read past: a JPEG's end, the checksums of a PNG's chunks and of a TIFF's deflated strips.

    Raises
    ------
    ValueError, SyntaxError or zlib.error
        If one is missing or wrong.
    """
    if image.format in ("JPEG", "MPO") and not _has_jpeg_end(data):
        raise ValueError("its end is missing")
    if image.format == "PNG":
        # What was verified cannot be decoded any more.
        type(image)(io.BytesIO(data)).verify()
    if image.format == "TIFF" and image.tag_v2.get(_COMPRESSION) in _DEFLATE:
        offsets, counts = _STRIPS if _STRIPS[0] in image.tag_v2 else _TILES
        for start, count in zip(image.tag_v2[offsets], image.tag_v2[counts], strict=True):
            strip = zlib.decompressobj()
            strip.decompress(data[start : start + count], 16 * image.width * image.height)
            if not strip.eof:
                raise ValueError("a strip ends before its checksum")


def _has_jpeg_end(data: bytes) -> bool:
    """Search after the start of the first scan: a thumbnail before it has its own end marker."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        if data[at + 1] == _JPEG_SCAN:
            return _JPEG_END in data[at:]
        at += 1 if data[at + 1] == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return False
