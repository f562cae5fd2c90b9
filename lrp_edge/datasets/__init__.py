"""Labelled images on disk: how they are found, split, clicked and checked."""

from lrp_edge.datasets.clicks import Clicks, read_clicks, simulate_clicks, write_clicks
from lrp_edge.datasets.layouts import open_dataset
from lrp_edge.datasets.samples import Dataset, Sample, read_image, read_mask
from lrp_edge.datasets.splits import Split, folds, read_split, split, write_split

__all__ = [
    "Clicks",
    "Dataset",
    "Sample",
    "Split",
    "folds",
    "open_dataset",
    "read_clicks",
    "read_image",
    "read_mask",
    "read_split",
    "simulate_clicks",
    "split",
    "write_clicks",
    "write_split",
]
