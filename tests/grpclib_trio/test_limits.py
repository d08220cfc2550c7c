# SPDX-License-Identifier: Apache-2.0
"""Limits that make no sense are refused when they are written, not when they are reached."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from kedastral.grpclib_trio import Limits


@pytest.mark.parametrize("name", [f.name for f in attrs.fields(Limits)])
@pytest.mark.parametrize("value", [0, -1])
def test_limits_are_above_zero(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{name} must be greater than zero"):
        Limits(**{name: value})


@pytest.mark.parametrize(
    "values",
    [
        {"max_message_bytes": 2, "max_buffered_bytes": 1},
        {"stream_window_bytes": 2**31},
        {"connection_window_bytes": 2**31},
        {"connection_window_bytes": 65_535},
    ],
)
def test_limits_that_contradict_each_other_or_http2_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must have room|HTTP/2 windows"):
        Limits(**values)


def test_counts_are_whole_numbers() -> None:
    with pytest.raises(TypeError):
        Limits(max_streams=1.5)


def test_one_connection_has_room_for_thousands_of_streams() -> None:
    assert Limits().max_streams >= 1_000
    assert Limits().max_message_bytes == 4 * 1024 * 1024
