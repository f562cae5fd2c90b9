"""Capture, engine and sinks, each at its own pace, and an account of every frame."""

from lrp_edge.runtime.config import PipelineOptions
from lrp_edge.runtime.pipeline.pipeline import Judgement, Pipeline, Segment

__all__ = ["Judgement", "Pipeline", "PipelineOptions", "Segment"]
