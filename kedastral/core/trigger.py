# SPDX-License-Identifier: Apache-2.0
"""`ObjectRef`: the ScaledObject that KEDA asks for, and how to read its trigger metadata.

A value may come from an environment variable. For ``queryFromEnv: NAME`` KEDA looks up ``NAME`` in a container of the
scale target and passes the value under the key ``queryFromEnv``, suffix included. It passes nothing if the variable is
missing or empty. Such a value often ends in a newline, as Secrets do. It may be secret, for instance if the wrong
variable was named, so it never appears in an error: KEDA copies errors into events.
"""

import math
from collections.abc import Mapping

import attrs

from kedastral.errors import BadTriggerError

FROM_ENV = "FromEnv"
MAX_KEYS = 100
"""The most keys that trigger metadata may have: twice as many as exist. An unknown key is compared with all known."""


@attrs.frozen
class ObjectRef:
    """The ScaledObject that KEDA asks for, and its trigger metadata, as given by the caller.

    ``caller`` identifies the caller itself: the names in its certificate, or its address.
    """

    name: str = ""
    namespace: str = ""
    metadata: Mapping[str, str] = attrs.field(factory=dict)
    caller: str = ""

    @property
    def workload(self) -> str:
        """The workload that the trigger names, or an empty string."""
        return (find_value(self.metadata, "workload") or "").strip()


def find_value(metadata: Mapping[str, str], key: str) -> str | None:
    """The value for ``key``, given directly or by a variable; None if there is none."""
    given = key_in(metadata, key)
    return read_value(metadata, given) if given in metadata else None


def key_in(metadata: Mapping[str, str], key: str) -> str:
    """The key under which ``metadata`` gives ``key``: ``key`` itself, or with the suffix of a variable."""
    return key if key in metadata or key + FROM_ENV not in metadata else key + FROM_ENV


def read_value(metadata: Mapping[str, str], given: str) -> str:
    """The value of the key ``given``, which must be present; one from a variable is stripped of white space."""
    return metadata[given].strip() if is_from_variable(given) else metadata[given]


def plain_key(given: str) -> str:
    """``given`` without the suffix that marks a variable."""
    return given.removesuffix(FROM_ENV)


def is_from_variable(given: str) -> bool:
    """Whether the value of the key ``given`` came from a variable, so that it must not be shown."""
    return given.endswith(FROM_ENV)


def describe_value(given: str, text: str, max_length: int = 100) -> str:
    """``, got ...`` to end an error about a value, cut to ``max_length`` characters; empty for one from a variable."""
    return "" if is_from_variable(given) else f", got {text[:max_length]!r}"


def require_few_keys(metadata: Mapping[str, str]) -> None:
    """Raise BadTriggerError if there are more than `MAX_KEYS`."""
    if len(metadata) > MAX_KEYS:
        raise BadTriggerError(f"the trigger metadata has {len(metadata)} keys; at most {MAX_KEYS} are read")


def find_conflict(metadata: Mapping[str, str], key: str) -> str | None:
    """The problem if ``key`` is given both directly and by a variable; None if it is not."""
    if key in metadata and key + FROM_ENV in metadata:
        return f"{key} and {key}{FROM_ENV} exclude each other; remove one"
    return None


def require_no_conflict(metadata: Mapping[str, str], key: str) -> None:
    """Raise BadTriggerError if ``key`` is given both directly and by a variable."""
    conflict = find_conflict(metadata, key)
    if conflict is not None:
        raise BadTriggerError(f"metadata: {conflict}")


def read_activation(metadata: Mapping[str, str]) -> float:
    """The trigger's ``activation``: active above this many replicas. Raises BadTriggerError unless a number >= 0."""
    require_no_conflict(metadata, "activation")
    wrong = find_bad_activation(metadata)
    if wrong is not None:
        raise BadTriggerError(f"metadata {key_in(metadata, 'activation')!r} {wrong}")
    return float(find_value(metadata, "activation") or 0)


def find_bad_activation(metadata: Mapping[str, str]) -> str | None:
    """What is wrong with the trigger's ``activation``, in words that follow its key; None if nothing is."""
    text = find_value(metadata, "activation")
    if text is None or is_activation(text):
        return None
    return f"must be a number of at least 0{describe_value(key_in(metadata, 'activation'), text.strip(), 40)}"


def is_activation(text: str) -> bool:
    """Whether ``text`` is a finite number >= 0; to float() alone, 1_0 and digits of any script are numbers, too."""
    try:
        return text.isascii() and "_" not in text and 0 <= float(text) < math.inf
    except ValueError:
        return False
