# SPDX-License-Identifier: Apache-2.0
"""`Readiness`: whether the process takes requests, and what /readyz shows besides."""

from collections.abc import Iterable

import attrs


@attrs.define
class Readiness:
    """Ready when every one of ``services`` is up and draining has not begun."""

    _waiting: set[str]
    _draining: bool = attrs.field(default=False, init=False)
    _warnings: dict[str, str] = attrs.field(factory=dict, init=False)

    @classmethod
    def of(cls, services: Iterable[str]) -> "Readiness":
        """Not ready until each of ``services`` has been marked up."""
        return cls(set(services))

    def mark_up(self, service: str) -> None:
        """Note that ``service`` now takes requests."""
        self._waiting.discard(service)

    def begin_drain(self) -> None:
        """Note that the process is stopping: it is never ready again."""
        self._draining = True

    def warn(self, about: str, words: str | None) -> None:
        """Show the warning ``words`` ``about`` something that does not affect readiness; None removes it."""
        if words is None:
            self._warnings.pop(about, None)
        else:
            self._warnings[about] = words

    @property
    def warnings(self) -> list[str]:
        """All current warnings."""
        return [f"{about}: {words}" for about, words in self._warnings.items()]

    @property
    def obstacle(self) -> str | None:
        """Why it is not ready, in words; None if ready."""
        if self._draining:
            return "shutting down"
        if self._waiting:
            return "starting: waiting for " + ", ".join(sorted(self._waiting))
        return None
