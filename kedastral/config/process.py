# SPDX-License-Identifier: Apache-2.0
"""`Process`: what flags and variables say of workloads and data sources, and of which workload they say it."""

from collections.abc import Mapping
from types import MappingProxyType

import attrs

from kedastral.config.keys import WORKLOAD_SETTINGS
from kedastral.config.reading import Given

_OF_WORKLOADS = frozenset({"query", *(setting.name for setting in WORKLOAD_SETTINGS)})


def _frozen(given: Mapping[str, Given]) -> Mapping[str, Given]:
    return MappingProxyType(dict(given))


@attrs.frozen
class Process:
    """What flags and variables say of workloads and data sources, by the name of the setting.

    ``unknown`` are settings that were given and cannot be read, ``known`` all that the command has. ``has_files`` and
    ``takes_scaledobjects``: workloads may come from there too.
    """

    given: Mapping[str, Given] = attrs.field(converter=_frozen)
    known: frozenset[str] = frozenset()
    unknown: frozenset[str] = frozenset()
    has_files: bool = False
    takes_scaledobjects: bool = False

    @property
    def describes_a_workload(self) -> bool:
        """Whether flags and variables are about one workload, rather than about all there are."""
        return "workload" in self.given or not (self.has_files or self.takes_scaledobjects)

    @property
    def workload(self) -> str | None:
        """The workload that they name."""
        return self.given["workload"].text.strip() if "workload" in self.given else None

    def over(self, key: str | None) -> Mapping[str, Given]:
        """What wins over the document of the workload ``key``."""
        if self.describes_a_workload and key != self.workload:
            return {}
        return {name: given for name, given in self.given.items() if name in _OF_WORKLOADS}
