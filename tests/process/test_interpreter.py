# SPDX-License-Identifier: Apache-2.0
"""The interpreter of `kedastral run` is set up for an event loop beside computing threads."""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.process

ASK = """
import gc, json, sys
from kedastral.cooperative import prepare_interpreter
before = gc.get_threshold()
prepare_interpreter()
print(json.dumps([before, gc.get_threshold(), sys.getswitchinterval()]))
"""


def test_full_collections_are_a_hundred_times_rarer_than_by_default_and_threads_change_quickly() -> None:
    """A full collection of a thousand workloads stops all answers for 0.2 s: one a minute exceeds the budget of p99."""
    before, after, switch = json.loads(subprocess.check_output([sys.executable, "-c", ASK]))
    assert after[:2] == before[:2]
    assert after[2] >= 100 * before[2]
    assert switch == pytest.approx(0.0005)
