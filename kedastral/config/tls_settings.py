# SPDX-License-Identifier: Apache-2.0
"""Settings of TLS and of the token: who our servers are, whom they let in, and how the split scaler asks."""

from pathlib import Path

import attrs

from kedastral.config.fields import setting
from kedastral.config.units import read_file_path, read_secret
from kedastral.core.secret import Secret
from kedastral.tls import TlsFiles


@attrs.frozen(kw_only=True)
class GrpcTls:
    """TLS of the gRPC server."""

    grpc_cert_file: Path | None = setting(
        "--grpc-tls-cert-file",
        "GRPC_TLS_CERT_FILE",
        read_file_path,
        "certificate of the gRPC server with its chain, read again as it is rotated; without it gRPC is plain text",
        kind="file",
    )
    grpc_key_file: Path | None = setting(
        "--grpc-tls-key-file", "GRPC_TLS_KEY_FILE", read_file_path, "key of that certificate", kind="file"
    )
    grpc_client_ca_file: Path | None = setting(
        "--grpc-tls-client-ca-file",
        "GRPC_TLS_CLIENT_CA_FILE",
        read_file_path,
        "authorities of which a gRPC client must have a certificate (mutual TLS); without it any client is served",
        kind="file",
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

    http_cert_file: Path | None = setting(
        "--http-tls-cert-file",
        "HTTP_TLS_CERT_FILE",
        read_file_path,
        "certificate of the HTTP server with its chain, read again as it is rotated; without it HTTP is plain text",
        kind="file",
    )
    http_key_file: Path | None = setting(
        "--http-tls-key-file", "HTTP_TLS_KEY_FILE", read_file_path, "key of that certificate", kind="file"
    )
    http_token_file: Path | None = setting(
        "--http-token-file",
        "HTTP_TOKEN_FILE",
        read_file_path,
        "file that holds the bearer token that all HTTP but the probes asks for, read again as it is rotated",
        kind="file",
    )
    http_token: Secret | None = setting(None, "HTTP_TOKEN", read_secret, "that token itself", kind="secret")

    @property
    def files(self) -> TlsFiles | None:
        """What the server needs for TLS; None where it is to be plain text."""
        return None if self.http_cert_file is None else TlsFiles(self.http_cert_file, self.http_key_file)


@attrs.frozen(kw_only=True)
class RemoteAccess:
    """How the split scaler makes sure of its forecaster, and proves who it is."""

    forecaster_ca_file: Path | None = setting(
        "--forecaster-ca-file",
        "FORECASTER_CA_FILE",
        read_file_path,
        "certificates to trust instead of the system's, read again as they are rotated",
        kind="file",
    )
    forecaster_cert_file: Path | None = setting(
        "--forecaster-cert-file",
        "FORECASTER_CERT_FILE",
        read_file_path,
        "client certificate, for mutual TLS, read again as it is rotated",
        kind="file",
    )
    forecaster_key_file: Path | None = setting(
        "--forecaster-key-file",
        "FORECASTER_KEY_FILE",
        read_file_path,
        "key of the client certificate",
        kind="file",
    )
    forecaster_token_file: Path | None = setting(
        "--forecaster-token-file",
        "FORECASTER_TOKEN_FILE",
        read_file_path,
        "file that holds the bearer token of the forecaster, read again as it is rotated",
        kind="file",
    )
    forecaster_token: Secret | None = setting(
        None, "FORECASTER_TOKEN", read_secret, "the bearer token of the forecaster", kind="secret"
    )

    @property
    def files(self) -> TlsFiles:
        """What the client uses for TLS, beside what it has by itself."""
        return TlsFiles(self.forecaster_cert_file, self.forecaster_key_file, self.forecaster_ca_file)
