# SPDX-License-Identifier: Apache-2.0
"""Live checks: Prometheus for each query, the address of each scaler, a running Kedastral for its workloads."""

import json
import re
import ssl
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta

import attrs
import httpx
import numpy as np
import trio

from kedastral.adapters.http import PLAIN, read_bounded, shown_url, words_of
from kedastral.adapters.prometheus.answer import QueryResponse, find_twins, instant_series, range_series, sum_load
from kedastral.adapters.prometheus.api import PrometheusApi, QueryRequest
from kedastral.adapters.prometheus.limits import TimeBudget
from kedastral.adapters.prometheus.range_queries import in_seconds
from kedastral.core.data_quality.outliers import screen
from kedastral.core.data_quality.raw_counter import FALLING, FEWEST_COUNTED, NEVER_FALLS, falls_often, find_counter
from kedastral.core.promql_text import read_duration, without_strings
from kedastral.core.series import HOUR, Series, align_down
from kedastral.doctor.evidence import AddressAnswer, QueryAnswer, WorkloadState
from kedastral.doctor.nodes import integer_at, rows_at, text_at, tree_of
from kedastral.doctor.query_rules import RATED
from kedastral.doctor.triggers import read_address
from kedastral.errors import RemoteError, SourceError
from kedastral.settings.fleet import WorkloadSettings
from kedastral.settings.kinds import WORKLOAD_SETTINGS
from kedastral.settings.resolve import build
from kedastral.settings.types import Name
from kedastral.settings.yaml import Node
from kedastral.workloads.data_sources import DataSourceConnection

LOOKED_BACK = 6 * HOUR
"""Seconds of history to request: enough to recognise a counter, and to span a quiet time."""
COARSE_POINTS = 300
"""Points in which the whole window is read, to find where it begins."""
SAMPLED = 600
"""Seconds over which the interval between samples is measured."""
OLDEST_SAMPLE = 1800
"""Seconds before now in which the newest sample is looked for."""
CHANGES_SEEN = 3600
"""Seconds over which falls and changes of a counter are counted."""
STATUS_WITHIN = 5.0
STATUS_BYTES = 2**22
ANSWER_WITHIN = 10.0
CONNECT_WITHIN = 5.0
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)
"""What an HTTP/2 client sends first (RFC 9113, section 3.4): the preface, and an empty SETTINGS frame."""
FRAME_HEADER, SETTINGS_FRAME = 9, 4
_RULE_NAME = re.compile(r"[a-zA-Z_][\w]*:[\w:]*")


# Prometheus.


async def ask_queries(
    asked: Iterable[tuple[WorkloadSettings, DataSourceConnection]], now: datetime
) -> dict[str, QueryAnswer]:
    """What Prometheus says about each workload's query, by key; as many at a time as the data source allows."""
    answers: dict[str, QueryAnswer] = {}

    async def ask(workload: WorkloadSettings, connection: DataSourceConnection) -> None:
        answers[workload.key] = await ask_query(workload, connection, now)

    async with trio.open_nursery() as nursery:
        for workload, connection in asked:
            nursery.start_soon(ask, workload, connection)
    return answers


async def ask_query(workload: WorkloadSettings, connection: DataSourceConnection, now: datetime) -> QueryAnswer:
    """All that the rules need to know about a workload's query. What cannot be found out stays unknown."""
    probe = QueryProbe(workload, PrometheusApi(connection.client, connection.limits), connection.settings.timeout, now)
    try:
        found = await probe.look_at_load()
    except SourceError as error:
        # the interval between samples may explain why there is no load
        return QueryAnswer(workload.key, str(error), error.reason, scrape=await probe.measure_scrape())
    age, rule = await probe.measure_age(), await probe.find_rule()
    return attrs.evolve(
        found,
        age=found.age if age is None else age,
        scrape=await probe.measure_scrape(),
        history=await probe.measure_history(),
        retention=await probe.read_retention(),
        rule=rule,
        rated_kind=await probe.read_rated_kind(),
        rated_falls=await probe.find_rated_falls(),
    )


