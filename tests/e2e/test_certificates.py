# SPDX-License-Identifier: Apache-2.0
"""TLS and mutual TLS between KEDA and Kedastral, with certificates that change while both run."""

import base64
import socket
import ssl
from pathlib import Path

import pytest
import trustme
import yaml

from tests.docs.pages import ROOT, read
from tests.e2e.case import PROMPT, Case, Kedastral, external, scaled_object
from tests.e2e.load import rush
from tests.e2e.programs import wait_for
from tests.e2e.test_pods_of_kedastral import lost_syncs

pytestmark = pytest.mark.e2e
LOW, HIGH, PER_POD, LEAD = 300.0, 2400.0, 200.0, 60.0
NEED, BEGIN, END = 12, 160.0, 280.0
AUTHENTICATION = ROOT / "deploy" / "production-tls" / "trigger-authentication.yaml"


def test_tls_and_mutual_tls_with_rotation(case: Case) -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    case.start_load(web=rush(LOW, HIGH, BEGIN, END))
    pods = {name: start_with_tls(case, name, authority) for name in ("tls", "mutual")}
    case.apply(read(AUTHENTICATION))
    write_client(case, "kedastral-client", authority, authority)
    write_client(case, "stranger-client", authority, stranger)
    case.apply(
        read(AUTHENTICATION)
        .replace("kedastral-client", "stranger-client")
        .replace("name: kedastral\n", "name: stranger\n")
    )
    for app, pod, authentication in (
        ("tls", "tls", "kedastral"), ("mutual", "mutual", "kedastral"), ("stranger", "mutual", "stranger")
    ):  # fmt: skip
        case.deploy(app)
        trigger = external(case.scaler_address(pod), enableTLS="true")
        trigger["authenticationRef"] = {"name": authentication}
        assert case.apply(scaled_object(app, [trigger])) == []
    timelines = {app: case.record(app, PER_POD, load="web") for app in ("tls", "mutual", "stranger")}
    case.until(BEGIN)
    before = {app: lost_syncs(case, app) for app in ("tls", "mutual")}
    for name, kedastral in pods.items():
        rotate(case, name, kedastral, authority)
    write_client(case, "kedastral-client", authority, authority)
    case.mark("new certificates on both sides")
    case.until(BEGIN + 40)
    after = {app: lost_syncs(case, app) for app in ("tls", "mutual")}
    for kedastral in pods.values():
        kedastral.program.stop()  # so that KEDA reconnects with the current files
        kedastral.start()
    case.mark("Kedastral starts again")
    case.until(END - 20)
    settled = {app: lost_syncs(case, app) for app in ("tls", "mutual")}
    case.until(END - 5)

    assert after == before, "no sync is lost by new certificates"
    assert {app: lost_syncs(case, app) for app in ("tls", "mutual")} == settled, "connected again"
    for app in ("tls", "mutual"):
        assert timelines[app].ready(BEGIN - 1, BEGIN)[-1] >= NEED
        assert not timelines[app].falls(BEGIN, END - 5)
    assert set(timelines["stranger"].replicas(0, END - 5)) == {2}, "whom Kedastral does not know gets no answer"


def start_with_tls(case: Case, name: str, authority: trustme.CA) -> Kedastral:
    """A Kedastral with a certificate; ``mutual`` also asks its clients for one."""
    folder = write_server(case, name, authority)
    flags = {"grpc_tls_cert_file": str(folder / "tls.crt"), "grpc_tls_key_file": str(folder / "tls.key")}
    if name == "mutual":
        flags["grpc_tls_client_ca_file"] = str(folder / "ca.crt")
    return case.start_kedastral(name, **case.forecast_of("web", PER_POD, LEAD), **PROMPT, **flags)


def write_server(case: Case, name: str, authority: trustme.CA) -> Path:
    """Replace the certificate of ``name`` with a new one."""
    folder = case.home / name
    folder.mkdir(exist_ok=True)
    pair = authority.issue_cert(f"{name}.{case.namespace}.svc.cluster.local")
    files = {
        "ca.crt": authority.cert_pem.bytes(),
        "tls.key": pair.private_key_pem.bytes(),
        "tls.crt": b"".join(blob.bytes() for blob in pair.cert_chain_pems),
    }
    for file, content in files.items():
        new = folder / f"{file}.new"
        new.write_bytes(content)
        new.replace(folder / file)
    return folder


def rotate(case: Case, name: str, kedastral: Kedastral, authority: trustme.CA) -> None:
    """Write a new certificate, and wait until it is served."""
    old = served_by(kedastral)
    write_server(case, name, authority)
    wait_for(lambda: served_by(kedastral) not in (b"", old), f"{name} serves its new certificate", 90)


def write_client(case: Case, secret: str, server: trustme.CA, own: trustme.CA) -> None:
    """KEDA's Secret: a new certificate from ``own``, and the CA of Kedastral's."""
    pair = own.issue_cert("keda-operator.keda.svc")
    chain = b"".join(blob.bytes() for blob in pair.cert_chain_pems)
    data = {"ca.crt": server.cert_pem.bytes(), "tls.crt": chain, "tls.key": pair.private_key_pem.bytes()}
    encoded = {key: base64.b64encode(value).decode() for key, value in data.items()}
    document = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": secret}, "data": encoded}
    case.apply(yaml.safe_dump(document))


def served_by(kedastral: Kedastral) -> bytes:
    """The certificate of its gRPC port; empty while it does not answer."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    try:
        with socket.create_connection(kedastral.listens, timeout=2) as raw, context.wrap_socket(raw) as secure:
            return secure.getpeercert(binary_form=True) or b""
    except OSError:
        return b""
