# SPDX-License-Identifier: Apache-2.0
"""The command line: the only place that prints or sets an exit code."""

from kedastral.cli.main import main

__all__ = ["main"]
