# SPDX-License-Identifier: Apache-2.0
"""The types of value a setting can have, and how each is read from text, strictly.

A setting's annotation is its type; `value_type` finds the reader for it. Every reader raises a ValueError whose message
completes the sentence "must be ...".
"""

import math
import os
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from types import UnionType
from typing import Any, NamedTuple, NewType, Union, get_args, get_origin
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import attrs

from kedastral.secrets import Secret

Seconds = NewType("Seconds", float)
HttpUrl = NewType("HttpUrl", str)
KeyPrefix = NewType("KeyPrefix", str)
Name = NewType("Name", str)
PromQL = NewType("PromQL", str)
PodTarget = NewType("PodTarget", float)
"""The load that one pod sustains: a number, or `AUTO`."""
InputFile = NewType("InputFile", Path)
OutputFile = NewType("OutputFile", Path)
ConfigPath = NewType("ConfigPath", Path)
DirectoryPath = NewType("DirectoryPath", Path)
Header = tuple[str, str]
OWN_PARAMS = frozenset({"query", "start", "end", "step", "time"})
"""Parameters of a request to Prometheus that only Kedastral sets."""
UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
MAX_DURATION = timedelta(days=3660).total_seconds()
MAX_PREFIX_LENGTH = 100
MAX_NAME_LENGTH = 253
"""That of an object in Kubernetes. Names are used in metric labels and URLs."""
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|[smhdw]))+", re.ASCII)
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhdw])", re.ASCII)
_INTEGER = re.compile(r"[+-]?\d{1,18}", re.ASCII)
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TRUE, _FALSE = {"true", "1", "yes", "on"}, {"false", "0", "no", "off"}


class QueryParam(NamedTuple):
    """A parameter that is sent with each query."""

    name: str
    value: str


