# SPDX-License-Identifier: Apache-2.0
"""Contexts whose files are rotated: new handshakes use the new certificate, and broken files are never loaded."""

import logging
import ssl
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from kedastral.errors import ConfigError
from kedastral.tls import (
    LOOK_EVERY,
    RotatingContext,
    TlsFiles,
    find_expiry,
    make_client_context,
    make_public_context,
    make_server_context,
)
from tests.certificates import EXPIRED, Authority, mount_secret

MAKE = partial(make_server_context, alpn=["h2"])


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def trusting(authority: Authority, cert: TlsFiles | None = None) -> ssl.SSLContext:
    """A client that trusts ``authority``, without the code under test."""
    context = ssl.create_default_context(cafile=authority.file)
    if cert is not None and cert.cert is not None:
        context.load_cert_chain(cert.cert, cert.key)
    return context


async def meet(
    server: ssl.SSLContext, client: ssl.SSLContext, name: str = "shop"
) -> tuple[trio.SSLStream[Any], trio.SSLStream[Any]]:
    """A connection with a completed handshake; an error of the client is raised."""
    ours, theirs = trio.testing.memory_stream_pair()
    near = trio.SSLStream(ours, client, server_hostname=name)
    far = trio.SSLStream(theirs, server, server_side=True)

    async def accept() -> None:
        try:
            await far.do_handshake()
            await far.send_all(b"hello")
        except trio.BrokenResourceError:
            await trio.aclose_forcefully(far)

    failure: BaseException | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept)
        try:
            assert await near.receive_some() == b"hello"
        except trio.BrokenResourceError as error:
            failure = error.__cause__ or error
            await trio.aclose_forcefully(near)
    if failure is not None:
        raise failure
    return near, far


def names(stream: trio.SSLStream[Any]) -> set[str]:
    """The names in the certificate of the other side."""
    return {name for _, name in stream.getpeercert()["subjectAltName"]}


async def look_again(clock: trio.testing.MockClock) -> None:
    clock.jump(LOOK_EVERY)
    await trio.lowlevel.checkpoint()


async def test_a_rotated_certificate_is_shown_to_the_next_client_and_open_connections_stay(
    authority: Authority, mock_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "kedastral")
    context = RotatingContext("gRPC", authority.issue("shop"), MAKE)
    near, far = await meet(context, trusting(authority))
    assert names(near) == {"shop"}

    authority.issue("shop", "shop.new")
    await look_again(mock_clock)

    newer, _ = await meet(context, trusting(authority))
    assert names(newer) == {"shop", "shop.new"}
    await near.send_all(b"still here")
    assert await far.receive_some() == b"still here"
    [line] = caplog.messages
    assert line.startswith("gRPC: new certificates are used from /")
    assert newer.selected_alpn_protocol() is None  # the client offered none


async def test_the_swap_of_a_secret_takes_certificate_and_key_together(
    authority: Authority, tmp_path: Path, mock_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    files = mount_secret(tmp_path / "mounted", authority.issue("shop", to="one"))
    context = RotatingContext("gRPC", files, MAKE)
    assert names((await meet(context, trusting(authority)))[0]) == {"shop"}
    for version in ("two", "three"):
        mount_secret(tmp_path / "mounted", authority.issue("shop", version, to=version))
        await look_again(mock_clock)
        assert names((await meet(context, trusting(authority)))[0]) == {"shop", version}
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


def break_key(files: TlsFiles, authority: Authority) -> None:
    assert files.key is not None
    files.key.write_bytes(files.key.read_bytes()[:200])


def swap_key(files: TlsFiles, authority: Authority) -> None:
    other = authority.issue("shop", to="other")
    assert files.key is not None
    assert other.key is not None
    files.key.write_bytes(other.key.read_bytes())


def remove_cert(files: TlsFiles, authority: Authority) -> None:
    assert files.cert is not None
    files.cert.unlink()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (break_key, "not a PEM file of the right kind"),
        (swap_key, "the key does not belong to the certificate"),
        (remove_cert, "No such file or directory"),
    ],
)
async def test_a_broken_pair_keeps_the_old_one_and_is_one_line_until_it_is_whole(
    authority: Authority,
    mock_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
    damage: Any,
    reason: str,
) -> None:
    files = authority.issue("shop")
    context = RotatingContext("gRPC", files, MAKE)
    damage(files, authority)
    for _ in range(5):
        await look_again(mock_clock)
        assert names((await meet(context, trusting(authority)))[0]) == {"shop"}
    [line] = caplog.messages
    assert line.startswith("gRPC: new certificates cannot be used; the old ones stay in use: certificate /")
    assert line.endswith(reason)

    authority.issue("shop", "mended")
    await look_again(mock_clock)
    assert names((await meet(context, trusting(authority)))[0]) == {"shop", "mended"}


