# SPDX-License-Identifier: Apache-2.0
"""The cost of hostile answers of the largest allowed size: the peak memory of a process that reads one."""

import gc
import json
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from kedastral.adapters.http_model import ANSWER_LIMIT
from kedastral.adapters.prometheus.api import BODY_LIMIT, LARGE, PrometheusApi, QueryRequest
from kedastral.adapters.prometheus.limits import TimeBudget
from kedastral.errors import SourceError
from kedastral.serving.remote import MAX_BYTES
from tests.adapters.answers import Server, client_of

MOST = 96
"""MiB beyond the program itself and the body: a container of 256 MiB still lives."""

READ = """
import json
from pathlib import Path
{imports}

def peak():
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])

for kind, (head, unit, tail) in {answers!r}.items():
    body = head + unit * (({size} - len(head) - len(tail)) // len(unit)) + tail
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew, proc(5)
    before, how = peak(), "read"
    try:
        {call}
    except (ValueError, RecursionError, RefusedError):
        how = "refused"
    print(json.dumps([kind, how, (peak() - before) // 1024]))
"""

MATRIX = b'{"status":"success","data":{"resultType":"matrix","result":['
VECTOR = MATRIX.replace(b"matrix", b"vector")
ANSWERS = {
    "lists for series": (MATRIX, b"[],", b"[]]}}"),
    "empty series": (MATRIX, b"{},", b"{}]}}"),
    "series without values": (MATRIX, b'{"values":[]},', b'{"values":[]}]}}'),
    "series of one point": (MATRIX, b'{"values":[[0,"0"]]},', b'{"values":[]}]}}'),
    "many short series": (MATRIX, b'{"values":[[0,"0"]],"metric":{"a":"%s"}},' % (b"x" * 220), b'{"values":[]}]}}'),
    "points in one series": (MATRIX + b'{"values":[', b'[0,""],', b'[0,""]]}]}}'),
    "points of other types": (MATRIX + b'{"values":[', b"[],", b"[]]}]}}"),
    "points in many series": (MATRIX, b'{"values":[%s[0,"0"]]},' % (b'[0,"0"],' * 10_000), b'{"values":[]}]}}'),
    "many instants": (VECTOR, b'{"value":[0,"0"],"metric":{"a":"%s"}},' % (b"x" * 180), b'{"value":[0,"0"]}]}}'),
    "instants": (VECTOR, b'{"value":[0,"0"]},', b'{"value":[0,"0"]}]}}'),
    "labels": (MATRIX + b'{"values":[],"metric":{', b'"a":"b",', b'"a":"b"}}]}}'),
    "warnings": (b'{"status":"success","data":{"result":[]},"warnings":[', b'"ab",', b'"ab"]}'),
    "words of an error": (b'{"status":"error","error":[', b"[],", b"[]]}"),
    "fields nobody asks for": (b'{"status":"success","data":{"result":[]},"more":[', b"[],", b"[]]}"),
    "a document of lists": (b"[", b"[],", b"[]]"),
    "deep lists": (MATRIX, b"[", b""),
}


SMALL = {
    "lists": (b'{"values":[', b"[],", b"[]]}"),
    "objects": (b'{"values":[', b'{"":0},', b"0]}"),
    "experts": (b'{"experts":[', b"{},", b"{}]}"),
    "texts": (b'{"values":[', b'"ab",', b"0]}"),
}


def measure(imports: str, call: str, answers: dict[str, tuple[bytes, bytes, bytes]], size: int) -> Iterator[Any]:
    """For each of ``answers``, how it ended and the MiB that a process needs to read it, beyond it and the program."""
    program = READ.format(imports=imports, call=call, answers=answers, size=size)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return map(json.loads, done.stdout.splitlines())


UNUSABLE = [(MATRIX + b'{"values":[', b"[],", b"[]]}]}}"), (MATRIX, b"[],", b"[]]}}"), (MATRIX, b"[", b"")]


@pytest.mark.parametrize(("head", "unit", "tail"), UNUSABLE)
async def test_a_large_answer_that_cannot_be_used_is_freed_without_a_garbage_collection(
    head: bytes, unit: bytes, tail: bytes
) -> None:
    """A full collection comes once in ten minutes or so: meanwhile every tick would leave another answer behind."""
    body = head + unit * (3 * LARGE // len(unit)) + tail
    request = QueryRequest("query_range", {"query": "x"})
    gc.disable()
    try:
        async with client_of(Server(lambda _: httpx.Response(200, stream=httpx.ByteStream(body)))) as client:
            tracemalloc.start()
            for _ in range(10):
                with pytest.raises(SourceError, match="cannot be used"):
                    await PrometheusApi(client).ask(request, TimeBudget(60.0), urgent=True)
            held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.enable()
    assert held < 2 * len(body)


@pytest.mark.process
def test_an_answer_of_prometheus_takes_few_times_its_body() -> None:
    imports = "from kedastral.adapters.prometheus.answer import RefusedError, find_twins, parse_answer"
    found = list(measure(imports, "find_twins(parse_answer(body))", ANSWERS, BODY_LIMIT))
    assert [kind for kind, _, _ in found] == list(ANSWERS)
    assert {kind for kind, how, _ in found if how == "read"} >= {"points in many series", "many instants"}
    assert [one for one in found if one[2] > MOST] == []


@pytest.mark.process
@pytest.mark.parametrize(
    ("call", "size"), [("read_snapshot(body)", MAX_BYTES), ("read_predict_response(body, 5)", ANSWER_LIMIT)]
)
def test_an_answer_of_a_forecaster_or_a_model_takes_little(call: str, size: int) -> None:
    imports = "from kedastral.wire import read_predict_response, read_snapshot; RefusedError = ValueError"
    found = list(measure(imports, call, SMALL, size))
    assert [kind for kind, _, _ in found] == list(SMALL)
    assert [one for one in found if one[2] > MOST // 2] == []
