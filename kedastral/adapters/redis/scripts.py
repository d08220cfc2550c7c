# SPDX-License-Identifier: Apache-2.0
"""Lua scripts that use a single key: their definition, how to read their answers, and those of an index of changes."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

import attrs
from coredis.typing import ResponseType

from kedastral.core.series import EPOCH
from kedastral.errors import StoreError

MICROSECOND = timedelta(microseconds=1)


@attrs.frozen
class LuaScript:
    """A script that uses a single key. Redis knows it by its digest once it has seen the text."""

    text: str
    digest: str = attrs.field(init=False)

    @digest.default
    def _make_digest(self) -> str:
        return hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


@attrs.frozen
class ScriptCall:
    """A script to run, with its key and arguments."""

    script: LuaScript
    key: str | bytes
    arguments: tuple[str | bytes | int, ...] = ()


def microseconds(moment: datetime) -> int:
    """Microseconds since 1970: integers of this size are exact in Lua, whose numbers are doubles."""
    return (moment - EPOCH) // MICROSECOND


def text_of(word: ResponseType) -> str:
    """``word`` as text; what is not UTF-8 is not one of our names, and must not equal any."""
    return word.decode(errors="replace") if isinstance(word, bytes) else str(word)


@contextmanager
def unexpected_as_error() -> Iterator[None]:
    """Raise StoreError if an answer does not have the shape that its script returns."""
    try:
        yield
    except (ValueError, OverflowError) as error:
        raise StoreError("Redis gave an unexpected answer", reason="bad_answer") from error


# An index: a sorted set of workloads, each with the time of its last write.

NOTE = LuaScript("""\
local time = redis.call('TIME')
local moment = time[1] * 1000000 + time[2]
redis.call('ZREMRANGEBYSCORE', KEYS[1], '(9007199254740992', '+inf')
local last = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')
if last[2] and tonumber(last[2]) >= moment then
  moment = tonumber(last[2]) + 1
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', moment - ARGV[1] * 1000)
for index = 2, #ARGV do
  redis.call('ZADD', KEYS[1], moment, ARGV[index])
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return redis.status_reply('OK')
""")
"""TTL in ms, workloads -> they were written now, later than all others.

A score beyond 2^53 is not a time: nothing could be later.
"""

CHANGES = LuaScript("return redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. ARGV[1], '9007199254740992', 'WITHSCORES')")
"""a time -> alternating workloads and times, all after it."""
