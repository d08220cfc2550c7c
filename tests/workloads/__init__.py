# SPDX-License-Identifier: Apache-2.0
"""Tests of the workloads: runners, the fleet, the resolver, reloads."""
