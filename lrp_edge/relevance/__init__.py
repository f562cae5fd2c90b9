"""Layer-wise Relevance Propagation as ordinary forward operations."""

from lrp_edge.errors import needs_extra

with needs_extra("export"):
    from lrp_edge.relevance.composites import COMPOSITES, Assignment, Composite, composite_from, rule_from
    from lrp_edge.relevance.unroll import Unrolled, unroll

__all__ = ["COMPOSITES", "Assignment", "Composite", "Unrolled", "composite_from", "rule_from", "unroll"]