@attrs.frozen
class ListenAddress:
    """Where a server listens; an empty ``host`` is every IPv4 and IPv6 address, ``port`` 0 any free port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class RedisKind(StrEnum):
    """The kind of server at a Redis address."""

    SERVER = "server"
    SOCKET = "socket"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


@attrs.frozen
class RedisAddress:
    """Where a Redis is: a server, a Unix socket (``path``), a primary that Sentinels know by name, or a cluster.

    ``nodes`` are host and port of the server, of the Sentinels, or of some nodes of the cluster. With ``tls``, all
    connections use TLS.
    """

    kind: RedisKind
    nodes: tuple[tuple[str, int], ...] = ()
    tls: bool = False
    database: int = 0
    path: str = ""
    primary: str = ""

    def __str__(self) -> str:
        database = f"/{self.database}" if self.database else ""
        if self.kind is RedisKind.SOCKET:
            return f"unix://{self.path}" + (f"?db={self.database}" if self.database else "")
        scheme = ("rediss" if self.tls else "redis") + ("" if self.kind is RedisKind.SERVER else f"+{self.kind}")
        nodes = ",".join(str(ListenAddress(host, port)) for host, port in self.nodes)
        return f"{scheme}://{nodes}" + (f"/{self.primary}" if self.primary else "") + database


REDIS_FORMS = (
    "an address such as redis://host:6379/0, rediss://host:6379, unix:///path/to/socket, "
    "redis+sentinel://host:26379,host:26379/primary or redis+cluster://host:6379,host:6379"
)
_REDIS_PORTS = {RedisKind.SERVER: 6379, RedisKind.SENTINEL: 26379, RedisKind.CLUSTER: 6379}
_REDIS_DATABASE = re.compile(r"\d{1,4}", re.ASCII)


def read_redis_address(text: str) -> RedisAddress:
    """One of `REDIS_FORMS`, each with ``rediss`` for TLS; without credentials, which would end up in logs."""
    scheme, separator, rest = text.partition("://")
    kind = scheme.partition("+")[2] or ("socket" if scheme == "unix" else "server")
    if not separator or not text.isprintable() or " " in text or "#" in text:
        raise ValueError(REDIS_FORMS)
    if "@" in rest:
        raise ValueError("an address without user and password in it (they have settings of their own)")
    if scheme == "unix":
        path, _, query = rest.partition("?")
        key, _, database = query.partition("=")
        if not path.startswith("/") or (query and key != "db"):
            raise ValueError(REDIS_FORMS)
        return RedisAddress(RedisKind.SOCKET, database=_read_database(database), path=path)
    if scheme.partition("+")[0] not in ("redis", "rediss") or kind not in _REDIS_PORTS or "?" in rest:
        raise ValueError(REDIS_FORMS)
    return _read_redis_servers(RedisKind(kind), scheme.startswith("rediss"), rest)


def _read_redis_servers(kind: RedisKind, tls: bool, rest: str) -> RedisAddress:
    hosts, *path = rest.rstrip("/").split("/")
    primary = ""
    if kind is RedisKind.SENTINEL:
        if not path or not path[0]:
            raise ValueError(
                "an address that names the Sentinels' primary: redis+sentinel://host:26379,host:26379/primary"
            )
        primary, *path = path
    nodes = tuple(_read_node(host, _REDIS_PORTS[kind]) for host in hosts.split(","))
    if len(path) > 1 or (path and kind is RedisKind.CLUSTER) or (len(nodes) > 1 and kind is RedisKind.SERVER):
        raise ValueError(REDIS_FORMS)
    return RedisAddress(kind, nodes, tls, _read_database(path[0] if path else ""), primary=primary)


def _read_node(text: str, port: int) -> tuple[str, int]:
    try:
        url = urlsplit(f"//{text}")
        host, given = url.hostname, url.port
    except ValueError:
        raise ValueError(REDIS_FORMS) from None
    if not host or given == 0:
        raise ValueError(REDIS_FORMS)
    return host, given or port


def _read_database(text: str) -> int:
    if text and not _REDIS_DATABASE.fullmatch(text):
        raise ValueError("an address whose database is a number, such as redis://host:6379/0")
    return int(text or 0)


def read_key_prefix(text: str) -> KeyPrefix:
    """A key prefix: printable, without spaces and braces, which would put all keys into one hash slot of a cluster."""
    if not text or not text.isprintable() or len(text) > MAX_PREFIX_LENGTH or set(text) & set(" {}"):
        raise ValueError(f"1 to {MAX_PREFIX_LENGTH} printable characters without spaces and braces")
    return KeyPrefix(text)


def read_duration(text: str) -> Seconds:
    """Seconds, to the millisecond, from ``30s``, ``5m``, ``1h30m``, ``14d``."""
    if not _DURATION.fullmatch(text):
        raise ValueError("a duration such as 30s, 5m, 1h30m or 14d")
    seconds = sum(Decimal(amount) * Decimal(str(UNITS[unit])) for amount, unit in _PART.findall(text))
    if seconds > MAX_DURATION:
        raise ValueError("a duration of at most ten years")
    if seconds * 1000 % 1:
        raise ValueError("a duration of whole milliseconds")
    return Seconds(float(seconds))


def write_duration(seconds: float) -> str:
    """The shortest way to write a duration: 5400 is ``1h30m``."""
    rest = round(seconds * 1000)
    text = ""
    for unit in ("d", "h", "m", "s", "ms"):
        amount, rest = divmod(rest, round(UNITS[unit] * 1000))
        text += f"{amount}{unit}" if amount else ""
    return text or "0s"


def read_integer(text: str) -> int:
    """A whole number in plain digits: ``5.9`` and ``5_000`` are refused."""
    if not _INTEGER.fullmatch(text):
        raise ValueError("a whole number")
    return int(text)


def read_number(text: str) -> float:
    """A finite number; NaN and infinity are refused."""
    if not _NUMBER.fullmatch(text) or not math.isfinite(float(text)):
        raise ValueError("a finite number")
    return float(text)


class Auto(float):
    """To be derived from the history; infinite, so that no plan takes it for a number."""

    def __repr__(self) -> str:
        return "auto"


AUTO = Auto("inf")


def read_pod_target(text: str) -> PodTarget:
    """A finite number, or ``auto``."""
    if text == "auto":
        return PodTarget(AUTO)
    try:
        return PodTarget(read_number(text))
    except ValueError:
        raise ValueError("a finite number, or auto") from None


def read_boolean(text: str) -> bool:
    """``true`` or ``false``, or one of their usual other spellings."""
    word = text.lower()
    if word not in _TRUE | _FALSE:
        raise ValueError("true or false")
    return word in _TRUE


def read_name(text: str) -> Name:
    """A name that is not blank, without control characters; spaces around it are dropped."""
    name = text.strip()
    if not name:
        raise ValueError("a name, not empty")
    if not name.isprintable():
        raise ValueError("a name without control characters")
    return Name(name)


def read_query(text: str) -> PromQL:
    """Any text that is not blank; a query may have several lines."""
    if not text.strip():
        raise ValueError("text, not empty")
    return PromQL(text.strip())


def read_zone(text: str) -> ZoneInfo:
    """A time zone by its name in the IANA database."""
    try:
        return ZoneInfo(text)
    except (ValueError, OSError, KeyError):  # ZoneInfoNotFoundError is a KeyError
        raise ValueError("a time zone such as UTC or Europe/Berlin") from None


def read_secret(text: str) -> Secret:
    """A secret, without the line end that files and variables often carry."""
    if not text.strip():
        raise ValueError("text, not empty")
    return Secret(text.strip())


def read_url(text: str) -> HttpUrl:
    """An http or https address, without credentials in it, which would end up in logs and process lists."""
    try:
        url = urlsplit(text)
        usable = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        usable = False
    if not usable or not text.isprintable() or " " in text:
        raise ValueError("an http:// or https:// URL")
    if "@" in url.netloc:
        raise ValueError("a URL without user and password in it (they have settings of their own)")
    if url.query or url.fragment:
        raise ValueError("a URL without ?query and #fragment")
    return HttpUrl(text.rstrip("/"))


def read_urls(text: str) -> tuple[HttpUrl, ...]:
    """Addresses as `read_url` takes them, separated by commas or line ends."""
    return tuple(read_url(one.strip()) for one in re.split(r"[,\n]", text) if one.strip())


def read_listen_address(text: str) -> ListenAddress:
    """``:8080`` (all addresses), ``127.0.0.1:8080``, ``[::1]:8080`` or ``localhost:8080``."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError("an address such as :8080, 127.0.0.1:8080 or [::1]:8080")
    if not colon or not port.isascii() or not port.isdigit() or " " in host or not host.isprintable():
        raise ValueError("an address such as :8080, 127.0.0.1:8080 or [::1]:8080")
    if len(port) > 5 or int(port) > 65535:
        raise ValueError("an address whose port is at most 65535")
    return ListenAddress(host, int(port))


