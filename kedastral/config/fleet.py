# SPDX-License-Identifier: Apache-2.0
"""`ConfiguredFleet`: what a process forecasts, from flags, the environment and files, and the way to read it again.

Flags and variables about a workload are about the one that ``--workload`` names. Where files or ScaledObjects name
the workloads and ``--workload`` none, they are about all of them: they win over files, as everywhere, and hold for
ScaledObjects that do not say otherwise.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import attrs

from kedastral.config.assembly import Assembly
from kedastral.config.config_files import ConfigFile, read_config_files
from kedastral.config.documents import Document, read_config_documents
from kedastral.config.fleet_settings import FleetSettings, WorkloadSettings
from kedastral.config.metadata import read_workload
from kedastral.config.process import Process
from kedastral.config.unhurried import Rest, Rests, no_rest, uncollected
from kedastral.errors import ConfigError

MOST_PROBLEMS = 200
"""Lines that are told of one configuration; whoever has more reads no further."""


def _frozen(given: Mapping[str, str]) -> Mapping[str, str]:
    return MappingProxyType(dict(given))


@attrs.frozen
class FleetOrigin:
    """All that a fleet is read from: what the process was told, the files at ``path``, and variables for secrets."""

    process: Process
    path: Path | None = None
    env: Mapping[str, str] = attrs.field(factory=dict, converter=_frozen, repr=False, eq=False)

    def read_beside_others(self) -> "ConfiguredFleet":
        """Read the files, now, in a thread whose process has other things to do meanwhile.

        Raises ConfigError with all problems at once.
        """
        files, rest = self._read_files(), Rests()
        with uncollected():
            fleet, problems = self.assemble(*read_config_documents(files, self.env, rest), rest)
        if fleet is None or problems:
            raise ConfigError(limit_problems(problems))
        return fleet

    def read_as_far_as_possible(self) -> "tuple[ConfiguredFleet | None, list[str]]":
        """The fleet, or all the problems that there are."""
        try:
            documents, problems = self.read_documents()
        except ConfigError as error:
            return None, list(error.problems)
        return self.assemble(documents, problems)

    def read_documents(self) -> tuple[list[Document], list[str]]:
        """The documents of the files as they are now, and all problems; ConfigError where a file cannot be read."""
        return read_config_documents(self._read_files(), self.env)

    def _read_files(self) -> list[ConfigFile]:
        return read_config_files(self.path) if self.path is not None else []

    def assemble(
        self, documents: Sequence[Document], problems: Sequence[str], rest: Rest = no_rest
    ) -> "tuple[ConfiguredFleet | None, list[str]]":
        """The fleet of ``documents``, in which ``problems`` were found, or all the problems that there are."""
        knows_files = self.path is not None or not self.process.has_files
        assembly = Assembly.of(self.process, documents, has_all=not problems and knows_files, rest=rest)
        everything = [*problems, *assembly.problems]
        if everything or self.process.unknown:
            return None, everything
        settings = FleetSettings(sources=assembly.sources, workloads=assembly.workloads)
        return ConfiguredFleet(settings, self, tuple(dict.fromkeys(assembly.warnings))), []


@attrs.frozen
class ConfiguredFleet:
    """What a process forecasts; ``warnings`` are lines about what is odd in it."""

    settings: FleetSettings
    origin: FleetOrigin = attrs.field(eq=False)
    warnings: tuple[str, ...] = attrs.field(default=(), eq=False)

    def read_again(self) -> "ConfiguredFleet":
        """The same flags and variables, and the files as they are now. Blocks; raises ConfigError."""
        return self.origin.read_beside_others()

    def workload_from_metadata(self, namespace: str, name: str, metadata: Mapping[str, str]) -> WorkloadSettings:
        """The workload that a ScaledObject's trigger describes; ``name`` is the ScaledObject's own.

        It is called by the metadata's ``workload``, else ``name``. Raises ConfigError with all problems at once, in
        words for whoever wrote the ScaledObject.
        """
        return read_workload(self.settings.sources, self.origin.process.given, (namespace, name), metadata)


def limit_problems(problems: list[str]) -> list[str]:
    """The first of too many problems, and how many more there are."""
    left = len(problems) - MOST_PROBLEMS
    return [*problems[:MOST_PROBLEMS], f"and {left} more problems"] if left > 0 else problems
