"""Train from labels of whole images, or from clicks; and the U-Net that needs masks, to compare with."""

from lrp_edge.training.metrics import Figures, measure
from lrp_edge.training.options import Options
from lrp_edge.training.run import TrainingResult, train

__all__ = ["Figures", "Options", "TrainingResult", "measure", "train"]
