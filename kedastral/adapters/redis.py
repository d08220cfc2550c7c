# SPDX-License-Identifier: Apache-2.0
"""Redis: a connection that mends itself, the snapshots that pods share there, and the pods themselves. Needs coredis.

Everything is done by Lua scripts of one key each, so that a check and the write that follows it are one step, and so
that it works the same on a cluster, where keys lie on different servers. Keys, with the prefix of the settings:

- ``{prefix}:snapshot:{workload}``, a hash: ``at`` (when it was made, microseconds since 1970), ``token`` (of its
  writer), ``revision`` (counts the writes), ``format`` (`kedastral.wire.SNAPSHOT_FORMAT`) and ``snapshot``, the JSON
  of ``GET /forecast/current``. It expires.
- ``{prefix}:index``, a sorted set: each workload with the moment of its last write, by the clock of Redis in
  microseconds. Pods ask it for what is new.
- ``{prefix}:members``, a hash: the pods that share the work, see `RedisMembers`.
- ``{prefix}:state:{workload}``, ``{prefix}:history:{workload}``, ``{prefix}:states``: see `RedisStates`.
"""

import hashlib
import logging
import ssl
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import TypedDict, TypeVar

import attrs
import trio
from coredis import Redis, RedisCluster, Sentinel
from coredis.connection import TCPLocation
from coredis.credentials import AbstractCredentialProvider, UserPass
from coredis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    NoScriptError,
    RedisError,
    ResponseError,
    WrongTypeError,
)
from coredis.retry import NoRetryPolicy, RetryPolicy
from coredis.typing import ResponseType

from kedastral.adapters.http import SecretText, one_line
from kedastral.clock import WallClock
from kedastral.core.kept_state import KeptHistory, KeptState
from kedastral.core.ports import Found, Membership, SharedWrite, WriteOutcome, Written
from kedastral.errors import ConfigError, SourceError, StoreError
from kedastral.settings.declarations import RedisAccess
from kedastral.settings.types import RedisAddress, RedisKind
from kedastral.state_format import StateFormatError, read_history, read_state, write_history, write_state
from kedastral.tls import TlsFiles, make_client_context
from kedastral.wire import SNAPSHOT_FORMAT, WireError, dump_json, read_snapshot, write_snapshot

