# SPDX-License-Identifier: Apache-2.0
"""`TokenGate`: only requests with the bearer token may read over HTTP."""

import hmac
import logging
from collections.abc import Callable

import attrs

from kedastral.errors import SourceError

log = logging.getLogger("kedastral.http")


@attrs.frozen
class TokenRefusal:
    """The answer to a request without the token; ``challenge`` is the header WWW-Authenticate."""

    status: int
    words: str
    challenge: str | None = None


@attrs.define
class TokenGate:
    """Lets only requests with the bearer token read (RFC 6750).

    ``read`` returns the current token. It may raise SourceError, and then nobody may read.
    """

    read: Callable[[], str]
    _broken: bool = attrs.field(default=False, init=False)

    def refuse(self, authorization: str | None) -> TokenRefusal | None:
        """None if the header ``authorization`` has the token; compared in constant time."""
        try:
            token = self.read()
        except SourceError as error:
            if not self._broken:
                log.warning("nobody can read over HTTP: %s", error)
            self._broken = True
            return TokenRefusal(503, "the token cannot be read")
        if self._broken:
            log.info("the token can be read again")
        self._broken = False
        scheme, _, shown = (authorization or "").partition(" ")
        if scheme.lower() != "bearer":
            return TokenRefusal(401, "a bearer token is required", "Bearer")
        if not hmac.compare_digest(shown.strip().encode(errors="surrogateescape"), token.encode()):
            return TokenRefusal(401, "the bearer token is wrong", 'Bearer error="invalid_token"')
        return None
