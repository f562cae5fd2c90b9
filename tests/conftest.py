"""Settings for all tests."""

import os

from hypothesis import settings

# A shared machine may pause for longer than any deadline; in CI the same examples are drawn each time.
settings.register_profile("lrp-edge", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("lrp-edge")
