# SPDX-License-Identifier: Apache-2.0
"""`Formula`: the part of KEDA's scalingModifiers expressions that the recipes of docs/keda.md need."""

import re
from collections.abc import Mapping

import attrs


@attrs.define
class Formula:
    """The part of KEDA's expression language that a recipe needs: ``max``, ``min``, ``??``, + - * /, names, numbers."""

    tokens: list[str]

    @classmethod
    def of(cls, text: str) -> "Formula":
        tokens = re.findall(r"\d+\.?\d*|\w+|\?\?|[-+*/(),]", text)
        assert "".join(tokens) == text.replace(" ", ""), text
        return cls(tokens)

    def value(self, names: Mapping[str, float | None]) -> float | None:
        """Its value; a name without a value is nil, and so is every expression with it except ``??``."""
        rest = list(self.tokens)
        result = self._sum(rest, names)
        assert not rest, rest
        return result

    def _sum(self, rest: list[str], names: Mapping[str, float | None]) -> float | None:
        left = self._product(rest, names)
        while rest and rest[0] in "+-":
            sign, right = (1 if rest.pop(0) == "+" else -1), self._product(rest, names)
            left = None if left is None or right is None else left + sign * right
        return left

    def _product(self, rest: list[str], names: Mapping[str, float | None]) -> float | None:
        left = self._choice(rest, names)
        while rest and rest[0] in "*/":
            times, right = rest.pop(0) == "*", self._choice(rest, names)
            left = None if left is None or right is None else left * right if times else left / right
        return left

    def _choice(self, rest: list[str], names: Mapping[str, float | None]) -> float | None:
        left = self._atom(rest, names)
        while rest and rest[0] == "??":
            rest.pop(0)
            right = self._atom(rest, names)
            left = right if left is None else left
        return left

    def _atom(self, rest: list[str], names: Mapping[str, float | None]) -> float | None:
        token = rest.pop(0)
        if token == "(" or token in ("max", "min"):
            if token != "(":
                assert rest.pop(0) == "("
            values = [self._sum(rest, names)]
            while rest[0] == ",":
                rest.pop(0)
                values.append(self._sum(rest, names))
            assert rest.pop(0) == ")"
            present = [value for value in values if value is not None]
            return None if len(present) < len(values) else (min if token == "min" else max)(present)
        return float(token) if token[0].isdigit() else names[token]
