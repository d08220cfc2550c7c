# SPDX-License-Identifier: Apache-2.0
"""Which pods share the work, in Redis: `RedisMembers`, a hash of the pods and their leases."""

import attrs

from kedastral.adapters.redis.connection import RedisConnection
from kedastral.adapters.redis.scripts import LuaScript, ScriptCall, text_of, unexpected_as_error
from kedastral.core.ports import Membership
from kedastral.core.series import DAY, HOUR

RENEW = LuaScript("""\
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local latest = now + 3600000
local fields = redis.call('HGETALL', KEYS[1])
local token, changed, members = tonumber(ARGV[3]), true, {ARGV[1]}
for index = 1, #fields, 2 do
  local name, number = fields[index], tonumber(fields[index + 1])
  if name == '' and number and number <= 9007199254740992 then
    token = math.max(token, number)
  elseif name == ARGV[1] and number then
    changed = number <= now
  end
end
local ended = {}
for index = 1, #fields, 2 do
  local name, number = fields[index], tonumber(fields[index + 1])
  if number and name ~= '' and name ~= ARGV[1] then
    if number <= now or number > latest then
      table.insert(ended, name)
      changed = true
    else
      table.insert(members, name)
    end
  end
end
if changed then
  token = math.max(token + 1, now)
end
redis.call('HSET', KEYS[1], ARGV[1], now + ARGV[2], '', token)
for _, name in ipairs(ended) do
  redis.call('HDEL', KEYS[1], name)
end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return {token, members}
""")
"""a pod, its lease in ms, the highest token it knows, TTL in ms -> the token, and the pods with a valid lease.

A lease is at most an hour, so one that ends later comes from a clock that was set back. A field that is not a number is
not a pod. A token is the time of the last change in milliseconds, so that it grows even if Redis lost its data. HSET
comes first: a full Redis refuses a script only at its first write, and one that began by deleting would make its pod
the only member.
"""

LEAVE = LuaScript("""\
if redis.call('HDEL', KEYS[1], ARGV[1]) == 1 then
  redis.pcall('HINCRBY', KEYS[1], '', 1)
end
return redis.status_reply('OK')
""")
"""a pod -> it is no longer a member."""


@attrs.frozen(eq=False)
class RedisMembers:
    """A `kedastral.core.ports.MemberRegistry` in Redis: ``{prefix}:members``, a hash of pods and of the token.

    A pod's field holds the end of its lease, in milliseconds by the clock of Redis; the token's field has an empty
    name. The hash outlives the snapshots, which expire after ``ttl`` seconds, since their tokens come from it.
    """

    connection: RedisConnection
    prefix: str = "kedastral"
    ttl: float = DAY

    async def renew(self, member: str, lease: float, token: int) -> Membership:
        """See `kedastral.core.ports.MemberRegistry.renew`."""
        arguments = (member, round(lease * 1000), token, round((self.ttl + lease + HOUR) * 1000))
        [answer] = await self.connection.run_scripts([ScriptCall(RENEW, self._key, arguments)])
        with unexpected_as_error():
            if not isinstance(answer, list) or len(answer) != 2 or not isinstance(answer[1], list):
                raise ValueError
            found = Membership(int(text_of(answer[0])), frozenset(map(text_of, answer[1])))
            if member not in found.members:
                raise ValueError
        return found

    async def leave(self, member: str) -> None:
        """See `kedastral.core.ports.MemberRegistry.leave`."""
        await self.connection.run_scripts([ScriptCall(LEAVE, self._key, (member,))])

    @property
    def _key(self) -> str:
        return f"{self.prefix}:members"
