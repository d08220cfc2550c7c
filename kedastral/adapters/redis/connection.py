# SPDX-License-Identifier: Apache-2.0
"""A connection to Redis that recovers by itself, and errors in one line with a reason."""

import logging
from collections.abc import Sequence

import attrs
import trio
from coredis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    NoScriptError,
    RedisError,
    ResponseError,
    WrongTypeError,
)
from coredis.typing import ResponseType

from kedastral.adapters.redis.client import ANSWER_WITHIN, Client, RedisLogin, open_redis
from kedastral.adapters.redis.scripts import ScriptCall
from kedastral.errors import ConfigError, SourceError, StoreError
from kedastral.settings.types import RedisAddress
from kedastral.text import one_line

REOPEN_AFTER = 0.5
"""Seconds before a failed client is replaced."""
CLIENT_ERRORS = (RedisError, OSError, SourceError, ExceptionGroup, ValueError)
"""What a coredis client raises; ValueError if its parser fails on what the server sends."""

log = logging.getLogger("kedastral.storage")
logging.getLogger("coredis").setLevel(logging.CRITICAL)  # it logs each attempt; we log each problem once


@attrs.define(eq=False)
class RedisConnection:
    """A Redis client, open while `run` runs; after a failure it is closed, and a new one is opened.

    So nothing is left of a broken connection, a failover, or a changed cluster.
    """

    login: RedisLogin
    _client: Client | None = attrs.field(default=None, init=False)
    _changed: trio.Event = attrs.field(factory=trio.Event, init=False)
    _failed: trio.Event = attrs.field(factory=trio.Event, init=False)
    _unused: trio.Event = attrs.field(factory=trio.Event, init=False)
    _users: int = attrs.field(default=0, init=False)
    _why: StoreError | None = attrs.field(default=None, init=False)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep a client open until cancelled. Failures are raised to the callers, never here."""
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

    def _give_up(self, client: Client | None) -> None:
        """Let nobody else use ``client``, which failed. None, or a former one, says nothing about the current one."""
        if client is not None and client is self._client:
            self._client = None
            self._failed.set()

    async def _wait_for_users(self) -> None:
        """Wait for those who still use the client; none takes longer than `ANSWER_WITHIN`."""
        while self._users:
            self._unused = trio.Event()
            await self._unused.wait()

    async def run_scripts(self, calls: Sequence[ScriptCall]) -> Sequence[ResponseType]:
        """Send ``calls`` as one batch; returns their answers. Raises StoreError if one of them failed."""
        answers = await self.run_each(calls)
        for answer in answers:
            if isinstance(answer, StoreError):
                raise answer
        return [answer for answer in answers if not isinstance(answer, StoreError)]

    async def run_each(self, calls: Sequence[ScriptCall]) -> Sequence[ResponseType | StoreError]:
        """Like `run_scripts`, but if only the key of a call is to blame, that call's answer is a StoreError."""
        client = None
        try:
            with trio.fail_after(ANSWER_WITHIN):
                client = await self._wait_for_client()
                answers = await self._use(client, calls)
        except trio.TooSlowError as error:
            self._give_up(client)
            words = f"no answer within {ANSWER_WITHIN:g} s"
            raise self._why or StoreError(f"{self.login.address}: {words}", reason="timeout") from error
        except CLIENT_ERRORS as error:
            self._give_up(client)
            raise explain_error(error, self.login.address) from error
        self._why = None
        return [
            StoreError(f"{self.login.address}: the key {_shown_key(call.key)} is of another type", reason="wrong_type")
            if isinstance(answer, WrongTypeError)
            else answer
            for call, answer in zip(calls, answers, strict=True)
        ]

    async def _wait_for_client(self) -> Client:
        """The open client; the caller uses it at once, before `run` can close it."""
        while self._client is None:
            await self._changed.wait()
        return self._client

    async def _use(self, client: Client, calls: Sequence[ScriptCall]) -> Sequence[ResponseType]:
        self._users += 1
        try:
            return await self._send(client, calls)
        finally:
            self._users -= 1
            self._unused.set()

    async def _send(self, client: Client, calls: Sequence[ScriptCall]) -> Sequence[ResponseType]:
        """The answers, including WrongTypeErrors; a script that the server does not know is sent in full."""
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
    """What went wrong at ``address``, in one line without secrets, with its reason."""
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
    if isinstance(found, ValueError) and not isinstance(found, OSError):  # errors of certificates are both
        return StoreError(f"{address} does not speak the Redis protocol: {words}", reason="bad_answer")
    return StoreError(f"{address} cannot be reached: {words}", reason="unreachable")


def _innermost(error: BaseException) -> BaseException:
    """The cause at the end of the chain, which is the most specific."""
    if isinstance(error, BaseExceptionGroup):
        return _innermost(error.exceptions[-1])
    cause = error.__cause__
    return error if cause is None else _innermost(cause)
