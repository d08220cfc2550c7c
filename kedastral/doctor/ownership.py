# SPDX-License-Identifier: Apache-2.0
"""Decides which external triggers are for Kedastral: KEDA has one type for the scalers of all vendors."""

import difflib
import re
from collections.abc import Iterable, Sequence

import attrs

from kedastral.core.trigger import plain_key
from kedastral.doctor.evidence import KedaTrigger, ObjectName, Owner, ScalingObject
from kedastral.settings.metadata import KEDA_KEYS, METADATA_KEYS, OWN_KEYS

PRODUCT = "kedastral"
SHARED_KEYS = frozenset(
    {
        "activation", "dataSource", "horizon", "interval", "max", "metric", "min", "mode", "model", "query", "step",
        "timezone", "window",
    }
)  # fmt: skip
"""Keys of ours whose names other scalers may well have, too: they prove nothing."""
_KEYS = {*METADATA_KEYS, *OWN_KEYS}
_TELLING = _KEYS - SHARED_KEYS
_LONG_KEYS = {key.lower(): key for key in (*_TELLING, *KEDA_KEYS)}
_NEARLY = 0.85
"""How similar, from 0 to 1, a key must be to one of ours to count as a misspelling of it."""


def settle_owners(objects: Sequence[ScalingObject], services: Iterable[ObjectName] = ()) -> tuple[ScalingObject, ...]:
    """The same objects with the owner of each trigger; ``services`` are known to be Kedastral's.

    What leads to the address of a trigger that is surely ours is ours, too.
    """
    known = tuple(services)
    first = [[_judge(trigger, known) for trigger in one.triggers] for one in objects]
    ours = {
        address_key(trigger.address)
        for one, owners in zip(objects, first, strict=True)
        for trigger, owner in zip(one.triggers, owners, strict=True)
        if owner is Owner.US and trigger.address
    }
    return tuple(
        attrs.evolve(
            one,
            triggers=tuple(
                attrs.evolve(trigger, owner=Owner.US if _leads_to(trigger, ours) else owner)
                for trigger, owner in zip(one.triggers, owners, strict=True)
            ),
        )
        for one, owners in zip(objects, first, strict=True)
    )


def address_key(address: str) -> str:
    """An address in one form: a Service has several names in a cluster."""
    host, _, port = address.lower().removeprefix("dns:///").rpartition(":")
    return f"{re.sub(r'[.]svc([.]cluster[.]local[.]?)?$', '', host)}:{port}"


def _leads_to(trigger: KedaTrigger, addresses: set[str]) -> bool:
    return trigger.is_external and bool(trigger.address) and address_key(trigger.address) in addresses


def _judge(trigger: KedaTrigger, services: Sequence[ObjectName]) -> Owner:
    """Whose a trigger is, judged by itself."""
    if not trigger.is_external:
        return Owner.OTHERS
    if PRODUCT in trigger.address.lower() or _is_of(trigger.address, services):
        return Owner.US
    known = [_known_key(key) for key in trigger.metadata]
    ours = {*known} & _KEYS
    if ours & (_TELLING - {"workload"}):
        return Owner.US
    has_others = None in known
    if "workload" in ours:
        return Owner.PERHAPS_US if has_others else Owner.US
    return Owner.OTHERS if has_others else Owner.PERHAPS_US


def _known_key(given: str) -> str | None:
    """The key of ours, or of KEDA for every external scaler, that is given or misspelt; None for another scaler's."""
    key = plain_key(given)
    if key in _KEYS or key in KEDA_KEYS:
        return key
    found = difflib.get_close_matches(key.lower(), _LONG_KEYS, n=1, cutoff=_NEARLY)
    return _LONG_KEYS[found[0]] if found else None


def _is_of(address: str, services: Sequence[ObjectName]) -> bool:
    """Whether an address is that of one of ``services``."""
    name, _, namespace = address_key(address).rpartition(":")[0].partition(".")
    return any(
        one.name == name and (not namespace or not one.namespace or one.namespace == namespace) for one in services
    )
