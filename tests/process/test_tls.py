# SPDX-License-Identifier: Apache-2.0
"""Whole processes over TLS: both servers of `run`, the split pair, rotation, and settings refused at the start."""

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import grpc
import httpx
import pytest

from kedastral._proto import externalscaler_pb2 as pb
from kedastral.tls import TlsFiles
from tests.certificates import EXPIRED, Authority, mount_secret
from tests.waiting import PATIENCE, wait_for

from .raw_grpc import SERVICE
from .running import ANY_PORT, QUICK, ProcessInput
from .stand_in import StandIn, open_stand_in

pytestmark = pytest.mark.process

TOKEN = "open-sesame"
REF = pb.ScaledObjectRef(name="web", namespace="prod")
SHOP = "/forecast/current?workload=shop"


@pytest.fixture
def prometheus() -> Iterator[StandIn]:
    with open_stand_in() as server:
        yield server


@attrs.define
class Site:
    """A CA, the mounted certificate from it, and the flags that name it."""

    authority: Authority
    mounted: Path

    def renew(self, *names: str) -> TlsFiles:
        """Swap the mounted certificate for a new one."""
        return mount_secret(self.mounted, self.authority.issue(*names, to="issued"))

    def grpc_flags(self) -> dict[str, str]:
        files = self.renew("shop", "127.0.0.1")
        return {
            "--grpc-tls-cert-file": str(files.cert),
            "--grpc-tls-key-file": str(files.key),
            "--grpc-tls-client-ca-file": str(self.authority.file),
        }

    def http_flags(self) -> dict[str, str]:
        files = self.renew("shop", "127.0.0.1")
        token = self.mounted.parent / "token"
        token.write_text(TOKEN + "\n")
        return {
            "--http-tls-cert-file": str(files.cert),
            "--http-tls-key-file": str(files.key),
            "--http-token-file": str(token),
        }

    def channel(self, port: int, name: str = "shop") -> grpc.Channel:
        """A client like KEDA: it trusts the CA and has a certificate from it."""
        keda = self.authority.issue("keda", to="keda")
        assert keda.cert is not None
        assert keda.key is not None
        credentials = grpc.ssl_channel_credentials(
            self.authority.file.read_bytes(), keda.key.read_bytes(), keda.cert.read_bytes()
        )
        return grpc.secure_channel(f"127.0.0.1:{port}", credentials, [("grpc.ssl_target_name_override", name)])

    def fetch(self, port: int, path: str, token: str | None = None) -> httpx.Response:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        context = ssl.create_default_context(cafile=self.authority.file)
        with httpx.Client(verify=context, trust_env=False, timeout=PATIENCE) as client:
            return client.get(f"https://127.0.0.1:{port}{path}", headers=headers)

    def wait_for_forecast(self, port: int) -> Any:
        wait_for(lambda: self.fetch(port, SHOP, TOKEN).status_code == 200, "a forecast")
        return self.fetch(port, SHOP, TOKEN).json()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(Authority(tmp_path / "authority"), tmp_path / "mounted")


def source(prometheus: StandIn) -> dict[str, str]:
    return {
        "--workload": "shop",
        "--prom-url": prometheus.url,
        "--prom-query": "up",
        "--target-per-pod": "100",
        **QUICK,
    }


def replicas(channel: grpc.Channel) -> int:
    call = channel.unary_unary(
        SERVICE + "GetMetrics",
        request_serializer=pb.GetMetricsRequest.SerializeToString,
        response_deserializer=pb.GetMetricsResponse.FromString,
    )
    request = pb.GetMetricsRequest(scaledObjectRef=REF, metricName="desired_replicas")
    return int(call(request, timeout=PATIENCE).metricValues[0].metricValue)


def test_run_serves_both_over_tls_and_asks_for_its_token(prometheus: StandIn, site: Site) -> None:
    flags = {"--http-listen": ANY_PORT, "--grpc-listen": ANY_PORT, "--on-stale": "ride-forecast", **source(prometheus)}
    with ProcessInput("run", {**flags, **site.grpc_flags(), **site.http_flags()}) as process:
        grpc_port, http_port = process.ports("gRPC", "HTTP")
        assert site.wait_for_forecast(http_port)["values"][0] == pytest.approx(700)
        with site.channel(grpc_port) as kept:
            assert replicas(kept) == 9  # 700 / 100 * 1.2
            for path in ("/healthz", "/readyz"):
                assert site.fetch(http_port, path).status_code == 200
            for path in (SHOP, "/metrics"):
                refused = site.fetch(http_port, path)
                assert (refused.status_code, list(refused.json())) == (401, ["error"])
                assert refused.headers["WWW-Authenticate"] == "Bearer"
                assert site.fetch(http_port, path, "wrong").status_code == 401
                assert site.fetch(http_port, path, TOKEN).status_code == 200
            with grpc.insecure_channel(f"127.0.0.1:{grpc_port}") as plain, pytest.raises(grpc.RpcError):
                replicas(plain)
            failure = process.wait_for_log("TLS handshake with 127.0.0.1")
            assert (failure["level"], failure["component"]) == ("warn", "grpc")
            assert failure["msg"].endswith("failed: the client does not speak TLS")

            site.renew("renewed", "127.0.0.1")
            wait_for(lambda: serves_as(site, grpc_port, "renewed"), "the renewed certificate")
            process.wait_for_log("gRPC: new certificates are used from ")
            assert replicas(kept) == 9
        process.popen.terminate()
        assert process.wait() == 0
        assert [event["msg"] for event in process.log if event["level"] not in ("info", "debug")] == [failure["msg"]]
        assert TOKEN not in "".join(process.lines)


