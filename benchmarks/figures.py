# SPDX-License-Identifier: Apache-2.0
"""`Figure`: the latencies of one measured operation, their percentiles, and their budget."""

import math
import os
import platform
from collections.abc import Sequence
from typing import Any

import attrs


def percentile(sorted_values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile: the least value that at least ``share`` (0..1) of the values do not exceed."""
    return sorted_values[max(0, math.ceil(share * len(sorted_values)) - 1)]


@attrs.frozen
class Figure:
    """``seconds`` of every call; ``budget_ms`` limits their p95, None without a budget; ``elapsed`` is the total."""

    name: str
    seconds: Sequence[float]
    budget_ms: float | None
    elapsed: float | None = None

    def document(self) -> dict[str, Any]:
        """The figure as JSON shows it, in milliseconds."""
        ordered = sorted(self.seconds)
        shares = {"p50_ms": 0.50, "p95_ms": 0.95, "p99_ms": 0.99}
        measured = {name: round(percentile(ordered, share) * 1000, 3) for name, share in shares.items()}
        met = None if self.budget_ms is None else measured["p95_ms"] < self.budget_ms
        rate = {} if self.elapsed is None else {"calls_per_second": round(len(ordered) / self.elapsed)}
        return {
            "name": self.name,
            "samples": len(ordered),
            **measured,
            "budget_p95_ms": self.budget_ms,
            "met": met,
            **rate,
        }


def describe_machine(prometheus: str) -> dict[str, Any]:
    """What the figures depend on; the load average shows how busy the cores were before the first one."""
    return {
        "cores": os.cpu_count(),
        "load_average_1m": round(os.getloadavg()[0], 1),
        "architecture": platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
        "prometheus": prometheus,
    }
