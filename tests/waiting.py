# SPDX-License-Identifier: Apache-2.0
"""Polls until a deadline for what another process does: a fixed sleep is too short on a busy machine."""

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")
PATIENCE = 60.0
"""Seconds that anything may take on a busy machine before a test gives up."""


def wait_for(look: Callable[[], Found | None], what: str, within: float = PATIENCE, pause: float = 0.02) -> Found:
    """The first true value of ``look``, called every ``pause`` seconds; fails after ``within`` seconds."""
    deadline = time.monotonic() + within
    while not (found := look()):
        assert time.monotonic() < deadline, f"not within {within:g} s: {what}"
        time.sleep(pause)
    return found
