# SPDX-License-Identifier: Apache-2.0
"""`Readiness`: whether the process may be sent traffic, and if not, why."""

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
        """``service`` takes requests now."""
        self._waiting.discard(service)

    def begin_drain(self) -> None:
        """The process is stopping: never ready again."""
        self._draining = True

    def warn(self, about: str, words: str | None) -> None:
        """Say ``words`` of what is not as it should be, though traffic may come all the same; None takes it back."""
        if words is None:
            self._warnings.pop(about, None)
        else:
            self._warnings[about] = words

    @property
    def warnings(self) -> list[str]:
        """All that `warn` was told and that still holds."""
        return [f"{about}: {words}" for about, words in self._warnings.items()]

    @property
    def obstacle(self) -> str | None:
        """Why not ready, in words; None when ready."""
        if self._draining:
            return "shutting down"
        if self._waiting:
            return "starting: waiting for " + ", ".join(sorted(self._waiting))
        return None
