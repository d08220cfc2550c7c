# SPDX-License-Identifier: Apache-2.0
"""What each setting is called in documents and in trigger metadata, derived from the settings themselves."""

import difflib
import re
from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType

import attrs

from kedastral.config.fields import Setting, settings_of
from kedastral.config.fleet_settings import SourceLimits, WorkloadSettings
from kedastral.config.source_settings import PrometheusLogin, PrometheusQuery

API_VERSION = "kedastral.io/v1alpha1"
POLICY, SOURCE = "ForecastPolicy", "DataSource"
NEAR = 0.65
"""How much alike two words must be for one to be taken for a slip of the other; 1 is equal."""
_NAMES = re.compile(r"--[a-z][a-z-]*|\b[A-Z]+(?:_[A-Z]+)+\b")

Keys = Mapping[tuple[str, ...], Setting]
"""Settings by where they stand below ``spec``."""

_QUERY = {setting.name: setting for setting in settings_of(PrometheusQuery)}
_LOGIN = {setting.name: setting for setting in settings_of(PrometheusLogin)}
WORKLOAD_SETTINGS: tuple[Setting, ...] = tuple(settings_of(WorkloadSettings))
"""Every setting of one workload but its name, its data source and its query."""
QUERY = attrs.evolve(_QUERY["query"], required=True)

SOURCE_SETTINGS: tuple[Setting, ...] = (
    attrs.evolve(_QUERY["url"], required=True),
    *_LOGIN.values(),
    *settings_of(SourceLimits),
)
"""Every setting of one data source."""

_NAMED: dict[tuple[str, ...], Setting] = {(setting.key,): setting for setting in WORKLOAD_SETTINGS}
POLICY_KEYS: Keys = MappingProxyType({("query",): QUERY} | _NAMED)
SOURCE_KEYS: Keys = MappingProxyType(
    {
        ("url",): SOURCE_SETTINGS[0],
        ("auth", "username"): _LOGIN["username"],
        ("auth", "passwordFile"): _LOGIN["password_file"],
        ("auth", "tokenFile"): _LOGIN["token_file"],
        ("tls", "caFile"): _LOGIN["ca_file"],
        ("tls", "certFile"): _LOGIN["cert_file"],
        ("tls", "keyFile"): _LOGIN["key_file"],
    }
    | {tuple(setting.flag.split(".")): setting for setting in settings_of(SourceLimits) if setting.flag}
)
SECRET_KEYS: Keys = MappingProxyType(
    {("auth", "passwordEnv"): _LOGIN["password"], ("auth", "tokenEnv"): _LOGIN["token"]}
)
"""Where a document names the variable that holds a secret."""


@attrs.frozen
class Place:
    """Where settings were written down other than as flags: a document, or trigger metadata.

    ``paths`` leads to each setting there, by its name; ``settings`` are all that can stand there.
    """

    words: str
    settings: tuple[Setting, ...] = attrs.field(repr=False)
    paths: Mapping[str, str] = attrs.field(repr=False)

    def translate(self, words: str, but: Collection[str] = ()) -> str:
        """``words`` about settings with the names that they have here, for all ``but`` some, not those of flags."""
        here = [setting for setting in self.settings if setting.name in self.paths and setting.name not in but]
        names = {name: self.paths[setting.name] for setting in here for name in (setting.flag, setting.env)}
        return _NAMES.sub(lambda found: names.get(found[0], found[0]), words)


def _paths_of(keys: Keys) -> Mapping[str, str]:
    return MappingProxyType({setting.name: "spec." + ".".join(path) for path, setting in keys.items()})


POLICY_PATHS, SOURCE_PATHS = _paths_of(POLICY_KEYS), _paths_of({**SOURCE_KEYS, **SECRET_KEYS})


def policy_place(words: str) -> Place:
    """A ForecastPolicy document, such as ``web.yaml, document 2``."""
    return Place(words, (QUERY, *WORKLOAD_SETTINGS), POLICY_PATHS)


def source_place(words: str) -> Place:
    """A DataSource document."""
    return Place(words, SOURCE_SETTINGS, SOURCE_PATHS)


def suggest(key: str, known: Iterable[str]) -> str:
    """A hint about an unknown key: the one that was meant, or all there are."""
    everything: Collection[str] = list(known)
    by_letters = {re.sub(r"[-_]", "", name).lower(): name for name in everything}
    near = difflib.get_close_matches(re.sub(r"[-_]", "", key).lower(), by_letters, n=1, cutoff=NEAR)
    return f"did you mean {by_letters[near[0]]}?" if near else f"there are {', '.join(everything)}"
