# SPDX-License-Identifier: Apache-2.0
"""What must hold between the settings of TLS and of tokens; `kedastral.config.checks` lists these with all others."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kedastral.config.secret_files import find_fault_of_secret
from kedastral.tls import find_expiry, find_fault_of_authorities, find_fault_of_pair

Find = Callable[[Mapping[str, Any]], str | None]


def go_together(cert: str, key: str, key_flag: str) -> Find:
    """A certificate and its key are given both or not at all."""
    return lambda v: f"and {key_flag} go together" if bool(v[cert]) != bool(v[key]) else None


def fit_each_other(cert: str, key: str, key_flag: str) -> Find:
    """A certificate and its key belong to each other."""

    def find(v: Mapping[str, Any]) -> str | None:
        fault = find_fault_of_pair(v[cert], v[key]) if v[cert] and v[key] else None
        return f"and {key_flag} cannot be used together: {fault}" if fault else None

    return find


def holds_authorities(name: str) -> Find:
    """A CA file holds certificates."""

    def find(v: Mapping[str, Any]) -> str | None:
        path: Path | None = v[name]
        fault = find_fault_of_authorities(path) if path else None
        return f"cannot be used: {fault}" if fault else None

    return find


def holds_secret(name: str) -> Find:
    """A file of a token or a password holds one that can be sent; the file is read again at every use."""

    def find(v: Mapping[str, Any]) -> str | None:
        path: Path | None = v[name]
        fault = find_fault_of_secret(path, in_header="token" in name) if path else None
        return f"cannot be used: {path} {fault}" if fault else None

    return find


def needs(name: str, other: str, other_flag: str) -> Find:
    """One setting means nothing without another."""
    return lambda v: f"needs {other_flag}" if v[name] and not v[other] else None


def exclude_each_other(name: str, other: str, other_name: str) -> Find:
    """A secret comes from one place."""
    return lambda v: f"and {other_name} exclude each other" if v[name] and v[other] else None


def is_in_date(cert: str, key: str, *, for_client: bool = False) -> Find:
    """A certificate is valid at this moment."""

    def find(v: Mapping[str, Any]) -> str | None:
        if not (v[cert] and v[key]) or find_fault_of_pair(v[cert], v[key]):
            return None
        words = find_expiry(v[cert], v[key], for_client=for_client)
        return f"holds a certificate that {words}, so that nobody will accept it" if words else None

    return find


def stays_secret(token: str, cert: str) -> Find:
    """A token does not travel in plain text to our server."""

    def find(v: Mapping[str, Any]) -> str | None:
        if v[token] and not v[cert]:
            return "is sent in plain text by its clients, since --http-tls-cert-file is not set"
        return None

    return find


def is_used(name: str) -> Find:
    """What belongs to TLS, or should not be seen, is given for an https:// forecaster."""

    def find(v: Mapping[str, Any]) -> str | None:
        if not v[name] or str(v["forecaster_url"]).startswith("https://"):
            return None
        if "token" in name:
            return "is sent in plain text, since --forecaster-url is no https:// address"
        return "is not used, since --forecaster-url is no https:// address"

    return find