@attrs.frozen(eq=False)
class QueryProbe:
    """Examines one workload's query through ``api``; a request has ``timeout`` seconds."""

    workload: WorkloadSettings
    api: PrometheusApi
    timeout: float
    now: datetime

    async def look_at_load(self) -> QueryAnswer:
        """Check the last hours: whether there is load, duplicate series, or a raw counter. Raises SourceError."""
        step = self.workload.forecast.step
        end = align_down(self.now, step)
        start = end - timedelta(seconds=int(LOOKED_BACK / step) * step)
        response = await self._ask_range(start, end, step)
        several = range_series(response)
        load = sum_load(several, start, end, step)
        if load.why_none:
            words = f"{load.why_none}, in the last {LOOKED_BACK / HOUR:g} hours"
            raise SourceError(words, reason="no_load" if several else "empty")
        series = Series(start, step, load.values)
        counter, newest = find_counter(series), series.newest
        age = None if newest is None else (end - newest.at).total_seconds()
        return QueryAnswer(
            self.workload.key,
            twins=find_twins(response) is not None,
            counter="" if counter is None else counter.words,
            is_gauge=falls_often(series),
            age=age,
            largest=None if newest is None else float(np.nanmax(screen(series).history.values)),
        )

    async def measure_history(self) -> float | None:
        """How many seconds back the query has values, within the model's window."""
        window = self.workload.forecast.history_window
        step = max(self.workload.forecast.step, round(window / COARSE_POINTS))
        end = align_down(self.now, step)
        start = end - timedelta(seconds=int(window / step) * step)
        try:
            load = sum_load(range_series(await self._ask_range(start, end, step)), start, end, step)
        except (SourceError, ValueError):
            return None
        known = np.flatnonzero(np.isfinite(load.values))
        return None if not len(known) else (len(load.values) - int(known[0])) * step

    async def measure_scrape(self) -> float | None:
        """Seconds between samples of what the query takes rate() of, for its series with the most samples."""
        selector = self._selector
        if selector is None:
            return None
        newest, count = f"timestamp({selector})", f"count_over_time({selector}[{SAMPLED}s])"
        whole = f"({newest} - timestamp({selector} offset {SAMPLED}s)) / {count}"
        young = f"({newest} - min_over_time({newest}[{SAMPLED}s:5s])) / (({count} > 1) - 1)"
        return await self._ask_number(f"min({whole} or {young})")

    async def measure_age(self) -> float | None:
        """The age of the newest sample of what the query takes rate() of, by Prometheus' own clock.

        A selector alone finds no sample that is older than five minutes. A subquery does, but its steps lie on whole
        minutes, so it is the second choice.
        """
        selector = self._selector
        if selector is None:
            return None
        young = f"max(timestamp({selector}))"
        old = f"max(max_over_time(timestamp({selector})[{OLDEST_SAMPLE}s:1m]))"
        return await self._ask_number(f"time() - ({young} or {old})")

    async def read_rated_kind(self) -> str:
        """The type of what the query takes rate() of, such as counter, if all targets agree and Prometheus knows it."""
        name = "" if self._selector is None else self._selector.partition("{")[0].strip()
        document = await self._ask_status(f"metadata?metric={name}") if name else None
        kinds = {text_at(row, "type") for row in rows_at(document, "data", name)}
        return kinds.pop() if len(kinds) == 1 else ""

    async def find_rated_falls(self) -> bool | None:
        """Whether the values of what the query takes rate() of fall often, as a gauge's; None if that is not clear."""
        selector = self._selector
        if selector is None:
            return None
        falls, changes = [
            await self._ask_number(f"sum({function}({selector}[{CHANGES_SEEN}s]))")
            for function in ("resets", "changes")
        ]
        if falls is None or changes is None or changes < FEWEST_COUNTED:
            return None
        share = falls / changes
        return True if share >= FALLING else False if share <= 1 - NEVER_FALLS else None

    @property
    def _selector(self) -> str | None:
        found = RATED.search(self.workload.query)
        return None if found is None else found["selector"]

    async def read_retention(self) -> float | None:
        """How many seconds Prometheus keeps, if it says so."""
        document = await self._ask_status("status/runtimeinfo")
        return read_duration(text_at(document, "data", "storageRetention").partition(" ")[0]) or None

    async def find_rule(self) -> float | None:
        """How often the recording rule that the query reads is evaluated; None if it reads none."""
        names = set(_RULE_NAME.findall(without_strings(self.workload.query)))
        if not names:
            return None
        document = await self._ask_status("rules?type=record")
        intervals = [
            text_at(group, "interval")
            for group in rows_at(document, "data", "groups")
            for rule in rows_at(group, "rules")
            if text_at(rule, "name") in names
        ]
        return max((float(one) for one in intervals if re.fullmatch(r"[0-9.]+", one)), default=None)

    async def _ask_range(self, start: datetime, end: datetime, step: float) -> QueryResponse:
        times = {"start": start.timestamp(), "end": end.timestamp(), "step": step}
        params = {"query": self.workload.query, **{name: in_seconds(value) for name, value in times.items()}}
        request = QueryRequest("query_range", params)
        return await self.api.ask(request, TimeBudget(self.timeout), urgent=False)

    async def _ask_number(self, query: str) -> float | None:
        try:
            request = QueryRequest("query", {"query": query})
            several = instant_series(await self.api.ask(request, TimeBudget(self.timeout), urgent=False))
        except (SourceError, ValueError):
            return None
        values = [float(np.asarray(points).reshape(-1, 2)[0, 1]) for points in several]
        return values[0] if values and np.isfinite(values[0]) else None

    async def _ask_status(self, path: str) -> Node | None:
        """What an endpoint outside the query API says; None if it does not exist, as in Thanos or Mimir."""
        try:
            with trio.fail_after(STATUS_WITHIN):
                request = self.api.client.build_request("GET", f"api/v1/{path}", headers=PLAIN, timeout=None)
                response = await self.api.client.send(request, stream=True)
                body = await read_bounded(response, STATUS_BYTES)
                await response.aclose()
            return tree_of(json.loads(body))
        except (httpx.HTTPError, SourceError, ValueError, trio.TooSlowError):
            return None


