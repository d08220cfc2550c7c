# SPDX-License-Identifier: Apache-2.0
"""Settings of TLS and of the token: who our servers are, whom they let in, and how the split scaler asks."""

from pathlib import Path

import attrs

from kedastral.config.fields import file_setting, setting
from kedastral.config.units import read_secret
from kedastral.core.secret import Secret
from kedastral.tls import TlsFiles


@attrs.frozen(kw_only=True)
class GrpcTls:
    """TLS of the gRPC server."""

    grpc_cert_file: Path | None = file_setting(
        "--grpc-tls-cert-file",
        "GRPC_TLS_CERT_FILE",
        "certificate of the gRPC server with its chain, read again as it is rotated; without it gRPC is plain text",
    )
    grpc_key_file: Path | None = file_setting("--grpc-tls-key-file", "GRPC_TLS_KEY_FILE", "key of that certificate")
    grpc_client_ca_file: Path | None = file_setting(
        "--grpc-tls-client-ca-file",
        "GRPC_TLS_CLIENT_CA_FILE",
        "authorities of which a gRPC client must have a certificate (mutual TLS); without it any client is served",
    )

    @property
    def files(self) -> TlsFiles | None:
        """What the server needs for TLS; None where it is to be plain text."""
        if self.grpc_cert_file is None:
            return None
        return TlsFiles(self.grpc_cert_file, self.grpc_key_file, self.grpc_client_ca_file)


@attrs.frozen(kw_only=True)
class HttpAccess:
    """TLS of the HTTP server, and the token that its clients need."""

    http_cert_file: Path | None = file_setting(
        "--http-tls-cert-file",
        "HTTP_TLS_CERT_FILE",
        "certificate of the HTTP server with its chain, read again as it is rotated; without it HTTP is plain text",
    )
    http_key_file: Path | None = file_setting("--http-tls-key-file", "HTTP_TLS_KEY_FILE", "key of that certificate")
    http_token_file: Path | None = file_setting(
        "--http-token-file",
        "HTTP_TOKEN_FILE",
        "file that holds the bearer token that all HTTP but the probes asks for, read again as it is rotated",
    )
    http_token: Secret | None = setting(None, "HTTP_TOKEN", read_secret, "that token itself", kind="secret")

    @property
    def files(self) -> TlsFiles | None:
        """What the server needs for TLS; None where it is to be plain text."""
        return None if self.http_cert_file is None else TlsFiles(self.http_cert_file, self.http_key_file)


@attrs.frozen(kw_only=True)
class RemoteAccess:
    """How the split scaler makes sure of its forecaster, and proves who it is."""

    forecaster_ca_file: Path | None = file_setting(
        "--forecaster-ca-file",
        "FORECASTER_CA_FILE",
        "certificates to trust instead of the system's, read again as they are rotated",
    )
    forecaster_cert_file: Path | None = file_setting(
        "--forecaster-cert-file",
        "FORECASTER_CERT_FILE",
        "client certificate, for mutual TLS, read again as it is rotated",
    )
    forecaster_key_file: Path | None = file_setting(
        "--forecaster-key-file", "FORECASTER_KEY_FILE", "key of the client certificate"
    )
    forecaster_token_file: Path | None = file_setting(
        "--forecaster-token-file",
        "FORECASTER_TOKEN_FILE",
        "file that holds the bearer token of the forecaster, read again as it is rotated",
    )
    forecaster_token: Secret | None = setting(
        None, "FORECASTER_TOKEN", read_secret, "the bearer token of the forecaster", kind="secret"
    )

    @property
    def files(self) -> TlsFiles:
        """What the client uses for TLS, beside what it has by itself."""
        return TlsFiles(self.forecaster_cert_file, self.forecaster_key_file, self.forecaster_ca_file)
