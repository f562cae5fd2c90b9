"""Labels and outlines that labelling tools export: COCO, LabelMe, Label Studio, CVAT.

Each tool's file is read here in a few lines: the libraries that read several (datumaro, supervision) bring dozens of
packages or know no labels of whole images, and none reads Label Studio's own. Run lengths and polygons become pixels by
pycocotools, so that they mark the same pixels as in COCO's own evaluation.
"""

from lrp_edge.datasets.annotations.find import find_annotations, read_annotations
from lrp_edge.datasets.annotations.labelme import outlines_beside

__all__ = ["find_annotations", "outlines_beside", "read_annotations"]
