# SPDX-License-Identifier: Apache-2.0
"""Benchmarks: what a person may run to measure Kedastral; nothing here is asserted by a test."""

import os

from kedastral.cooperative import ONE_THREAD

for _name in ONE_THREAD:  # as in the program, before numpy is loaded
    os.environ.setdefault(_name, "1")