async def test_a_pair_that_is_only_half_written_is_not_worth_a_line(
    authority: Authority, mock_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    files = authority.issue("shop")
    context = RotatingContext("gRPC", files, MAKE)
    break_key(files, authority)
    await look_again(mock_clock)
    await meet(context, trusting(authority))
    authority.issue("shop", "whole")
    await look_again(mock_clock)
    assert names((await meet(context, trusting(authority)))[0]) == {"shop", "whole"}
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


async def test_files_that_change_while_they_are_loaded_wait_for_the_next_look(
    authority: Authority, mock_clock: trio.testing.MockClock
) -> None:
    files = authority.issue("shop")

    def make(files: TlsFiles) -> ssl.SSLContext:
        context = MAKE(files)
        authority.issue("shop", "later")
        return context

    context = RotatingContext("gRPC", files, make)
    await look_again(mock_clock)
    assert names((await meet(context, trusting(authority)))[0]) == {"shop"}


async def test_files_are_looked_at_once_a_second_at_most(
    authority: Authority, mock_clock: trio.testing.MockClock
) -> None:
    context = RotatingContext("gRPC", authority.issue("shop"), MAKE)
    await meet(context, trusting(authority))
    authority.issue("shop", "new")
    assert names((await meet(context, trusting(authority)))[0]) == {"shop"}


async def test_who_is_trusted_is_rotated_too_and_the_old_authority_is_not_trusted_any_more(
    authority: Authority, tmp_path: Path, mock_clock: trio.testing.MockClock
) -> None:
    other = Authority(tmp_path / "other")
    pair = authority.issue("shop")
    trusted = tmp_path / "clients.pem"
    trusted.write_bytes(authority.file.read_bytes())
    context = RotatingContext("gRPC", TlsFiles(pair.cert, pair.key, trusted), MAKE)
    old, new = authority.issue("keda", to="old-keda"), other.issue("keda")
    await meet(context, trusting(authority, old))

    trusted.write_bytes(other.file.read_bytes())
    await look_again(mock_clock)

    await meet(context, trusting(authority, new))
    with pytest.raises((ssl.SSLError, trio.BrokenResourceError)):
        await meet(context, trusting(authority, old))


async def test_a_client_takes_up_rotated_files_and_keeps_its_protocols(
    authority: Authority, tmp_path: Path, mock_clock: trio.testing.MockClock
) -> None:
    server_pair = authority.issue("shop", to="server")
    server = MAKE(TlsFiles(server_pair.cert, server_pair.key, authority.file))
    pair = authority.issue("scaler")
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(Authority(tmp_path / "nobody").file.read_bytes())
    files = TlsFiles(pair.cert, pair.key, trusted)
    client = RotatingContext("the forecaster", files, make_client_context)
    client.set_alpn_protocols(["h2"])
    with pytest.raises(ssl.SSLCertVerificationError):
        await meet(server, client)

    trusted.write_bytes(authority.file.read_bytes())
    authority.issue("scaler.new")
    await look_again(mock_clock)

    near, far = await meet(server, client)
    assert names(far) == {"scaler.new"}
    assert near.selected_alpn_protocol() == "h2"
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        await meet(server, client, name="another")


def test_at_the_start_files_that_cannot_be_used_are_an_error_that_says_whose(authority: Authority) -> None:
    files = authority.issue("shop")
    swap_key(files, authority)
    with pytest.raises(ConfigError, match=r"^gRPC: certificate .* the key does not belong to the certificate$"):
        RotatingContext("gRPC", files, MAKE)


def test_a_key_that_is_too_short_is_told_as_such(tmp_path: Path) -> None:
    key = rsa.generate_private_key(65537, 1024)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "shop")])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1)).sign(key, SHA256())
    files = TlsFiles(tmp_path / "tls.crt", tmp_path / "tls.key")
    (tmp_path / "tls.crt").write_bytes(made.public_bytes(Encoding.PEM))
    (tmp_path / "tls.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(ConfigError, match="ee key too small"):
        MAKE(files)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_both_versions_that_are_safe_are_spoken(authority: Authority, version: ssl.TLSVersion) -> None:
    client = trusting(authority)
    client.minimum_version = client.maximum_version = version
    near, _ = await meet(MAKE(authority.issue("shop")), client)
    assert near.version() == version.name.replace("_", ".")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
async def test_tls_1_1_is_refused(authority: Authority) -> None:
    client = trusting(authority)
    client.set_ciphers("ALL:@SECLEVEL=0")
    client.minimum_version = client.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, trio.BrokenResourceError)):
        await meet(MAKE(authority.issue("shop")), client)


