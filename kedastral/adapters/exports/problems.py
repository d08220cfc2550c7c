# SPDX-License-Identifier: Apache-2.0
"""Collects what is wrong in an exported file: one line for each kind of mistake, with its first occurrence."""

from pathlib import Path

import attrs

from kedastral.errors import ConfigError


@attrs.define
class _Mistake:
    line: int | None
    got: str
    times: int = 1


@attrs.define
class FileProblems:
    """What is wrong in the file at ``path``."""

    path: Path
    _found: dict[str, _Mistake] = attrs.field(factory=dict, init=False)

    def add(self, line: int | None, must: str, got: str) -> None:
        """Note that at ``line``, or in the whole file, ``must`` does not hold."""
        known = self._found.get(must)
        if known is None:
            self._found[must] = _Mistake(line, got)
        else:
            known.times += 1

    def raise_any(self) -> None:
        """Raise ConfigError with all of them, if there are any."""
        if self._found:
            raise ConfigError([self._words(must, one) for must, one in self._found.items()])

    def refuse(self, line: int | None, must: str, got: str) -> ConfigError:
        """The error to raise if reading cannot continue after this mistake."""
        self.add(line, must, got)
        return ConfigError([self._words(must, one) for must, one in self._found.items()])

    def _words(self, must: str, one: _Mistake) -> str:
        where = f"{self.path}" if one.line is None else f"{self.path}, line {one.line}"
        more = f" (and {one.times - 1:,} more)" if one.times > 1 else ""
        return f"{where}: {must}; got {one.got}{more}"


def quoted(text: str) -> str:
    """``text`` in quotes, short enough for an error."""
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