def read_headers(text: str) -> tuple[Header, ...]:
    """``Name: value``, one per line."""
    headers = []
    for line in filter(None, map(str.strip, text.splitlines())):
        name, colon, value = line.partition(":")
        if not colon or not _HEADER_NAME.fullmatch(name) or not value.strip().isprintable() or not value.isascii():
            raise ValueError("headers written 'Name: value', one per line")
        headers.append((name, value.strip()))
    return tuple(headers)


def read_query_params(text: str) -> tuple[QueryParam, ...]:
    """``name=value``, one per line; a name may be repeated."""
    return tuple(make_query_param(*line.partition("=")) for line in filter(None, map(str.strip, text.splitlines())))


def make_query_param(name: str, equals: str, value: str) -> QueryParam:
    """One parameter; ``equals`` is the sign between its name and value. Raises ValueError if it is missing."""
    if name in OWN_PARAMS:
        raise ValueError(f"other parameters than {', '.join(sorted(OWN_PARAMS))}, which are Kedastral's own")
    if not equals or not name or not f"{name}{value}".isprintable() or " " in name:
        raise ValueError("parameters written 'name=value', one per line")
    return QueryParam(name, value)


def read_file_path(text: str) -> InputFile:
    """A file that exists and can be read."""
    path = InputFile(Path(text))
    try:
        with path.open("rb") as file:
            file.read(1)
    except (OSError, ValueError) as error:
        raise ValueError(f"a file that can be read ({getattr(error, 'strerror', None) or error})") from error
    return path


def read_file_paths(text: str) -> tuple[InputFile, ...]:
    """Files that exist and can be read, one per line."""
    return tuple(read_file_path(line) for line in filter(None, map(str.strip, text.splitlines())))


