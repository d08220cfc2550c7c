# SPDX-License-Identifier: Apache-2.0
"""`FailureCollector`: which workloads fail now and why, computed at each scrape."""

from collections.abc import Callable, Iterable, Mapping

import attrs
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from kedastral.core.failure import Failure
from kedastral.scrape_thread import look_from_here

NAME = "kedastral_workload_failing"
WORDS = "1 while the newest tick of a workload gave no forecast; nothing for the others"
LABELS = ("workload", "component", "reason")


@attrs.frozen(eq=False)
class FailureCollector(Collector):
    """Shows what ``look`` gives: the workloads that fail. They are few, or all of a dead Prometheus."""

    look: Callable[[], Mapping[str, Failure]]

    def describe(self) -> Iterable[Metric]:
        """See `Collector.describe`."""
        return [GaugeMetricFamily(NAME, WORDS, labels=LABELS)]

    def collect(self) -> Iterable[Metric]:
        """See `Collector.collect`."""
        family = GaugeMetricFamily(NAME, WORDS, labels=LABELS)
        for workload, failure in look_from_here(self.look).items():
            family.add_metric((workload, failure.component, failure.reason), 1.0)
        return [family]
