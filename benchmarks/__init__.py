# SPDX-License-Identifier: Apache-2.0
"""Benchmarks: scripts to measure Kedastral by hand; no test asserts their results."""

import os

from kedastral.cooperative import ONE_THREAD

for _name in ONE_THREAD:  # as in the program, before numpy is loaded
    os.environ.setdefault(_name, "1")