# The addresses of scalers.


async def try_addresses(asked: Iterable[tuple[str, bool]]) -> dict[tuple[str, bool], AddressAnswer]:
    """The result of connecting to each address, with or without TLS."""
    answers: dict[tuple[str, bool], AddressAnswer] = {}

    async def ask(address: str, tls: bool) -> None:
        answers[address, tls] = AddressAnswer(address, tls, await find_problem(address, tls=tls))

    async with trio.open_nursery() as nursery:
        for address, tls in dict.fromkeys(asked):
            nursery.start_soon(ask, address, tls)
    return answers


async def find_problem(address: str, *, tls: bool) -> str:
    """Why no gRPC server answers at ``address``; empty if one does. Certificates are not verified: KEDA has the CA."""
    place = read_address(address)
    if place is None:
        return ""  # another rule reports it
    try:
        with trio.fail_after(CONNECT_WITHIN):
            return await (_try_tls(*place) if tls else _try_plain(*place))
    except trio.TooSlowError:
        return f"there is no answer within {CONNECT_WITHIN:g} s"
    except OSError as error:
        return f"cannot be reached: {words_of(error)}"


async def _try_tls(host: str, port: int) -> str:
    try:
        is_http2 = await _speak_tls(host, port)
    except trio.BrokenResourceError:
        return "the trigger has enableTLS, but the server does not speak TLS"
    return "" if is_http2 else "the server does not speak gRPC: is it the HTTPS port?"


async def _try_plain(host: str, port: int) -> str:
    if await _speak_plain(host, port):
        return ""
    with suppress(OSError, trio.BrokenResourceError):
        if await _speak_tls(host, port):
            return "the server speaks TLS, but the trigger has no enableTLS"
    return "the server does not speak gRPC: is it the HTTP port?"


