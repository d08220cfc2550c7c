# SPDX-License-Identifier: Apache-2.0
"""`FleetResolver` finds the workload that a ScaledObject names, and registers those that ScaledObjects describe."""

import logging
import math
import re
from collections.abc import Collection, Sequence
from typing import NoReturn

import attrs
import trio

from kedastral.cooperative import TimeSlice
from kedastral.core.failures import Failure
from kedastral.core.planning.stale_policy import OnStale, StalePolicy
from kedastral.core.series import HOUR, MINUTE
from kedastral.core.trigger import ObjectRef, is_from_variable, key_in, require_few_keys
from kedastral.errors import BadTriggerError, ConfigError, TooManyWorkloadsError, UnknownWorkloadError
from kedastral.logs import named, of_many
from kedastral.settings.declarations import ScaledObjectSettings
from kedastral.settings.fleet import ConfiguredFleet, WorkloadSettings
from kedastral.settings.metadata import describes_a_workload, has_query
from kedastral.settings.rules import Finding
from kedastral.workloads.division import KnownWorkloads
from kedastral.workloads.fleet import Fleet
from kedastral.workloads.resolver import pick_workload
from kedastral.workloads.runner import RunnerBuilder

REMOVE_AFTER = HOUR
"""Seconds after which a ScaledObject's workload is removed if KEDA does not ask for it; KEDA asks every 30."""
SWEEP_EVERY = MINUTE
FIRST_WAIT = 1.0
"""Seconds that the first calls for a new workload may wait for its first forecast; KEDA's timeout is 3 s."""
EDIT_AFTER = 45.0
"""Seconds without a call with the metadata that describe a workload, after which the same caller may change them. KEDA
calls every 15 to 30 s, and stops using the old metadata once the ScaledObject has been edited."""
HANDED_OVER_AFTER = 300.0
"""Seconds of such silence after which any other caller may: ten calls at KEDA's default ``pollingInterval``."""
DISPUTED_FOR = 120.0
"""Seconds after which different metadata from the same caller are a second trigger, not an edit."""
NAMESPACE_SHARE = 4
"""By default one namespace gets the total number of workloads divided by this."""
SIZE_EACH, SIZE_AT_LEAST = 8 * 1024, 64 * 1024
"""Characters of metadata allowed per workload, so that the total, and that of a namespace, is bounded; and the least
allowed in all if there may be only few workloads."""
LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
SUBDOMAIN = re.compile(rf"(?=.{{1,253}}\Z){LABEL.pattern}(\.{LABEL.pattern})*")
"""Names of namespaces and of objects, as defined by RFC 1123 and Kubernetes."""
MAX_PROBLEMS, MAX_PROBLEM_LENGTH = 8, 300
"""How many problems, and characters of each, a KEDA event shows."""
MAX_WARNED = 10_000
"""How many workloads' warnings are remembered; many more than may exist at once."""
SWITCHED_OFF = (
    "the trigger metadata describes a workload of its own, which is switched off here: start kedastral with "
    "--allow-scaledobject-workloads, or name a configured one in metadata 'workload' and leave out the rest"
)

log = logging.getLogger("kedastral.fleet")
config_log = logging.getLogger("kedastral.config")


