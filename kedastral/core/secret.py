# SPDX-License-Identifier: Apache-2.0
"""`Secret`: text that never shows itself in a log, a traceback or a page."""

import attrs


@attrs.frozen(repr=False, str=False)
class Secret:
    """Text to be shown to nobody but the server that asks for it. Raises ValueError where it is empty."""

    _text: str = attrs.field(validator=attrs.validators.min_len(1))

    def reveal(self) -> str:
        """The text itself; only ever put on the wire."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(hidden)"
