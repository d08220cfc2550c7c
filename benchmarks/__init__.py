# SPDX-License-Identifier: Apache-2.0
"""Benchmarks: what a person may run to measure Kedastral; nothing here is asserted by a test."""
