# SPDX-License-Identifier: Apache-2.0
"""What a trigger's metadata say, as KEDA hands them on.

KEDA looks up the variable that ``queryFromEnv`` names, in a container of the scale target, and hands on
``queryFromEnv`` with the value: the key keeps its ending. Where the variable is not there, or is empty, it hands on
nothing at all.
"""

from collections.abc import Mapping

FROM_ENV = "FromEnv"


def plain_key(key: str) -> str:
    """What ``key`` is about, whether its value stood there or in a variable."""
    return key.removesuffix(FROM_ENV)


def said_key(metadata: Mapping[str, str], key: str) -> str:
    """The key by which ``metadata`` say something for ``key``: itself, or the one of its variable."""
    return key if key in metadata or key + FROM_ENV not in metadata else key + FROM_ENV


def find_said(metadata: Mapping[str, str], key: str) -> str | None:
    """What ``metadata`` say for ``key``, if anything."""
    return metadata.get(said_key(metadata, key))


def find_said_twice(metadata: Mapping[str, str], key: str) -> str | None:
    """What is wrong where ``key`` has a value of its own and one of a variable: nobody knows which is meant."""
    if key in metadata and key + FROM_ENV in metadata:
        return f"{key} and {key}{FROM_ENV} exclude each other; take one away"
    return None
