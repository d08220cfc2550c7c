# SPDX-License-Identifier: Apache-2.0
"""How hypothesis works here: the same examples at every run, so that a green commit stays green on any machine.

``HYPOTHESIS_PROFILE=explore`` looks for new ones. No deadline in either: the first example of a test may import much.
Linear algebra runs in one thread, as it does in the product: several fight for the cores with everything else there.
"""

import os

from kedastral.cooperative import ONE_THREAD

for name in ONE_THREAD:
    os.environ.setdefault(name, "1")

from hypothesis import settings  # noqa: E402 - numpy reads the variables above when it is imported

settings.register_profile("same", deadline=None, derandomize=True, database=None)
settings.register_profile("explore", deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))
