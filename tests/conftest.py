# SPDX-License-Identifier: Apache-2.0
"""Configures hypothesis: the same examples in every run, so that a green commit stays green on any machine.

``HYPOTHESIS_PROFILE=explore`` tries new examples, five times as many; a nightly workflow does so. Neither has a
deadline: the first example of a test may import a lot.
Linear algebra runs in one thread, as in the product: several would compete for the cores with everything else.
"""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

from kedastral.cooperative import ONE_THREAD

for name in ONE_THREAD:
    os.environ.setdefault(name, "1")

import pytest  # noqa: E402 - numpy reads the variables above when it is imported
from hypothesis import settings  # noqa: E402

settings.register_profile("same", deadline=None, derandomize=True, database=None)
settings.register_profile("explore", deadline=None, print_blob=True, max_examples=500)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

TESTS = Path(__file__).parent
UNMEASURED = {
    "backtest", "benchmarks", "cli", "demo", "docs", "doctor", "e2e", "faults", "integration", "loop", "page",
    "process", "settings", "simulation", "workloads",
}  # fmt: skip
"""The folders whose tests run without coverage: code with a coverage threshold has other tests, and tracing is slow."""


@pytest.fixture
def restore_logging() -> Iterator[None]:
    """Leave the root logger as it was found."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    quiet = {name: logging.getLogger(name).level for name in ("httpx", "httpcore", "hpack", "hypercorn")}
    yield
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in quiet.items():
        logging.getLogger(name).setLevel(before)


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what `make measure` runs: the quick tests outside of `UNMEASURED`."""
    others = {"slow", "e2e", "faults"}
    for item in items:
        folder = item.path.relative_to(TESTS).parts[0]
        if folder not in UNMEASURED and not any(item.get_closest_marker(name) for name in others):
            item.add_marker("measured")