def serves_as(site: Site, port: int, name: str) -> bool:
    with site.channel(port, name) as channel:
        try:
            return replicas(channel) > 0
        except grpc.RpcError:
            return False


def remote_flags(site: Site, port: int, **changed: str) -> dict[str, str]:
    token = site.mounted.parent / "remote-token"
    token.write_text(TOKEN)
    return {
        "--listen": ANY_PORT,
        "--http-listen": ANY_PORT,
        "--forecaster-url": f"https://127.0.0.1:{port}",
        "--workload": "shop",
        "--forecaster-ca-file": str(site.authority.file),
        "--forecaster-token-file": str(token),
        **changed,
    }


def test_the_split_pair_works_over_tls_with_a_token(prometheus: StandIn, site: Site, tmp_path: Path) -> None:
    with ProcessInput("forecaster", {"--listen": ANY_PORT, **source(prometheus), **site.http_flags()}) as forecaster:
        [forecaster_port] = forecaster.ports("HTTP")
        site.wait_for_forecast(forecaster_port)
        flags = remote_flags(site, forecaster_port)
        with ProcessInput("scaler", {**flags, **site.grpc_flags()}) as scaler:
            [grpc_port] = scaler.ports("gRPC")
            with site.channel(grpc_port) as channel:
                # the first question waits a second for the forecaster, which a busy machine may take longer for
                wait_for(lambda: replicas(channel) == 9, "the forecaster's plan")
            assert not [event for event in scaler.log if event["level"] not in ("info", "debug")]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("token", "answered 401: it asks for its token"),
        ("authority", "its certificate is refused: "),
        ("name", "its certificate is refused: IP address mismatch"),
        ("expired", "its certificate is refused: certificate has expired"),
        ("plain", "cannot be reached: it does not speak TLS"),
    ],
)
def test_a_forecaster_that_cannot_be_trusted_or_does_not_trust_is_one_line(
    prometheus: StandIn, site: Site, tmp_path: Path, wrong: str, words: str
) -> None:
    flags = site.http_flags()
    if wrong == "name":
        site.renew("another")
    elif wrong == "expired":
        mount_secret(site.mounted, site.authority.issue("127.0.0.1", to="expired", not_after=EXPIRED))
    elif wrong == "plain":
        flags = {}
    with ProcessInput("forecaster", {"--listen": ANY_PORT, **source(prometheus), **flags}) as forecaster:
        [port] = forecaster.ports("HTTP")
        remote = remote_flags(site, port)
        if wrong == "token":
            Path(remote["--forecaster-token-file"]).write_text("open-barley")
        elif wrong == "authority":
            remote["--forecaster-ca-file"] = str(Authority(tmp_path / "other").file)
        with ProcessInput("scaler", remote) as scaler:
            failure = scaler.wait_for_log("cannot read the snapshot")
            assert words in failure["err"]
            assert "\n" not in failure["err"]
            assert TOKEN not in "".join(scaler.lines)
            if wrong == "expired":
                warning = forecaster.wait_for_log("--http-tls-cert-file holds a certificate that has expired")
                assert warning["level"] == "warn"


def test_at_the_start_each_thing_wrong_with_tls_is_one_line(prometheus: StandIn, site: Site) -> None:
    good, other = site.authority.issue("shop", to="one"), site.authority.issue("shop", to="two")
    flags = {
        "--grpc-tls-cert-file": str(good.cert),
        "--grpc-tls-key-file": str(other.key),
        "--http-tls-cert-file": str(good.cert),
        "--prom-ca-file": "/dev/null",
    }
    with ProcessInput("run", {**source(prometheus), **flags}) as process:
        assert process.wait() == 2
        assert len(process.lines) == 3
        assert all(line.startswith("kedastral: --") for line in process.lines)


def test_a_token_that_cannot_be_used_is_one_line(prometheus: StandIn, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("\n")
    listen = {"--http-listen": ANY_PORT, "--grpc-listen": ANY_PORT}
    with ProcessInput("run", {**listen, **source(prometheus), "--http-token-file": str(tmp_path / "token")}) as process:
        assert process.wait() == 2
        [line] = process.lines
        assert line.startswith(f"kedastral: --http-token-file cannot be used: {tmp_path / 'token'} is empty; ")