@attrs.define
class TriggerReader:
    """Reads the workload that a ScaledObject's trigger metadata describe, by the current configuration and ``rules``.

    ``configured`` is replaced at each reload.
    """

    configured: ConfiguredFleet
    rules: ScaledObjectSettings
    _warned: dict[str, tuple[Finding, ...]] = attrs.field(factory=dict, init=False)

    @property
    def max_workloads(self) -> int:
        """How many workloads ScaledObjects may describe."""
        return self.rules.max_scaledobject_workloads

    @property
    def max_of_a_namespace(self) -> int:
        """How many workloads the ScaledObjects of one namespace may describe."""
        return self.rules.max_scaledobject_workloads_per_namespace or -(-self.max_workloads // NAMESPACE_SHARE)

    def read(self, ref: ObjectRef) -> WorkloadSettings:
        """The settings of the workload that ``ref`` describes. Raises ConfigError with all that is wrong with them."""
        if not (LABEL.fullmatch(ref.namespace) and SUBDOMAIN.fullmatch(ref.name)):
            raise ConfigError([f"ScaledObject {ref.namespace!r}/{ref.name!r}: Kubernetes has no such names"])
        namespaces = self.rules.scaledobject_namespaces
        if namespaces and ref.namespace not in namespaces:
            raise ConfigError([f"ScaledObjects of namespace {ref.namespace!r} may not define workloads here"])
        return self.configured.workload_from_metadata(ref.namespace, ref.name, ref.metadata)

    def warn(self, settings: WorkloadSettings) -> None:
        """Log the warnings once: KEDA sends the same metadata again and again."""
        if self._warned.get(settings.key, ()) == settings.warnings:
            return
        if len(self._warned) >= MAX_WARNED:
            self._warned.clear()
        self._warned[settings.key] = settings.warnings
        for warning in settings.warnings:
            config_log.warning("%s: %s", settings.origin, warning.line, extra=named(settings.key, warning.kind))


@attrs.define
class Registration:
    """A workload that a ScaledObject describes by ``ref``, sent by ``ref.caller``; times are Trio's.

    It was last asked for at ``asked_at``, and by that caller with the metadata of ``ref`` at ``described_at``.
    Different metadata from the same caller have arrived since ``disputed_since``, most recently at ``disputed_at``.
    """

    ref: ObjectRef
    registered_at: float
    asked_at: float
    described_at: float
    disputed_since: float = -math.inf
    disputed_at: float = -math.inf
    size: int = attrs.field(init=False)

    @size.default
    def _measure(self) -> int:
        return _size_of(self.ref)

    @property
    def owner(self) -> tuple[str, str]:
        """Namespace and name of the ScaledObject."""
        return self.ref.namespace, self.ref.name

    def describe(self, ref: ObjectRef, now: float) -> None:
        """Note at ``now`` that ``ref`` describes the workload as it is; another caller does not extend the hold."""
        if ref.caller != self.ref.caller and self.holds_against(ref, now):
            return
        if ref.metadata != self.ref.metadata:
            self.disputed_at, self.size = -math.inf, _size_of(ref)
        self.ref, self.described_at = ref, now

    def holds_against(self, ref: ObjectRef, now: float) -> bool:
        """Whether its caller has described the workload so recently that ``ref`` may not change it."""
        silence = EDIT_AFTER if ref.caller == self.ref.caller else HANDED_OVER_AFTER
        return now - self.described_at < silence

    def dispute(self, now: float) -> bool:
        """Note different metadata at ``now``; returns whether they have arrived for too long to be an edit."""
        if now - self.disputed_at >= DISPUTED_FOR:
            self.disputed_since = now
        self.disputed_at = now
        return now - self.disputed_since >= DISPUTED_FOR


@attrs.define(eq=False)
class FleetResolver:
    """A `kedastral.core.ports.WorkloadResolver` over a fleet. With a ``reader``, ScaledObjects may describe workloads.

    A call costs O(1), plus reading the metadata if they are new.
    """

    fleet: Fleet
    builder: RunnerBuilder
    reader: TriggerReader | None = None
    _registered: dict[str, Registration] = attrs.field(factory=dict, init=False)
    _keys: dict[tuple[str, str, str], str] = attrs.field(factory=dict, init=False)

    async def find(self, ref: ObjectRef) -> str:
        """See `kedastral.core.ports.WorkloadResolver.find`."""
        await trio.lowlevel.checkpoint()
        require_few_keys(ref.metadata)
        if self.reader is not None and has_query(ref.metadata):
            key = self._find_registered(ref, self.reader)
            await self._wait_for_first_tick(key)
            self._require_accepted_query(key)
            return key
        try:
            key = pick_workload(ref, self.fleet.runners.keys() if ref.workload else self._defaults(ref))
        except (UnknownWorkloadError, BadTriggerError) as error:
            if not describes_a_workload(ref.metadata):
                raise
            if self.reader is None:
                raise BadTriggerError(SWITCHED_OFF) from error
            return self._find_registered(ref, self.reader)  # without a query: the error names all that is missing
        self.keep_alive(key)
        return key

    def _defaults(self, ref: ObjectRef) -> Collection[str]:
        """The workloads that a ``ref`` without a name may mean; none if it describes its own workload."""
        return () if describes_a_workload(ref.metadata) else self.configured

    def policy_of(self, workload: str) -> StalePolicy:
        """See `kedastral.core.ports.WorkloadResolver.policy_of`; for a removed workload: UNAVAILABLE."""
        runner = self.fleet.runners.get(workload)
        return StalePolicy(on_stale=OnStale.ERROR) if runner is None else runner.workload.stale

    def failure_of(self, workload: str) -> Failure | None:
        """See `kedastral.core.ports.WorkloadResolver.failure_of`."""
        runner = self.fleet.runners.get(workload)
        return None if runner is None or runner.failed.value is None else self._redact(workload, runner.failed.value)

    def current_key(self, workload: str, namespace: str) -> str:
        """See `kedastral.core.ports.WorkloadResolver.current_key`."""
        del namespace
        return workload

    def keep_alive(self, workload: str) -> None:
        """See `kedastral.core.ports.WorkloadResolver.keep_alive`."""
        registration = self._registered.get(workload)
        if registration is not None:
            registration.asked_at = trio.current_time()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> NoReturn:
        """Remove workloads that KEDA no longer asks for, until cancelled."""
        task_status.started()
        while True:
            await trio.sleep(SWEEP_EVERY)
            self._remove_unasked()

    def _remove_unasked(self) -> None:
        now = trio.current_time()
        for key in [key for key, one in self._registered.items() if now - one.asked_at >= REMOVE_AFTER]:
            log.info("removed: KEDA has not asked for it for an hour", extra=of_many(key))
            self._remove(key)

    async def reread(self) -> None:
        """Reread every ScaledObject's workload after the configuration has changed; rebuild what differs."""
        time_slice = TimeSlice()
        for key, registration in list(self._registered.items()):
            await time_slice.pause()
            if self.reader is None or self._registered.get(key) is not registration:  # removed meanwhile
                continue
            try:
                asked_at, described_at = registration.asked_at, registration.described_at
                self._register(registration.ref, self.reader)
                registration.asked_at, registration.described_at = asked_at, described_at  # KEDA has asked nothing
            except (ConfigError, BadTriggerError) as error:
                log.warning(
                    "a ScaledObject's workload is no longer valid and is removed",
                    extra=of_many(key, err=str(error)),
                )
                self._remove(key)

    @property
    def configured(self) -> frozenset[str]:
        """The keys of the workloads that flags, variables or files describe."""
        return frozenset(self.fleet.runners.keys() - self._registered.keys())

    def known(self) -> KnownWorkloads:
        """All workloads of the fleet."""
        configured = self.configured
        return KnownWorkloads(configured, self.fleet.runners.keys() - configured)

    def unregister(self, key: str) -> None:
        """Forget that a ScaledObject described ``key``, if so: it is configured from now on; its runner stays."""
        if key in self._registered:
            del self._registered[key]
            self._keys = {ref: known for ref, known in self._keys.items() if known != key}

    def _remove(self, key: str) -> None:
        self.unregister(key)
        self.fleet.remove(key)

    async def _wait_for_first_tick(self, key: str) -> None:
        """Wait briefly for the first forecast, or failure, of a newly registered workload, as after a restart.

        Otherwise KEDA would be given the default minimum in the meantime.
        """
        runner = self.fleet.runners[key]
        if self.fleet.store.get(key) is None and self.failure_of(key) is None:
            with trio.move_on_at(self._registered[key].registered_at + FIRST_WAIT):
                await runner.ticked.wait()

    def _require_accepted_query(self, key: str) -> None:
        """Raise if Prometheus rejects a query that has never given a forecast: its author must change it."""
        runner = self.fleet.runners.get(key)
        if runner is None:
            return
        failure = runner.failed.refused_from_the_start(has_plan=self.fleet.store.get(key) is not None)
        if failure is not None:
            raise BadTriggerError(self._redact(key, failure).words)

    def _redact(self, key: str, failure: Failure) -> Failure:
        """``failure`` without Prometheus' message, which quotes the query, if the query came from a variable."""
        registration = self._registered.get(key)
        secret = registration is not None and is_from_variable(key_in(registration.ref.metadata, "query"))
        return attrs.evolve(failure, refusal="") if secret else failure

    def trigger_of(self, key: str) -> ObjectRef | None:
        """The trigger that describes the workload ``key``; None if no ScaledObject does."""
        registration = self._registered.get(key)
        return None if registration is None else registration.ref

    def restore(self, ref: ObjectRef) -> str | None:
        """Register the workload that ``ref`` described before a restart; its key, or None if no longer allowed."""
        if self.reader is None:
            return None
        try:
            return self._register(ref, self.reader)
        except (ConfigError, BadTriggerError, TooManyWorkloadsError) as error:
            words = "the workload that ScaledObject %s/%s defined before the start is not restored"
            fields = {**named(f"{ref.namespace}/{ref.name}"), "err": str(error)}
            log.info(words, ref.namespace, ref.name, extra=fields)
            return None

    def _find_registered(self, ref: ObjectRef, reader: TriggerReader) -> str:
        known = self._keys.get((ref.namespace, ref.name, ref.workload))
        if known is not None and self._registered[known].ref.metadata == ref.metadata:
            registration = self._registered[known]
            registration.describe(attrs.evolve(ref, metadata=registration.ref.metadata), trio.current_time())
            self.keep_alive(known)
            return known
        try:
            return self._register(attrs.evolve(ref, metadata=dict(ref.metadata)), reader)
        except ConfigError as error:
            raise BadTriggerError("; ".join(_first(error.problems))) from error

    def _register(self, ref: ObjectRef, reader: TriggerReader) -> str:
        """Register the workload that ``ref`` describes, new or changed, and return its key.

        Different metadata change it only once the old ones no longer arrive; until then it stays as it is. Raises
        ConfigError, BadTriggerError, TooManyWorkloadsError.
        """
        settings = reader.read(ref)
        key, now = settings.key, trio.current_time()
        before, runner = self._registered.get(key), self.fleet.runners.get(key)
        self._require_free(ref, settings)
        if before is not None and self._is_held_against(ref, settings, before):
            _require_edit(key, ref, before, now)
            return key
        if before is None or before.ref.metadata != ref.metadata:
            self._require_place(key, ref, reader)
        reader.warn(settings)
        if runner is None or not self.builder.is_current(runner, settings):
            self.fleet.put(self.builder.build(settings, runner))
            what = "registered" if runner is None else "changed"
            log.info("%s, as ScaledObject %s/%s says", what, ref.namespace, ref.name, extra=of_many(key))
        if before is None:
            before = self._registered[key] = Registration(ref, now, now, now)
        if before.owner == (ref.namespace, ref.name):  # one object has few spellings; others may have any number
            before.describe(ref, now)
            self._keys[ref.namespace, ref.name, ref.workload] = key
            if before.ref is ref:
                self.fleet.keep(settings)
        self.keep_alive(key)
        return key

    def _is_held_against(self, ref: ObjectRef, settings: WorkloadSettings, before: Registration) -> bool:
        """Whether ``before`` describes the workload of ``settings`` differently, and may not be changed yet.

        A description whose query Prometheus rejects may be changed by its own caller at any time.
        """
        runner = self.fleet.runners.get(settings.key)
        if runner is None or runner.settings == settings or before.ref.metadata == ref.metadata:
            return False
        has_plan = self.fleet.store.get(settings.key) is not None
        if ref.caller == before.ref.caller and runner.failed.refused_from_the_start(has_plan=has_plan) is not None:
            return False
        return before.holds_against(ref, trio.current_time())

    def _require_free(self, ref: ObjectRef, settings: WorkloadSettings) -> None:
        """Raise unless the ScaledObject of ``ref`` may describe the workload of ``settings``."""
        key = settings.key
        before, runner = self._registered.get(key), self.fleet.runners.get(key)
        if runner is not None and before is None:
            raise BadTriggerError(
                f"workload {key!r} is already configured here: to use it, leave out all metadata except 'workload'"
            )
        if before is None or runner is None or runner.settings == settings:
            return
        if before.owner != (ref.namespace, ref.name):
            raise BadTriggerError(
                f"workload {key!r} is already described differently by ScaledObject {'/'.join(before.owner)}: "
                "give this one another name with metadata 'workload'"
            )

    def _require_place(self, key: str, ref: ObjectRef, reader: TriggerReader) -> None:
        """Raise unless there is room for ``ref`` to describe the workload ``key``, in its namespace and in total."""
        others = [one for other, one in self._registered.items() if other != key]
        neighbours = [one.size for one in others if one.ref.namespace == ref.namespace]
        size = _size_of(ref)
        _require_room([*(one.size for one in others), size], reader.max_workloads, "ScaledObjects")
        _require_room([*neighbours, size], reader.max_of_a_namespace, f"ScaledObjects of namespace {ref.namespace!r}")


def _size_of(ref: ObjectRef) -> int:
    """How many characters the metadata have."""
    return sum(len(key) + len(value) for key, value in ref.metadata.items())


def _require_room(sizes: Sequence[int], places: int, whose: str) -> None:
    """Raise TooManyWorkloadsError if ``sizes`` are more than ``places``, or add up to more than those may have."""
    if len(sizes) > places:
        raise TooManyWorkloadsError(f"{whose} already define {places} workloads, which is the limit")
    most = max(places * SIZE_EACH, SIZE_AT_LEAST)
    if sum(sizes) > most:
        raise TooManyWorkloadsError(f"the metadata of {whose} has more than {most} characters in total")


def _require_edit(key: str, ref: ObjectRef, held: Registration, now: float) -> None:
    """Raise unless ``ref``, which describes the workload ``key`` differently from ``held``, may be an edit."""
    if ref.caller != held.ref.caller:
        raise BadTriggerError(
            f"workload {key!r} is already described differently by another caller, which must be silent for "
            f"{HANDED_OVER_AFTER:.0f} s before that changes"
        )
    if held.dispute(now):
        raise BadTriggerError(
            f"another trigger of this ScaledObject describes workload {key!r} differently: name each with metadata "
            "'workload'"
        )


def _first(problems: Sequence[str]) -> list[str]:
    """The first ``problems``, truncated, and how many more there are."""
    more = [f"and {len(problems) - MAX_PROBLEMS} more"] if len(problems) > MAX_PROBLEMS else []
    return [*(problem[:MAX_PROBLEM_LENGTH] for problem in problems[:MAX_PROBLEMS]), *more]
