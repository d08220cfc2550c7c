# SPDX-License-Identifier: Apache-2.0
"""The tick, its schedule, and the fleet of workloads."""
