# SPDX-License-Identifier: Apache-2.0
"""The kinds of documents, and the settings that each may have, by their path in it."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

import attrs

from kedastral.settings.declarations import PrometheusLogin, PrometheusQuery, SourceLimits
from kedastral.settings.fleet import WorkloadSettings
from kedastral.settings.schema import Setting, settings_of

API_VERSION = "kedastral.io/v1alpha1"
POLICY, SOURCE = "ForecastPolicy", "DataSource"

_ASKED = {setting.name: setting for setting in settings_of(PrometheusQuery)}
QUERY = attrs.evolve(_ASKED["query"], required=True, unless=())
WORKLOAD_SETTINGS: tuple[Setting, ...] = tuple(settings_of(WorkloadSettings))
"""Every setting of one workload except its name, its data source and its query."""
POLICY_SETTINGS = (QUERY, *WORKLOAD_SETTINGS)
SOURCE_SETTINGS: tuple[Setting, ...] = (
    attrs.evolve(_ASKED["url"], required=True, unless=()),
    *settings_of(PrometheusLogin),
    *settings_of(SourceLimits),
)
"""Every setting of one data source."""

Keys = Mapping[tuple[str, ...], Setting]
"""Settings by their path below ``spec``."""


def _keys(settings: Iterable[Setting]) -> Keys:
    return MappingProxyType({setting.path: setting for setting in settings})


HEADERS, PARAMS = "headers", "queryParams"
POLICY_KEYS: Keys = _keys(POLICY_SETTINGS)
SOURCE_KEYS: Keys = _keys(s for s in SOURCE_SETTINGS if not s.is_secret and s.key not in (HEADERS, PARAMS))
SECRET_KEYS: Keys = _keys(setting for setting in SOURCE_SETTINGS if setting.is_secret)
"""Where a document names the variable that holds a secret."""

_WORKLOAD_NAMES = frozenset(setting.name for setting in POLICY_SETTINGS)
ADDRESS = frozenset(setting.name for setting in SOURCE_SETTINGS if setting.env)
"""The names of the settings for the address of Prometheus and its login."""
OF_FLEETS = _WORKLOAD_NAMES | ADDRESS | {"workload"}
"""The names of all settings of workloads and data sources; a command that has a fleet checks them there."""
