"""``python -m lrp_edge`` is ``lrp-edge``."""

from lrp_edge.cli import main

main()