@pytest.mark.parametrize("for_client", [False, True])
def test_the_dates_of_a_certificate_are_known_before_anybody_connects(authority: Authority, for_client: bool) -> None:
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    good = authority.issue("shop", not_after=tomorrow)
    expired = authority.issue("shop", to="expired", not_after=EXPIRED)
    assert good.cert is not None
    assert expired.cert is not None
    assert find_expiry(good.cert, good.key, for_client=for_client) is None
    assert find_expiry(expired.cert, expired.key, for_client=for_client) == "has expired"
    assert find_expiry(good.cert, expired.key, for_client=for_client) is None


def pem_of(authority: Authority) -> bytes:
    return authority.ca.cert_pem.bytes()


async def trusts(context: ssl.SSLContext, authority: Authority) -> bool:
    server = make_server_context(authority.issue("shop"), ["h2"])
    try:
        near, far = await meet(server, context)
    except ssl.SSLCertVerificationError:
        return False
    await trio.aclose_forcefully(near)
    await trio.aclose_forcefully(far)
    return True


async def test_the_authorities_of_the_environment_are_trusted_and_no_others(tmp_path: Path) -> None:
    in_file, in_folder, stranger = (Authority(tmp_path / name) for name in ("file", "folder", "stranger"))
    folder = tmp_path / "any-names"
    folder.mkdir()
    (folder / "some-name.crt").write_bytes(pem_of(in_folder))
    (folder / "README").write_text("no certificate")
    (folder / "..data").mkdir()
    both = {"SSL_CERT_FILE": str(in_file.file), "SSL_CERT_DIR": f"/missing:{folder}"}
    context = make_public_context(both)
    assert [await trusts(context, one) for one in (in_file, in_folder, stranger)] == [True, True, False]
    alone = make_public_context({"SSL_CERT_DIR": str(folder), "SSL_CERT_FILE": ""})
    assert [await trusts(alone, one) for one in (in_file, in_folder)] == [False, True]


def test_without_variables_the_worlds_authorities_are_trusted() -> None:
    assert len(make_public_context({"SSL_CERT_FILE": "", "SSL_CERT_DIR": ":"}).get_ca_certs()) > 50


def test_authorities_that_cannot_be_read_are_a_line_each(tmp_path: Path) -> None:
    (tmp_path / "README").write_text("no certificate")
    broken = {"SSL_CERT_FILE": str(tmp_path / "README"), "SSL_CERT_DIR": f"{tmp_path}:{tmp_path / 'missing'}"}
    with pytest.raises(ConfigError) as refused:
        make_public_context(broken)
    of_file, of_folders = refused.value.problems
    assert (
        of_file
        == f"SSL_CERT_FILE cannot be used: {tmp_path}/README: not a PEM file of the right kind; correct it, or unset it"
    )
    assert of_folders.startswith(
        f"SSL_CERT_DIR cannot be used: {tmp_path}: it holds no certificate, {tmp_path}/missing: No"
    )


@pytest.mark.parametrize("value", ["/missing.pem", "/"])
def test_a_file_of_authorities_that_is_none_is_a_line(value: str) -> None:
    with pytest.raises(ConfigError, match=f"^SSL_CERT_FILE cannot be used: {value}: ") as refused:
        make_public_context({"SSL_CERT_FILE": value})
    assert len(refused.value.problems) == 1