ANSWER_WITHIN = 2.0
"""Seconds for one batch of requests, and for a connection."""
REOPEN_AFTER = 0.5
"""Seconds before a client that failed is opened anew."""
MAX_CONNECTIONS = 4
"""To each server. One is enough for batches in turn; a second is there while the first is being replaced."""
CLIENT_ERRORS = (RedisError, OSError, SourceError, ExceptionGroup, ValueError)
"""What a client of coredis raises; ValueError where the server says what its parser stumbles over."""
MAX_STALE_AFTER = 1e9
"""Seconds, three decades: in microseconds still exact in Lua."""
MICROSECOND = timedelta(microseconds=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

T = TypeVar("T")
log = logging.getLogger("kedastral.storage")
logging.getLogger("coredis").setLevel(logging.CRITICAL)  # it logs each attempt; ours say once what is the matter


# The scripts.


@attrs.frozen
class LuaScript:
    """A script of one key. Redis knows it by its digest once it has seen the text."""

    text: str
    digest: str = attrs.field(init=False)

    @digest.default
    def _make_digest(self) -> str:
        return hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


WRITE = LuaScript("""\
local old = redis.call('HMGET', KEYS[1], 'at', 'token', 'revision')
local at, token = tonumber(old[1] or ''), tonumber(old[2] or '')
local new, most = tonumber(ARGV[1]), tonumber(ARGV[6])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local outcome = 'kept'
if token and tonumber(ARGV[2]) < token then
  outcome = 'fenced'
elseif at and new > now + most and new - at > most and math.abs(at - now) <= most then
  outcome = 'ahead'
elseif at and new < at and at <= now + math.min(most, 60000000) then
  outcome = 'older'
end
if outcome ~= 'kept' then
  return {outcome, (old[1] or '') .. ':' .. (old[3] or '')}
end
local revision = string.format('%d', (tonumber(old[3] or '') or 0) + 1)
redis.call('HSET', KEYS[1], 'at', ARGV[1], 'token', ARGV[2], 'format', ARGV[3], 'snapshot', ARGV[5],
           'revision', revision)
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return {outcome, ARGV[1] .. ':' .. revision}
""")
"""at, token, format, TTL in ms, JSON, microseconds until stale -> the outcome, and the stamp of what is there now.

What is there but is no number counts as nothing. Where it is the clock of Redis that is behind, what is there comes
from the future too, or from a moment before: then nothing is refused.
"""

READ = LuaScript("""\
local there = redis.call('HMGET', KEYS[1], 'at', 'revision')
local stamp = (there[1] or '') .. ':' .. (there[2] or '')
if not there[1] or stamp == ARGV[1] then
  return false
end
local found = redis.call('HMGET', KEYS[1], 'format', 'snapshot')
return {stamp, found[1] or '', found[2] or ''}
""")
"""a stamp -> nothing where the snapshot has it or is not there, else its stamp, its format and its JSON."""

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
"""TTL in ms, workloads -> they were written now, later than all before.

What is beyond 2^53 is no moment: none could be later.
"""

CHANGES = LuaScript("return redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. ARGV[1], '9007199254740992', 'WITHSCORES')")
"""a moment -> workloads and moments in turn, all after it."""

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
"""a pod, its lease in ms, the highest token it knows, TTL in ms -> the token, and the pods whose lease holds.

A lease is an hour at most, so what ends later comes from a clock that was set back. A field that is no number is no
pod. A token is the time in milliseconds of the last change, so that it grows even where Redis lost what it knew. HSET
comes first: a full Redis refuses a script at its first write alone, and one that began by deleting would make its pod
the only member.
"""

LEAVE = LuaScript("""\
if redis.call('HDEL', KEYS[1], ARGV[1]) == 1 then
  redis.pcall('HINCRBY', KEYS[1], '', 1)
end
return redis.status_reply('OK')
""")
"""a pod -> it is none any more."""

SAVE = LuaScript("""\
local last = tonumber(redis.call('HGET', KEYS[1], 'at') or '')
if last and tonumber(ARGV[1]) < last then
  return 0
end
redis.call('HSET', KEYS[1], 'at', ARGV[1], 'data', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
""")
"""when it was made, TTL in ms, bytes -> kept unless there is something newer."""

LOAD = LuaScript("return redis.call('HGET', KEYS[1], 'data')")
"""-> the bytes."""

REMOVE = LuaScript("return redis.call('DEL', KEYS[1])")
"""-> it is gone."""


# The connection.


@attrs.frozen
class RedisLogin:
    """Where Redis is, and how to log in there. The files ``tls`` are read for each client that is opened."""

    address: RedisAddress
    username: str | None = None
    password: SecretText | None = None
    tls: TlsFiles | None = None

    @classmethod
    def of(cls, settings: RedisAccess) -> "RedisLogin":
        """The login that settings with an address describe."""
        address = settings.redis_url
        assert address is not None  # noqa: S101 - the settings' rules see to it
        given = settings.redis_password is not None or settings.redis_password_file is not None
        password = SecretText("Redis password", settings.redis_password, settings.redis_password_file)
        tls = settings.files if address.tls else None
        return cls(address, settings.redis_username, password if given else None, tls)

    def make_context(self) -> ssl.SSLContext | None:
        """The context for TLS, from the files as they are now. Raises ConfigError where they cannot be used."""
        return None if self.tls is None else make_client_context(self.tls)


@attrs.frozen
class RotatingPassword(AbstractCredentialProvider):
    """Gives each new connection the password as it is now."""

    username: str
    password: SecretText

    async def get_credentials(self) -> UserPass:
        """Raises SourceError where the password cannot be read."""
        return UserPass(self.username, self.password.read())


Client = Redis[bytes] | RedisCluster[bytes]


class ConnectionSettings(TypedDict):
    """What every connection to a server of Redis is made with, a Sentinel's included."""

    ssl_context: ssl.SSLContext | None
    credential_provider: AbstractCredentialProvider | None
    connect_timeout: float
    stream_timeout: float


class PoolSettings(TypedDict):
    """What every client of a server or of a cluster is made with, beside its connections."""

    pool_timeout: float
    max_connections: int
    retry_policy: RetryPolicy
    verify_version: bool


POOL: PoolSettings = {
    "pool_timeout": ANSWER_WITHIN,
    "max_connections": MAX_CONNECTIONS,
    "retry_policy": NoRetryPolicy(),
    "verify_version": False,
}


def make_connection_settings(login: RedisLogin, username: str | None = None) -> ConnectionSettings:
    """Those of ``login``, by its user or by ``username``. Raises ConfigError where its files cannot be used."""
    credentials = None
    if login.password is not None:
        credentials = RotatingPassword(username or login.username or "default", login.password)
    return {
        "ssl_context": login.make_context(),
        "credential_provider": credentials,
        "connect_timeout": ANSWER_WITHIN,
        "stream_timeout": ANSWER_WITHIN,
    }


@asynccontextmanager
async def open_redis(login: RedisLogin) -> AsyncIterator[Client]:
    """A client for ``login``; a cluster is asked for its servers at once. Raises RedisError and ConfigError."""
    address = login.address
    if address.kind is RedisKind.SENTINEL:
        async with _open_sentinel(login) as client:
            yield client
    elif address.kind is RedisKind.CLUSTER:
        nodes = [TCPLocation(*node) for node in address.nodes]
        async with RedisCluster[bytes](
            startup_nodes=nodes,
            max_connections_per_node=True,
            skip_full_coverage_check=True,
            decode_responses=False,
            **make_connection_settings(login),
            **POOL,
        ) as cluster:
            yield cluster
    else:
        host, port = address.nodes[0] if address.nodes else (None, None)
        path = address.path or None
        connection = make_connection_settings(login)
        async with Redis(host, port, address.database, unix_socket_path=path, **connection, **POOL) as server:
            yield server


@asynccontextmanager
async def _open_sentinel(login: RedisLogin) -> AsyncIterator[Client]:
    """A client for the primary that the Sentinels name.

    They get the same password, as the default user: a Sentinel without one takes any.
    """
    sentinels = Sentinel(
        [TCPLocation(*node) for node in login.address.nodes],
        sentinel_kwargs={**make_connection_settings(login, "default"), "verify_version": False},
        decode_responses=False,
        db=login.address.database,
        timeout=ANSWER_WITHIN,
        max_connections=MAX_CONNECTIONS,
        **make_connection_settings(login),
    )
    async with sentinels, sentinels.primary_for(login.address.primary) as primary:
        yield primary


@attrs.frozen
class ScriptCall:
    """A script to run: on which key, with which arguments."""

    script: LuaScript
    key: str | bytes
    arguments: tuple[str | bytes | int, ...] = ()


@attrs.define(eq=False)
class RedisConnection:
    """A client of Redis, open while `run` runs; after a failure it is closed, and a new one is opened.

    So nothing of a broken connection, a failover, or a cluster that has changed is left behind.
    """

    login: RedisLogin
    _client: Client | None = attrs.field(default=None, init=False)
    _changed: trio.Event = attrs.field(factory=trio.Event, init=False)
    _failed: trio.Event = attrs.field(factory=trio.Event, init=False)
    _unused: trio.Event = attrs.field(factory=trio.Event, init=False)
    _users: int = attrs.field(default=0, init=False)
    _why: StoreError | None = attrs.field(default=None, init=False)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep a client open until cancelled. A failure is raised to those who call, never here."""
        log.info("forecasts are shared through Redis at %s", self.login.address)
        task_status.started()
        while True:
            self._failed = trio.Event()
            try:
                async with open_redis(self.login) as client:
                    self._publish(client)
                    await self._failed.wait()
                    await self._wait_for_users()
            except (*CLIENT_ERRORS, ConfigError) as error:
                self._why = explain_error(error, self.login.address)
            finally:
                self._publish(None)
            await trio.sleep(REOPEN_AFTER)

    def _publish(self, client: Client | None) -> None:
        self._client = client
        self._changed.set()
        self._changed = trio.Event()

    def _give_up(self) -> None:
        """Nobody else begins to use the client that failed."""
        self._client = None
        self._failed.set()

    async def _wait_for_users(self) -> None:
        """Wait for those who use the client still; none takes longer than `ANSWER_WITHIN`."""
        while self._users:
            self._unused = trio.Event()
            await self._unused.wait()

    async def run_scripts(self, calls: Sequence[ScriptCall]) -> Sequence[ResponseType]:
        """Send ``calls`` as one batch; returns their answers. Raises StoreError where one of them failed."""
        answers = await self.run_each(calls)
        for answer in answers:
            if isinstance(answer, StoreError):
                raise answer
        return [answer for answer in answers if not isinstance(answer, StoreError)]

    async def run_each(self, calls: Sequence[ScriptCall]) -> Sequence[ResponseType | StoreError]:
        """As `run_scripts`, but where only the key of a call is to blame, that call's answer is a StoreError."""
        try:
            with trio.fail_after(ANSWER_WITHIN):
                answers = await self._use_client(calls)
        except trio.TooSlowError as error:
            self._give_up()
            words = f"no answer within {ANSWER_WITHIN:g} s"
            raise self._why or StoreError(f"{self.login.address}: {words}", reason="timeout") from error
        except CLIENT_ERRORS as error:
            self._give_up()
            raise explain_error(error, self.login.address) from error
        self._why = None
        return [
            StoreError(f"{self.login.address}: the key {_shown_key(call.key)} is of another type", reason="wrong_type")
            if isinstance(answer, WrongTypeError)
            else answer
            for call, answer in zip(calls, answers, strict=True)
        ]

    async def _use_client(self, calls: Sequence[ScriptCall]) -> Sequence[ResponseType]:
        while self._client is None:
            await self._changed.wait()
        self._users += 1
        try:
            return await self._send(self._client, calls)
        finally:
            self._users -= 1
            self._unused.set()

    async def _send(self, client: Client, calls: Sequence[ScriptCall]) -> Sequence[ResponseType]:
        """The answers, WrongTypeErrors among them; a script that the server has not seen is sent whole."""
        async with client.pipeline(transaction=False, raise_on_error=False) as pipeline:
            for call in calls:
                pipeline.evalsha(call.script.digest, [call.key], call.arguments)
        answers = list(pipeline.results or ())
        unknown = [index for index, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if unknown:
            async with client.pipeline(transaction=False, raise_on_error=False) as pipeline:
                for call in (calls[index] for index in unknown):
                    pipeline.eval(call.script.text, [call.key], call.arguments)
            for index, answer in zip(unknown, pipeline.results or (), strict=True):
                answers[index] = answer
        for answer in answers:
            if isinstance(answer, Exception) and not isinstance(answer, WrongTypeError):
                raise answer
        return answers


def _shown_key(key: str | bytes) -> str:
    return one_line(repr(key.decode(errors="replace") if isinstance(key, bytes) else key), 200)


def explain_error(error: Exception, address: RedisAddress) -> StoreError:
    """What went wrong at ``address``, in one line without secrets, and its reason."""
    found = _innermost(error)
    words = one_line(str(found) or type(found).__name__)
    if isinstance(found, SourceError | ConfigError):
        return StoreError(str(found), reason="credentials")
    if isinstance(found, AuthenticationError):
        return StoreError(f"{address} refused the login: {words}", reason="credentials")
    if "OOM" in words:
        return StoreError(f"{address} is full: {words}", reason="full")
    if isinstance(found, ResponseError):
        reason = "credentials" if isinstance(found, AuthorizationError) else "refused"
        return StoreError(f"{address} refused: {words}", reason=reason)
    if isinstance(found, ValueError) and not isinstance(found, OSError):  # as an error of certificates is
        return StoreError(f"{address} does not speak like Redis: {words}", reason="bad_answer")
    return StoreError(f"{address} cannot be reached: {words}", reason="unreachable")


def _innermost(error: BaseException) -> BaseException:
    """The cause at the end of the chain, which says most."""
    if isinstance(error, BaseExceptionGroup):
        return _innermost(error.exceptions[-1])
    cause = error.__cause__
    return error if cause is None else _innermost(cause)


# The snapshots.


@attrs.define(eq=False)
class WorkloadComplaints:
    """Says what is wrong with a workload in Redis once, until that changes: it is found at every cycle."""

    _said: dict[str, str] = attrs.field(factory=dict, init=False)

    def note(self, workload: str, words: str, error: Exception) -> None:
        """``words`` hold of ``workload``, because of ``error``."""
        said = f"{words}: {one_line(str(error))}"
        if self._said.get(workload) != said:
            self._said[workload] = said
            log.warning(words, extra={"workload": workload, "err": one_line(str(error))})

    def clear(self, workload: str) -> None:
        """Nothing is wrong with ``workload``."""
        self._said.pop(workload, None)


@attrs.frozen(eq=False)
class RedisSnapshots:
    """A `kedastral.core.ports.SnapshotExchange` in Redis. ``ttl`` is in seconds.

    What is wrong with one workload there is logged and touches no other.
    """

    connection: RedisConnection
    prefix: str = "kedastral"
    ttl: float = 86400.0
    _unread: WorkloadComplaints = attrs.field(factory=WorkloadComplaints, init=False)
    _unwritten: WorkloadComplaints = attrs.field(factory=WorkloadComplaints, init=False)

    async def write(self, writes: Sequence[SharedWrite]) -> Sequence[Written]:
        """See `kedastral.core.ports.SnapshotExchange.write`."""
        calls = [
            ScriptCall(WRITE, self._key(one.snapshot.workload), (
                _microseconds(one.snapshot.made_at), one.token, SNAPSHOT_FORMAT, self._ttl,
                dump_json(write_snapshot(one.snapshot)), round(min(one.stale_after, MAX_STALE_AFTER) * 1e6),
            ))
            for one in writes
        ]  # fmt: skip
        answers = await self.connection.run_each(calls)
        names = [one.snapshot.workload for one in writes]
        written = [self._find_outcome(name, answer) for name, answer in zip(names, answers, strict=True)]
        kept = [name for name, one in zip(names, written, strict=True) if one.outcome is WriteOutcome.KEPT]
        if kept:
            await self.connection.run_scripts([ScriptCall(NOTE, f"{self.prefix}:index", (self._ttl, *kept))])
        return written

    async def read(self, stamps: Mapping[str, str]) -> Mapping[str, Found]:
        """See `kedastral.core.ports.SnapshotExchange.read`; what cannot be read is passed over."""
        calls = [ScriptCall(READ, self._key(workload), (stamp,)) for workload, stamp in stamps.items()]
        found = {}
        for workload, answer in zip(stamps, await self.connection.run_each(calls), strict=True):
            if not isinstance(answer, list | StoreError):
                self._unread.clear(workload)
                continue
            try:
                found[workload] = _read_found(workload, answer)
            except (WireError, StoreError) as error:
                self._unread.note(workload, "a forecast in Redis cannot be read and is passed over", error)
            else:
                self._unread.clear(workload)
        return found

    def _find_outcome(self, workload: str, answer: ResponseType | StoreError) -> Written:
        if isinstance(answer, StoreError):
            self._unwritten.note(workload, "a forecast cannot be written to Redis", answer)
            return Written(WriteOutcome.REFUSED, "")
        self._unwritten.clear(workload)
        return _read_written(answer)

    async def changes(self, since: int) -> Mapping[str, int]:
        """See `kedastral.core.ports.SnapshotExchange.changes`."""
        [answer] = await self.connection.run_scripts([ScriptCall(CHANGES, f"{self.prefix}:index", (since,))])
        words = [_text(word) for word in answer] if isinstance(answer, list) else []
        with _unexpected_as_error():
            return {workload: int(float(moment)) for workload, moment in zip(words[::2], words[1::2], strict=True)}

    def _key(self, workload: str) -> str:
        return f"{self.prefix}:snapshot:{workload}"

    @property
    def _ttl(self) -> int:
        return round(self.ttl * 1000)


# The pods.


@attrs.frozen(eq=False)
class RedisMembers:
    """A `kedastral.core.ports.MemberRegistry` in Redis: ``{prefix}:members``, a hash of pods and of the token.

    A pod's field is when its lease ends, in milliseconds by the clock of Redis; that of the token has an empty name.
    The hash outlives the snapshots, which expire after ``ttl`` seconds, since their tokens came from it.
    """

    connection: RedisConnection
    prefix: str = "kedastral"
    ttl: float = 86400.0

    async def renew(self, member: str, lease: float, token: int) -> Membership:
        """See `kedastral.core.ports.MemberRegistry.renew`."""
        arguments = (member, round(lease * 1000), token, round((self.ttl + lease) * 1000) + 3_600_000)
        [answer] = await self.connection.run_scripts([ScriptCall(RENEW, self._key, arguments)])
        with _unexpected_as_error():
            if not isinstance(answer, list) or len(answer) != 2 or not isinstance(answer[1], list):
                raise ValueError
            found = Membership(int(_text(answer[0])), frozenset(map(_text, answer[1])))
            if member not in found.members:
                raise ValueError
        return found

    async def leave(self, member: str) -> None:
        """See `kedastral.core.ports.MemberRegistry.leave`."""
        await self.connection.run_scripts([ScriptCall(LEAVE, self._key, (member,))])

    @property
    def _key(self) -> str:
        return f"{self.prefix}:members"


# What a restart, or a pod that takes over, must find.

STATE_TTL = 7 * 86400.0
"""Seconds for which the state of a workload that nobody forecasts is kept, as in a directory."""


@attrs.frozen(eq=False)
class RedisStates:
    """A `kedastral.core.ports.StateStore` in Redis, for pods that take over each other's workloads.

    ``{prefix}:state:{workload}`` and ``{prefix}:history:{workload}`` are hashes: ``data``, the bytes of
    `kedastral.state_format`, and ``at``, when they were saved, in microseconds: what is older replaces nothing.
    ``{prefix}:states`` is a sorted set of the workloads. All expire.
    """

    connection: RedisConnection
    clock: WallClock
    prefix: str = "kedastral"

    async def load_all(self) -> Mapping[str, KeptState]:
        """See `kedastral.core.ports.StateStore.load_all`."""
        [answer] = await self.connection.run_scripts([ScriptCall(CHANGES, f"{self.prefix}:states", (0,))])
        names = answer[::2] if isinstance(answer, list) else []
        found = [await self.load(name.decode(errors="surrogatepass")) for name in names if isinstance(name, bytes)]
        return {state.workload: state for state in found if state is not None}

    async def load(self, workload: str) -> KeptState | None:
        """See `kedastral.core.ports.StateStore.load`."""
        return await self._load("state", workload, read_state)

    async def save(self, state: KeptState) -> int:
        """See `kedastral.core.ports.StateStore.save`."""
        try:
            data = await trio.to_thread.run_sync(write_state, state)
        except StateFormatError as error:
            raise StoreError(f"the state cannot be kept: {error}", reason="bad_state") from error
        await self._save("state", state.workload, state.saved_at, data)
        noted = (round(STATE_TTL * 1000), state.workload.encode(errors="surrogatepass"))
        await self.connection.run_scripts([ScriptCall(NOTE, f"{self.prefix}:states", noted)])
        return len(data)

    async def load_history(self, workload: str) -> KeptHistory | None:
        """See `kedastral.core.ports.StateStore.load_history`."""
        return await self._load("history", workload, read_history)

    async def save_history(self, history: KeptHistory) -> int:
        """See `kedastral.core.ports.StateStore.save_history`."""
        data = await trio.to_thread.run_sync(write_history, history)
        await self._save("history", history.workload, self.clock.now(), data)
        return len(data)

    async def remove(self, workload: str) -> None:
        """See `kedastral.core.ports.StateStore.remove`."""
        await self.connection.run_scripts(
            [ScriptCall(REMOVE, self._key(kind, workload)) for kind in ("state", "history")]
        )

    async def remove_unsaved(self, since: datetime, current: Collection[str]) -> int:
        """See `kedastral.core.ports.StateStore.remove_unsaved`; they expire by themselves."""
        del since, current
        return 0

    async def _load(self, kind: str, workload: str, read: Callable[[bytes], T]) -> T | None:
        [data] = await self.connection.run_scripts([ScriptCall(LOAD, self._key(kind, workload))])
        if not isinstance(data, bytes):
            return None
        try:
            return await trio.to_thread.run_sync(read, data)
        except StateFormatError as error:
            fields = {"workload": workload, "err": one_line(str(error))}
            log.warning("the %s of a workload in Redis cannot be read and counts as missing", kind, extra=fields)
            return None

    async def _save(self, kind: str, workload: str, at: datetime, data: bytes) -> None:
        arguments = (_microseconds(at), round(STATE_TTL * 1000), data)
        await self.connection.run_scripts([ScriptCall(SAVE, self._key(kind, workload), arguments)])

    def _key(self, kind: str, workload: str) -> bytes:
        return f"{self.prefix}:{kind}:{workload}".encode(errors="surrogatepass")


def _microseconds(moment: datetime) -> int:
    """Since 1970: whole numbers of this size are exact in Lua, whose numbers are doubles."""
    return (moment - EPOCH) // MICROSECOND


def _text(word: ResponseType) -> str:
    """``word`` as text; what is no UTF-8 is no name of ours, and must equal none."""
    return word.decode(errors="replace") if isinstance(word, bytes) else str(word)


def _read_written(answer: ResponseType) -> Written:
    with _unexpected_as_error():
        if not isinstance(answer, list) or len(answer) != 2:
            raise ValueError
        return Written(WriteOutcome(_text(answer[0])), _text(answer[1]))


@contextmanager
def _unexpected_as_error() -> Iterator[None]:
    """Raise StoreError where an answer is not of the shape that its script gives."""
    try:
        yield
    except (ValueError, OverflowError) as error:
        raise StoreError("Redis gave an unexpected answer", reason="bad_answer") from error


def _read_found(workload: str, answer: Sequence[ResponseType] | StoreError) -> Found:
    if isinstance(answer, StoreError):
        raise answer
    if len(answer) != 3:
        raise WireError("it is no answer to what was asked")
    stamp, version, body = map(_text, answer)
    try:
        is_known = int(version) <= SNAPSHOT_FORMAT
    except ValueError:
        is_known = False
    if not is_known:
        raise WireError(f"its format is {version:.20}, this version knows {SNAPSHOT_FORMAT}")
    snapshot = read_snapshot(body)
    if snapshot.workload != workload:
        raise WireError(f"it is about {snapshot.workload!r}")
    return Found(snapshot, stamp)
