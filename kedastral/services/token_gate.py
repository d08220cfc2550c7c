# SPDX-License-Identifier: Apache-2.0
"""`TokenGate`: who may read over HTTP where a bearer token (RFC 6750) is asked for."""

import hmac
import logging
from collections.abc import Callable

import attrs

from kedastral.errors import SourceError

log = logging.getLogger("kedastral.http")


@attrs.frozen
class Refusal:
    """An answer to who may not read: status, words, and what to do (the header WWW-Authenticate)."""

    status: int
    words: str
    challenge: str | None = None


@attrs.define
class TokenGate:
    """``read`` gives the token of this moment, or raises SourceError, and then nobody may read."""

    read: Callable[[], str]
    _broken: bool = attrs.field(default=False, init=False)

    def refuse(self, authorization: str | None) -> Refusal | None:
        """None for who shows the token, in a header Authorization; compared in constant time."""
        try:
            token = self.read()
        except SourceError as error:
            if not self._broken:
                log.warning("nobody may read over HTTP: %s", error)
            self._broken = True
            return Refusal(503, "the token cannot be read")
        if self._broken:
            log.info("the token can be read again")
        self._broken = False
        scheme, _, shown = (authorization or "").partition(" ")
        if scheme.lower() != "bearer":
            return Refusal(401, "a bearer token is required", "Bearer")
        if not hmac.compare_digest(shown.strip().encode(errors="surrogateescape"), token.encode()):
            return Refusal(401, "the bearer token is wrong", 'Bearer error="invalid_token"')
        return None
