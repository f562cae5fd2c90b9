"""Operations in the words of others, so that a spelling never decides: one function each; importing this registers all.

It writes what a node computes in other operations, and returns the node or nodes of the results; None where it leaves
the node as it is.
"""

from lrp_edge.relevance.spellings import layers, parts
from lrp_edge.relevance.spellings.base import SPELLINGS

__all__ = ["SPELLINGS", "layers", "parts"]
