"""The one reader of pictures: from files, data sets and cameras to the pixels of a frame, or to a mask.

What is in a picture is decided here and nowhere else, so that training, evaluation and a line see the same. What would
not be read as a person sees it (damage, pages, depths, transparency) is refused by name and never guessed.
"""

from lrp_edge.pictures.decode import Header, decode, read_bytes, read_header, read_picture
from lrp_edge.pictures.files import ENDINGS, FORMATS, count_pages
from lrp_edge.pictures.marks import read_marks

__all__ = [
    "ENDINGS",
    "FORMATS",
    "Header",
    "count_pages",
    "decode",
    "read_bytes",
    "read_header",
    "read_marks",
    "read_picture",
]
