# SPDX-License-Identifier: Apache-2.0
"""If a token is required, only the probes answer without it, and a rotated one applies at once."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from quart_trio import QuartTrio

from kedastral.adapters.http import SecretText, find_token, read_token
from kedastral.core.planning.stale_policy import StalePolicy
from kedastral.errors import ConfigError
from kedastral.secrets import Secret
from kedastral.serving.metrics import Metrics
from kedastral.serving.readiness import Readiness
from kedastral.serving.snapshot_api import SnapshotView, create_app
from kedastral.serving.store import MemoryStore
from kedastral.serving.token_gate import TokenGate
from tests.parts import make_snapshot, wall_clock

SHOWN = (
    "/forecast/current?workload=shop",
    "/explain?workload=shop",
    "/metrics",
    "/openapi.json",
    "/api/workloads",
    "/api/workloads/shop",
)


async def make_app(token: SecretText) -> QuartTrio:
    store = MemoryStore()
    await store.put(make_snapshot())
    view = SnapshotView(store, lambda _: StalePolicy(120.0), wall_clock())
    gate = TokenGate(lambda: read_token(token))
    return create_app(view, Readiness.of(()), Metrics().registry, gate=gate)


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("open-sesame\n")
    return path


@pytest.fixture
async def app(token_file: Path) -> QuartTrio:
    return await make_app(SecretText("HTTP token", file=token_file))


def write(path: Path, content: bytes | None) -> None:
    """Replace a file's content; None removes it."""
    path.unlink(missing_ok=True)
    if content is not None:
        path.write_bytes(content)


async def ask(app: QuartTrio, path: str, authorization: str | None = None, method: str = "GET") -> Any:
    headers = {} if authorization is None else {"Authorization": authorization}
    return await app.test_client().open(path, method=method, headers=headers)


@pytest.mark.parametrize("path", [*SHOWN, "/nowhere", "/healthz/"])
@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer ", "Bearer open-sesam", "Bearer open-sesame2", "bearer OPEN-SESAME",
     "Basic open-sesame", "Basic b3Blbi1zZXNhbWU6", "open-sesame", "Bearer tökén", "Bearer open-sesame, Bearer x"],
)  # fmt: skip
async def test_without_the_token_nothing_is_shown(app: QuartTrio, path: str, authorization: str | None) -> None:
    response = await ask(app, path, authorization)
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"].startswith("Bearer")
    assert list(json.loads(await response.get_data(as_text=True))) == ["error"]
    assert "X-Request-Id" in response.headers


@pytest.mark.parametrize("path", SHOWN)
@pytest.mark.parametrize("authorization", ["Bearer open-sesame", "bearer open-sesame", "BEARER   open-sesame "])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_with_the_token_all_is_shown(app: QuartTrio, path: str, authorization: str, method: str) -> None:
    assert (await ask(app, path, authorization, method)).status_code == 200


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/healthz?x=1"])
async def test_probes_need_no_token(app: QuartTrio, path: str) -> None:
    assert (await ask(app, path)).status_code == 200
    assert (await ask(app, path, "Bearer wrong")).status_code == 200


async def test_a_rotated_token_counts_at_once(app: QuartTrio, token_file: Path) -> None:
    write(token_file, b"open-barley\n")
    assert (await ask(app, "/metrics", "Bearer open-sesame")).status_code == 401
    assert (await ask(app, "/metrics", "Bearer open-barley")).status_code == 200


@pytest.mark.parametrize("damage", [None, b"", b"\xff\x00"])
async def test_a_token_that_cannot_be_read_shuts_all_but_the_probes_and_is_one_line(
    app: QuartTrio, token_file: Path, damage: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "kedastral")
    write(token_file, damage)
    for authorization in ("Bearer open-sesame", "Bearer ", None):
        response = await ask(app, "/metrics", authorization)
        assert response.status_code == 503
        assert await response.get_json() == {"error": "the token cannot be read"}
    assert (await ask(app, "/healthz")).status_code == 200
    [line] = caplog.messages
    assert line.startswith(f"nobody can read over HTTP: the HTTP token file {token_file} ")
    write(token_file, b"open-sesame")
    assert (await ask(app, "/metrics", "Bearer open-sesame")).status_code == 200
    assert caplog.messages[1:] == ["the token can be read again"]


async def test_a_token_from_the_environment_works_alike() -> None:
    app = await make_app(SecretText("HTTP token", given=Secret("open-sesame")))
    assert (await ask(app, "/metrics")).status_code == 401
    assert (await ask(app, "/metrics", "Bearer open-sesame")).status_code == 200


@pytest.mark.parametrize("content", [b"", b"\n", b"two\nlines\n", b" padded", b"\xff"])
def test_a_token_that_no_header_can_carry_is_refused_at_the_start(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match="the HTTP token") as refused:
        find_token("HTTP token", None, file)
    assert len(refused.value.problems) == 1
    assert "lines" not in str(refused.value)
    assert find_token("HTTP token", None, None) is None
