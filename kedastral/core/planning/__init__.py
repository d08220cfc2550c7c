# SPDX-License-Identifier: Apache-2.0
"""From a forecast to a plan and the `snapshot` that carries it.

Begin with `planner`, then read `service_level`, `uncertainty` and `stabilization`.
"""
