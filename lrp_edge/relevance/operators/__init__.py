"""What each ATen operator is to the rules, by what it does; importing this registers them all."""

from lrp_edge.relevance.layers import OPERATORS
from lrp_edge.relevance.operators import elementwise, maxima, moves, products, sums, weights

__all__ = ["OPERATORS", "elementwise", "maxima", "moves", "products", "sums", "weights"]
