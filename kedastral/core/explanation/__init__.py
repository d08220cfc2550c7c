# SPDX-License-Identifier: Apache-2.0
"""Why KEDA is told a number, what it would be told otherwise, and how long an old plan lasts.

- `explain`: takes an answer apart, into the stages that `stages` defines
- `without_limits`: the answer without each of its limits
- `what_if`: the plan under other settings
- `outage`: why there is no new forecast, and what KEDA is told until there is one
"""
