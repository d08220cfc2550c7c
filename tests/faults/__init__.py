# SPDX-License-Identifier: Apache-2.0
"""Faults and attacks on whole processes: slow, so `make faults` runs them and `make test` does not."""
