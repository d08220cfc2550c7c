# SPDX-License-Identifier: Apache-2.0
"""Authentication whose secrets are read where they are used, since Kubernetes rotates the files they live in."""

import base64
from collections.abc import Generator
from pathlib import Path

import attrs
import httpx

from kedastral.adapters.http_client import one_line
from kedastral.config.secret_files import fits_header, read_secret_file
from kedastral.core.secret import Secret
from kedastral.errors import ConfigError, SourceError


@attrs.frozen
class SecretText:
    """A secret that was given, or the file it is read from each time.

    Reading blocks: the file is a few bytes of a mounted volume, which costs less than a thread would.
    """

    what: str
    given: Secret | None = None
    file: Path | None = None

    def read(self) -> str:
        """The secret, without a trailing newline; raises SourceError naming the file, never the text."""
        if self.file is None:
            return self.given.reveal() if self.given is not None else ""
        try:
            return read_secret_file(self.file)
        except ValueError as error:
            shown = one_line(str(self.file), 200)
            raise SourceError(f"the {self.what} file {shown} {error}", reason="credentials") from error.__cause__


@attrs.frozen
class BasicAuth(httpx.Auth):
    """User and password (RFC 7617, UTF-8)."""

    username: str
    password: SecretText

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Raises SourceError where the password cannot be read."""
        pair = f"{self.username}:{self.password.read()}"
        request.headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        yield request


@attrs.frozen
class BearerAuth(httpx.Auth):
    """A bearer token (RFC 6750)."""

    token: SecretText

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Raises SourceError where the token cannot be read, or is none that a header can carry."""
        request.headers["Authorization"] = f"Bearer {read_token(self.token)}"
        yield request


def read_token(text: SecretText) -> str:
    """A bearer token; raises SourceError where it cannot be read, or is none that a header can carry."""
    token = text.read()
    if not fits_header(token):
        raise SourceError(f"the {text.what} holds characters that no header can carry", reason="credentials")
    return token


def find_token(what: str, given: Secret | None, file: Path | None) -> SecretText | None:
    """The token that was given, if any; raises ConfigError where it cannot be used as it is now."""
    if given is None and file is None:
        return None
    text = SecretText(what, given, file)
    try:
        read_token(text)
    except SourceError as error:
        raise ConfigError([str(error)]) from error
    return text
