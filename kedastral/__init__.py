# SPDX-License-Identifier: Apache-2.0
"""Kedastral."""

__version__ = "0.1.0"
