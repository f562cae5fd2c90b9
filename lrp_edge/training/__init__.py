"""Training from image-level labels or clicks, and of the U-Net baseline, which needs masks."""

from lrp_edge.training.metrics import Figures, measure
from lrp_edge.training.options import Options
from lrp_edge.training.run import TrainingResult, train

__all__ = ["Figures", "Options", "TrainingResult", "measure", "train"]
