# SPDX-License-Identifier: Apache-2.0
"""What a trigger's metadata say, as KEDA hands them on.

KEDA looks up the variable that ``queryFromEnv`` names, in a container of the scale target, and hands on
``queryFromEnv`` with the value: the key keeps its ending. Where the variable is not there, or is empty, it hands on
nothing at all. Such a value often ends in a line end, as of a Secret; and it may be one that whoever reads an error,
which KEDA puts into an event, must not see: then the variable named was the wrong one.
"""

from collections.abc import Mapping

import attrs

from kedastral.errors import BadTriggerError

FROM_ENV = "FromEnv"


def plain_key(key: str) -> str:
    """What ``key`` is about, whether its value stood there or in a variable."""
    return key.removesuffix(FROM_ENV)


def said_key(metadata: Mapping[str, str], key: str) -> str:
    """The key by which ``metadata`` say something for ``key``: itself, or the one of its variable."""
    return key if key in metadata or key + FROM_ENV not in metadata else key + FROM_ENV


def is_of_variable(key: str) -> bool:
    """Whether the value of ``key`` stood in a variable: it is not shown to anybody."""
    return key.endswith(FROM_ENV)


def read_said(metadata: Mapping[str, str], key: str) -> str:
    """The value of ``key``, which is there as it stands; of a variable without what is blank around it."""
    return metadata[key].strip() if is_of_variable(key) else metadata[key]


def find_said(metadata: Mapping[str, str], key: str) -> str | None:
    """What ``metadata`` say for ``key``, if anything."""
    said = said_key(metadata, key)
    return read_said(metadata, said) if said in metadata else None


def describe_got(key: str, text: str, most: int = 100) -> str:
    """``, got ...`` to end what is wrong with the value of ``key``, with at most so many characters of it, or none."""
    return "" if is_of_variable(key) else f", got {text[:most]!r}"


def find_said_twice(metadata: Mapping[str, str], key: str) -> str | None:
    """What is wrong where ``key`` has a value of its own and one of a variable: nobody knows which is meant."""
    if key in metadata and key + FROM_ENV in metadata:
        return f"{key} and {key}{FROM_ENV} exclude each other; take one away"
    return None


@attrs.frozen
class ObjectRef:
    """The ScaledObject that KEDA asks for, and the metadata of its trigger."""

    name: str = ""
    namespace: str = ""
    metadata: Mapping[str, str] = attrs.field(factory=dict)

    @property
    def workload(self) -> str:
        """The workload that the trigger names, or nothing."""
        return (find_said(self.metadata, "workload") or "").strip()


def require_said_once(metadata: Mapping[str, str], key: str) -> None:
    """Raise BadTriggerError where ``metadata`` have both a value for ``key`` and one of a variable."""
    twice = find_said_twice(metadata, key)
    if twice is not None:
        raise BadTriggerError(f"metadata: {twice}")
