"""The model card: everything about a model that is not weights.

The card is plain JSON. It travels inside an ONNX file (``metadata_props``, key ``lrp_edge``), in the header of
a safetensors checkpoint (same key), and next to formats that can carry neither, as ``<name>.json``.
"""

from __future__ import annotations

from lrp_edge.card.model import (
    CHANNEL_ORDERS,
    COMPOSITES,
    EXPLAINED,
    MASK_HEADS,
    METADATA_KEY,
    PRECISIONS,
    SCHEMA,
    SMOOTHINGS,
    THRESHOLD,
    DecisionSpec,
    InputSpec,
    MaskSpec,
    ModelCard,
)
from lrp_edge.card.names import OK_NAMES, defect_names

__all__ = [
    "CHANNEL_ORDERS",
    "COMPOSITES",
    "EXPLAINED",
    "MASK_HEADS",
    "METADATA_KEY",
    "OK_NAMES",
    "PRECISIONS",
    "SCHEMA",
    "SMOOTHINGS",
    "THRESHOLD",
    "DecisionSpec",
    "InputSpec",
    "MaskSpec",
    "ModelCard",
    "defect_names",
]
