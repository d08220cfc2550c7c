# SPDX-License-Identifier: Apache-2.0
"""Faults around Kedastral and in it, on virtual time, and attacks on whole processes, which are slow."""
