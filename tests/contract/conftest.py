# SPDX-License-Identifier: Apache-2.0
"""A contract defines the answers, not how soon they come: that depends on the machine."""

import pytest

from tests.redis_servers import give_redis_time


@pytest.fixture(autouse=True)
def _time_for_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    give_redis_time(monkeypatch)