def read_output_path(text: str) -> OutputFile:
    """A file that can be written: its folder exists, and it is not a folder itself."""
    path = OutputFile(Path(text))
    folder = path.parent
    if "\0" in text or path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise ValueError("a file in an existing folder that can be written to")
    return path


@attrs.frozen
class ReadChoice:
    """Reads one of the words of ``kind``."""

    kind: type[StrEnum]

    @property
    def words(self) -> list[str]:
        """All the words."""
        return [str(word) for word in self.kind]

    def __call__(self, text: str) -> StrEnum:
        """The word, or ValueError."""
        try:
            return self.kind(text)
        except ValueError:
            raise ValueError("one of " + ", ".join(self.words)) from None


def read_key_part(text: str) -> Name:
    """A name that can be part of ``namespace/name``."""
    name = read_name(text)
    if "/" in name:
        raise ValueError("a name without /")
    if len(name) > MAX_NAME_LENGTH:
        raise ValueError(f"a name of at most {MAX_NAME_LENGTH} characters")
    return name


def read_names(text: str) -> tuple[Name, ...]:
    """Names, separated by commas or line ends."""
    return tuple(read_key_part(name) for name in re.split(r"[,\n]", text) if name.strip())


def read_config_path(text: str) -> ConfigPath:
    """A file or a folder that exists."""
    path = ConfigPath(Path(text))
    try:
        path.stat()
    except (OSError, ValueError) as error:
        words = getattr(error, "strerror", None) or error
        raise ValueError(f"an existing file or folder ({words})") from error
    return path


def read_directory_path(text: str) -> DirectoryPath:
    """A directory, which need not exist yet."""
    path = DirectoryPath(Path(text))
    try:
        usable = bool(text.strip()) and (path.is_dir() or not path.exists())
    except (OSError, ValueError):
        usable = False
    if not usable:
        raise ValueError("a directory, which is created if it is missing")
    return path


@attrs.frozen
class ValueType:
    """A type of value: its name in documentation, and its reader."""

    name: str
    read: Callable[[str], Any]


_TYPES: Mapping[object, ValueType] = {
    bool: ValueType("boolean", read_boolean),
    int: ValueType("integer", read_integer),
    float: ValueType("number", read_number),
    PodTarget: ValueType("number", read_pod_target),
    Seconds: ValueType("duration", read_duration),
    ZoneInfo: ValueType("time zone", read_zone),
    Name: ValueType("name", read_name),
    tuple[Name, ...]: ValueType("names", read_names),
    PromQL: ValueType("PromQL", read_query),
    HttpUrl: ValueType("URL", read_url),
    tuple[HttpUrl, ...]: ValueType("URLs", read_urls),
    RedisAddress: ValueType("Redis URL", read_redis_address),
    KeyPrefix: ValueType("name", read_key_prefix),
    ListenAddress: ValueType("address", read_listen_address),
    Secret: ValueType("secret", read_secret),
    tuple[Header, ...]: ValueType("header", read_headers),
    tuple[QueryParam, ...]: ValueType("parameter", read_query_params),
    InputFile: ValueType("file", read_file_path),
    tuple[InputFile, ...]: ValueType("files", read_file_paths),
    OutputFile: ValueType("file", read_output_path),
    ConfigPath: ValueType("path", read_config_path),
    DirectoryPath: ValueType("directory", read_directory_path),
}


def value_type(annotation: object) -> ValueType:
    """The type of a setting with this annotation; ``X | None`` is read as ``X``, a StrEnum is a choice of its words."""
    is_union = get_origin(annotation) in (Union, UnionType)
    [plain] = [part for part in get_args(annotation) if part is not type(None)] if is_union else [annotation]
    if isinstance(plain, type) and issubclass(plain, StrEnum):
        return ValueType("choice", ReadChoice(plain))
    return _TYPES[plain]


def write_value(value: Any) -> str:
    """A setting's value as a person would write it."""
    match value:
        case None:
            return "none"
        case bool():
            return "true" if value else "false"
        case float():
            return repr(value).removesuffix(".0")
        case tuple():
            return _write_several(value)
        case _:
            return str(value)


def _write_several(values: tuple[Any, ...]) -> str:
    """Paths and names; only the names of headers and parameters, since their values may be secrets."""
    return ", ".join(value[0] if isinstance(value, tuple) else str(value) for value in values) or "none"