async def _speak_plain(host: str, port: int) -> bool:
    """Whether the server first answers with HTTP/2 SETTINGS."""
    answer = b""
    async with await trio.open_tcp_stream(host, port) as stream:
        with suppress(trio.BrokenResourceError):
            await stream.send_all(PREFACE)
            while len(answer) < FRAME_HEADER and (part := await stream.receive_some()):
                answer += part
    return len(answer) >= FRAME_HEADER and answer[3] == SETTINGS_FRAME


async def _speak_tls(host: str, port: int) -> bool:
    """Whether the TLS handshake agrees on HTTP/2. Raises OSError, trio.BrokenResourceError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    async with await trio.open_tcp_stream(host, port) as stream:
        secured = trio.SSLStream(stream, context, server_hostname=host)
        await secured.do_handshake()
        return bool(secured.selected_alpn_protocol() == "h2")


# A running Kedastral.


@attrs.frozen
class RunningWorkloads:
    """The workloads of a running Kedastral by key; those that were not asked for have default settings."""

    workloads: Mapping[str, WorkloadSettings]
    states: tuple[WorkloadState, ...]


async def ask_kedastral(client: httpx.AsyncClient, named: Iterable[str]) -> RunningWorkloads:
    """The workloads of a running Kedastral, with settings for those that ``named`` may mean. Raises RemoteError."""
    states = tuple(
        WorkloadState(
            text_at(row, "workload"), text_at(row, "state"), integer_at(row, "urgency") or 0, text_at(row, "reason")
        )
        for row in rows_at(await _get(client, "api/workloads"), "workloads")
    )
    names = {name.rpartition("/")[2] for name in named}
    workloads = {}
    for key in (state.workload for state in states):
        is_asked = len(states) == 1 or key.rpartition("/")[2] in names
        page = await _get(client, f"api/workloads/{key}") if is_asked else None
        workloads[key] = read_settings_in_force(key, page)
    return RunningWorkloads(workloads, states)


def read_settings_in_force(key: str, page: Node | None) -> WorkloadSettings:
    """The settings that ``GET /api/workloads/KEY`` shows; the default of each that it lacks or that cannot be read."""
    shown = {text_at(row, "name"): row for row in rows_at(page, "settings")}
    values, given = {}, set()
    for setting in WORKLOAD_SETTINGS:
        row = shown.get(setting.flag or setting.key)
        text = text_at(row, "value")
        values[setting.name] = setting.default_value
        with suppress(ValueError):
            values[setting.name] = setting.default_value if text in ("", "none") else setting.parse(text)
        if row is not None and text_at(row, "origin") != "default":
            given.add(setting.name)
    namespace, _, name = key.rpartition("/")
    return build(
        WorkloadSettings,
        values,
        query="",
        workload=Name(name),
        namespace=Name(namespace) if namespace else None,
        by_default=frozenset(values.keys() - given),
    )


async def _get(client: httpx.AsyncClient, path: str) -> Node:
    where = shown_url(client.base_url)
    try:
        with trio.fail_after(ANSWER_WITHIN):
            response = await client.send(client.build_request("GET", path, headers=PLAIN, timeout=None), stream=True)
            body = await read_bounded(response, STATUS_BYTES)
            await response.aclose()
        document = tree_of(json.loads(body)) if response.status_code == httpx.codes.OK else None
    except trio.TooSlowError:
        raise RemoteError(f"{where} gave no answer within {ANSWER_WITHIN:g} s", reason="timeout") from None
    except (httpx.HTTPError, httpx.InvalidURL, SourceError, UnicodeError) as error:
        raise RemoteError(f"{where} cannot be reached: {words_of(error)}", reason="unreachable") from error
    except ValueError as error:
        raise RemoteError(f"{where} gave an unreadable answer", reason="bad_answer") from error
    if document is None:
        raise RemoteError(f"{where} answers with status {response.status_code}", reason="http_status")
    return document
