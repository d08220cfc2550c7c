# SPDX-License-Identifier: Apache-2.0
"""`StaleLog`: one line when KEDA's answers about a workload begin to be stale, and one when they are fresh again."""

import logging

import attrs

from kedastral.core.serving import Decision, StalePolicy
from kedastral.core.snapshot import Mode

MOST_REMEMBERED = 10_000
"""Workloads; beyond that the one that has been stale longest is forgotten, and would be told once more."""

log = logging.getLogger("kedastral.scaler")


@attrs.frozen
class StaleLog:
    """Remembers of each workload that is answered stale whether KEDA gets a number, and speaks when that changes."""

    _numbered: dict[str, bool] = attrs.field(factory=dict, init=False)

    def note(self, workload: str, decision: Decision, policy: StalePolicy) -> None:
        """Log what is new about ``decision``, an answer about ``workload`` by ``policy``."""
        if decision.stale:
            self._note_stale(workload, decision, policy)
        elif self._numbered.pop(workload, None) is not None:
            log.info("a fresh forecast again: KEDA is told %d", decision.replicas, extra={"workload": workload})

    def _note_stale(self, workload: str, decision: Decision, policy: StalePolicy) -> None:
        numbered = decision.replicas is not None
        if self._numbered.get(workload) is numbered:
            return
        self._numbered[workload] = numbered
        if len(self._numbered) > MOST_REMEMBERED:
            del self._numbered[next(iter(self._numbered))]
        told = str(decision.replicas) if numbered else "UNAVAILABLE, so that it holds"
        rule = Mode.OBSERVE if decision.mode is Mode.OBSERVE else policy.on_stale
        words = "no fresh forecast: KEDA is told %s (%s); %s"
        log.warning(words, told, rule, decision.reason, extra={"workload": workload})
