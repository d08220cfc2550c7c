# SPDX-License-Identifier: Apache-2.0
"""TLS that cannot work is refused at the start, one line each and all at once; doubtful TLS gives a warning."""

from pathlib import Path
from typing import Any

import pytest

from kedastral.errors import ConfigError
from kedastral.settings.commands import RunSettings, ScalerSettings
from kedastral.settings.load import load
from tests.certificates import EXPIRED, Authority

NEEDED = {"WORKLOAD": "shop", "PROM_URL": "http://p:9090", "PROM_QUERY": "up", "FORECASTER_URL": "https://f:8081"}


@pytest.fixture(scope="module")
def pems(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    authority = Authority(tmp_path_factory.mktemp("tls"))
    good, other = authority.issue("shop"), authority.issue("shop", to="other")
    expired = authority.issue("shop", to="expired", not_after=EXPIRED)
    empty = authority.folder / "empty.pem"
    empty.touch()
    token = authority.folder / "token"
    token.write_text("open-sesame\n")
    split = authority.folder / "split"
    split.write_text("open\nsesame\n")
    found = {
        "cert": good.cert, "key": good.key, "other-key": other.key, "ca": authority.file, "empty": empty,
        "token": token, "split": split,
        "expired-cert": expired.cert, "expired-key": expired.key,
    }  # fmt: skip
    return {name: str(path) for name, path in found.items()}


def problems_of(kind: type[Any], env: dict[str, str], pems: dict[str, str]) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        load(kind, {}, NEEDED | {name: pems.get(text, text) for name, text in env.items()})
    return list(refused.value.problems)


@pytest.mark.parametrize(
    ("kind", "env", "wrong"),
    [
        (RunSettings, {"GRPC_TLS_CERT_FILE": "cert"}, "--grpc-tls-cert-file and --grpc-tls-key-file go together; give"),
        (RunSettings, {"GRPC_TLS_KEY_FILE": "key"}, "--grpc-tls-cert-file and --grpc-tls-key-file go together"),
        (RunSettings, {"HTTP_TLS_CERT_FILE": "cert"}, "--http-tls-cert-file and --http-tls-key-file go together"),
        (
            RunSettings,
            {"GRPC_TLS_CERT_FILE": "cert", "GRPC_TLS_KEY_FILE": "other-key"},
            "--grpc-tls-cert-file and --grpc-tls-key-file cannot be used together: the key does not belong",
        ),
        (
            RunSettings,
            {"HTTP_TLS_CERT_FILE": "empty", "HTTP_TLS_KEY_FILE": "key"},
            "--http-tls-cert-file and --http-tls-key-file cannot be used together: not a PEM file of the right kind",
        ),
        (
            RunSettings,
            {"PROM_CERT_FILE": "cert", "PROM_KEY_FILE": "other-key"},
            "--prom-cert-file and --prom-key-file cannot be used together: the key does not belong",
        ),
        (RunSettings, {"PROM_CA_FILE": "empty"}, "--prom-ca-file cannot be used: not a PEM file of the right kind"),
        (
            RunSettings,
            {"GRPC_TLS_CLIENT_CA_FILE": "ca"},
            "--grpc-tls-client-ca-file needs --grpc-tls-cert-file; set that too",
        ),
        (
            RunSettings,
            {"GRPC_TLS_CERT_FILE": "cert", "GRPC_TLS_KEY_FILE": "key", "GRPC_TLS_CLIENT_CA_FILE": "empty"},
            "--grpc-tls-client-ca-file cannot be used: not a PEM file of the right kind",
        ),
        (RunSettings, {"GRPC_TLS_CERT_FILE": "/nonexistent"}, "--grpc-tls-cert-file must be a file that can be read"),
        (RunSettings, {"HTTP_TOKEN": "x", "HTTP_TOKEN_FILE": "token"}, "--http-token-file and HTTP_TOKEN exclude"),
        (ScalerSettings, {"FORECASTER_CERT_FILE": "cert"}, "--forecaster-cert-file and --forecaster-key-file go"),
        (ScalerSettings, {"FORECASTER_CA_FILE": "empty"}, "--forecaster-ca-file cannot be used: not a PEM"),
        (
            ScalerSettings,
            {"FORECASTER_TOKEN": "x", "FORECASTER_TOKEN_FILE": "token"},
            "--forecaster-token-file and FORECASTER_TOKEN exclude each other; remove one",
        ),
        (RunSettings, {"HTTP_TOKEN": "open\nsesame"}, "HTTP_TOKEN holds characters that no header can carry"),
        (RunSettings, {"PROM_TOKEN": "open\rsesame"}, "PROM_TOKEN holds characters that no header can carry"),
        (ScalerSettings, {"FORECASTER_TOKEN": "sésame"}, "FORECASTER_TOKEN holds characters that no header can carry"),
        (RunSettings, {"HTTP_TOKEN_FILE": "empty"}, "--http-token-file cannot be used: "),
        (RunSettings, {"HTTP_TOKEN_FILE": "split"}, "--http-token-file cannot be used: "),
        (RunSettings, {"PROM_TOKEN_FILE": "empty"}, "--prom-token-file cannot be used: "),
        (RunSettings, {"PROM_USERNAME": "joe", "PROM_PASSWORD_FILE": "empty"}, "--prom-password-file cannot be used: "),
        (ScalerSettings, {"FORECASTER_TOKEN_FILE": "empty"}, "--forecaster-token-file cannot be used: "),
    ],
    ids=str,
)
def test_tls_that_cannot_work_is_one_line(
    kind: type[Any], env: dict[str, str], wrong: str, pems: dict[str, str]
) -> None:
    [problem] = problems_of(kind, env, pems)
    assert problem.startswith(wrong)
    assert "; " in problem
    assert ("; set it with --" in problem) == (", got " in problem)


def test_all_that_is_wrong_is_told_at_once(pems: dict[str, str]) -> None:
    env = {"GRPC_TLS_CERT_FILE": "cert", "HTTP_TLS_KEY_FILE": "key", "PROM_CA_FILE": "empty", "HEADROOM": "0"}
    assert len(problems_of(RunSettings, env, pems)) == 4


@pytest.mark.parametrize(
    ("kind", "env", "words"),
    [
        (
            RunSettings,
            {"GRPC_TLS_CERT_FILE": "expired-cert", "GRPC_TLS_KEY_FILE": "expired-key"},
            ["--grpc-tls-cert-file holds a certificate that has expired, so that nobody will accept it"],
        ),
        (
            RunSettings,
            {"PROM_CERT_FILE": "expired-cert", "PROM_KEY_FILE": "expired-key"},
            ["--prom-cert-file holds a certificate that has expired"],
        ),
        (
            RunSettings,
            {"GRPC_TLS_CERT_FILE": "cert", "GRPC_TLS_KEY_FILE": "key", "GRPC_TLS_CLIENT_CA_FILE": "ca"},
            [],
        ),
        (RunSettings, {"HTTP_TOKEN": "x"}, ["HTTP_TOKEN is sent in plain text by its clients"]),
        (RunSettings, {"HTTP_TOKEN": "x", "HTTP_TLS_CERT_FILE": "cert", "HTTP_TLS_KEY_FILE": "key"}, []),
        (ScalerSettings, {"FORECASTER_TOKEN": "x", "FORECASTER_CA_FILE": "ca"}, []),
        (
            ScalerSettings,
            {"FORECASTER_TOKEN": "x", "FORECASTER_CA_FILE": "ca", "FORECASTER_URL": "http://f"},
            [
                "--forecaster-ca-file is not used, since --forecaster-url is not an https:// address",
                "FORECASTER_TOKEN is sent in plain text, since --forecaster-url is not an https:// address",
            ],
        ),
    ],
    ids=str,
)
def test_tls_that_can_hardly_be_meant_is_warned_of(
    kind: type[Any], env: dict[str, str], words: list[str], pems: dict[str, str]
) -> None:
    loaded = load(kind, {}, NEEDED | {name: pems.get(text, text) for name, text in env.items()})
    assert len(loaded.warnings) == len(words)
    for warning, expected in zip(loaded.warnings, words, strict=True):
        assert warning.startswith(expected)
        assert "; " in warning


def test_secrets_show_in_no_problem_and_no_warning(pems: dict[str, str]) -> None:
    env = {"HTTP_TOKEN": "hush-token", "HTTP_TOKEN_FILE": pems["token"]}
    assert "hush-token" not in "".join(problems_of(RunSettings, env, pems))
    assert "hush-token" not in "".join(load(RunSettings, {}, NEEDED | {"HTTP_TOKEN": "hush-token"}).warnings)


def test_paths_are_those_that_were_given(pems: dict[str, str]) -> None:
    env = {"GRPC_TLS_CERT_FILE": pems["cert"], "GRPC_TLS_KEY_FILE": pems["key"], "GRPC_TLS_CLIENT_CA_FILE": pems["ca"]}
    settings = load(RunSettings, {}, NEEDED | env).settings
    assert settings.grpc_tls.files is not None
    assert settings.grpc_tls.files.cert == Path(pems["cert"])
    assert settings.grpc_tls.files.ca == Path(pems["ca"])
    assert settings.http_access.files is None


def test_scaled_objects_of_whoever_asks_are_warned_of(pems: dict[str, str]) -> None:
    allowed = NEEDED | {"ALLOW_SCALEDOBJECT_WORKLOADS": "true"}
    [warning] = load(RunSettings, {}, allowed).warnings
    assert warning == (
        "--allow-scaledobject-workloads lets whoever reaches the gRPC port define workloads, in the name of any "
        "namespace; set --grpc-tls-client-ca-file, so that only KEDA can"
    )
    tls = {"GRPC_TLS_CERT_FILE": pems["cert"], "GRPC_TLS_KEY_FILE": pems["key"], "GRPC_TLS_CLIENT_CA_FILE": pems["ca"]}
    assert load(RunSettings, {}, allowed | tls).warnings == ()
