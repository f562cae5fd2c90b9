"""Heads and single layers, each between a stem and a linear layer: what custom classifiers are made of."""

from tools.families.heads import arithmetic, attention, outputs, pointwise, pooling, spatial
from tools.families.heads.parts import Head

HEADS: dict[str, Head] = {
    **outputs.HEADS,
    **pooling.HEADS,
    **attention.HEADS,
    **pointwise.HEADS,
    **spatial.HEADS,
    **arithmetic.HEADS,
}
