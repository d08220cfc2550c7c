# SPDX-License-Identifier: Apache-2.0
"""From a forecast to a plan: `planner` first, then service level, uncertainty and stabilization."""
