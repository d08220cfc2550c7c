# SPDX-License-Identifier: Apache-2.0
"""Which proxy a request takes: the environment, read like Go programs do.

The rules are those of https://pkg.go.dev/golang.org/x/net/http/httpproxy, so that Kedastral takes the same route as
KEDA and Prometheus. There are three additions: ``ALL_PROXY`` (curl, httpx) counts if the scheme has no proxy of its
own; an address in ``NO_PROXY`` may be in brackets; and a trailing dot of a host name is ignored. The last two avoid
using a proxy by mistake.
"""

import importlib.util
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import attrs
import httpx

from kedastral.errors import ConfigError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

SCHEMES = ("http", "https", "socks5", "socks5h")
DEFAULT_PORTS = {"http": "80", "https": "443"}
MAPPED = 96
"""Bits of the prefix of IPv4-mapped IPv6 addresses, such as ``::ffff:10.0.0.1``."""


@attrs.frozen
class Proxy:
    """A proxy and the ``variable`` that names it; its repr shows no password."""

    variable: str
    url: str = attrs.field(repr=False)

    @property
    def scheme(self) -> str:
        """The scheme that we use with it."""
        return httpx.URL(self.url).scheme

    @property
    def shown(self) -> str:
        """The URL for a message: no user, no password, no path."""
        parsed = httpx.URL(self.url)
        return f"{parsed.scheme}://{parsed.netloc.decode('ascii')}"

    def describe_for(self, server: str) -> str:
        """A message that requests to ``server`` use this proxy, for the log and for `validate`."""
        return f"requests to {server} go through the proxy {self.shown} of {self.variable}"

    def find_fault(self) -> str | None:
        """Why it cannot be used, without quoting it; None if it can."""
        try:
            parsed = httpx.URL(self.url)
        except httpx.InvalidURL:
            return "it is not a URL"
        if parsed.scheme not in SCHEMES:
            return f"its scheme is none of {', '.join(SCHEMES)}"
        if not parsed.host:
            return "it names no host"
        if parsed.port is not None and not 0 < parsed.port < 65536:
            return "its port is not valid"
        if parsed.scheme.startswith("socks") and importlib.util.find_spec("socksio") is None:
            return "a SOCKS proxy needs the package socksio: pip install socksio, or the extra `socks` of Kedastral"
        return None


@attrs.frozen
class ProxyExemption:
    """One entry of ``NO_PROXY``: a network, or a domain with its subdomains; ``port`` is empty if any port matches."""

    port: str
    network: Network | None = None
    domain: str = ""
    below_only: bool = False

    def covers(self, host: str, port: str, address: Address | None) -> bool:
        """Whether a request bypasses the proxy; ``address`` is ``host`` parsed, if it is an address."""
        if self.port not in ("", port):
            return False
        if address is not None:
            return self.network is not None and address in self.network
        if not self.domain:
            return False
        return host.endswith(f".{self.domain}") or (host == self.domain and not self.below_only)


@attrs.frozen
class ProxyRules:
    """What the environment says about proxies. ``everything_exempt``: ``NO_PROXY`` has an entry ``*``.

    ``is_cgi``: a web server runs this program, so that a client may have set ``HTTP_PROXY`` with a header.
    """

    by_scheme: Mapping[str, Proxy]
    exemptions: tuple[ProxyExemption, ...] = ()
    everything_exempt: bool = False
    is_cgi: bool = False

    def find(self, url: httpx.URL) -> Proxy | None:
        """The proxy that requests to ``url`` take, None for none. Raises ConfigError if it cannot be used."""
        proxy = self.by_scheme.get(url.scheme)
        if proxy is None:
            return None
        if self.is_cgi and proxy.variable.lower() == "http_proxy":
            raise ConfigError([f"{proxy.variable} is not used in a CGI program (REQUEST_METHOD is set): unset one"])
        if self._goes_direct(url):
            return None
        if (fault := proxy.find_fault()) is not None:
            raise ConfigError([f"{proxy.variable} cannot be used: {fault}; correct it, or exempt hosts by NO_PROXY"])
        return proxy

    def _goes_direct(self, url: httpx.URL) -> bool:
        host = url.raw_host.decode("ascii").lower().removesuffix(".")
        port = DEFAULT_PORTS.get(url.scheme, "") if url.port is None else str(url.port)
        address = _read_address(host.partition("%")[0])
        if self.everything_exempt or host == "localhost" or (address is not None and address.is_loopback):
            return True
        return any(exemption.covers(host, port, address) for exemption in self.exemptions)


def read_proxies(environ: Mapping[str, str]) -> ProxyRules:
    """The rules of an environment. An upper-case name wins, as in Go; an empty variable counts as not set."""
    common = _read_proxy(environ, "ALL_PROXY")
    found = {scheme: _read_proxy(environ, f"{scheme.upper()}_PROXY") or common for scheme in DEFAULT_PORTS}
    by_scheme = {scheme: proxy for scheme, proxy in found.items() if proxy is not None}
    _, listed = _read_variable(environ, "NO_PROXY")
    entries = [entry.strip().lower() for entry in listed.split(",")]
    exemptions = tuple(one for entry in entries if (one := _read_exemption(entry)) is not None)
    return ProxyRules(by_scheme, exemptions, "*" in entries, bool(environ.get("REQUEST_METHOD")))


def _read_proxy(environ: Mapping[str, str], name: str) -> Proxy | None:
    variable, value = _read_variable(environ, name)
    if not value:
        return None
    return Proxy(variable, value if "://" in value else f"http://{value}")


def _read_variable(environ: Mapping[str, str], name: str) -> tuple[str, str]:
    """The name that is set, and its value; an empty value for none."""
    set_ones = [(variable, value) for variable in (name, name.lower()) if (value := environ.get(variable, "").strip())]
    return set_ones[0] if set_ones else (name, "")


def _read_exemption(entry: str) -> ProxyExemption | None:
    """An entry, None if it has no host; one that is otherwise malformed covers no host, which is just as good."""
    network = _read_network(entry)
    if network is not None:
        return ProxyExemption("", network)
    host, port = _split_port(entry)
    address = _read_address(host)
    if address is not None:
        return ProxyExemption(port, ip_network(address))
    domain = host.removesuffix(".")
    below_only = domain.startswith((".", "*."))
    domain = _to_ascii(domain.removeprefix("*" * below_only).removeprefix("."))
    return ProxyExemption(port, None, domain, below_only) if domain else None


def _read_network(entry: str) -> Network | None:
    _, slash, bits = entry.partition("/")
    if not slash or not (bits.isascii() and bits.isdigit()):  # Python would also accept a netmask
        return None
    try:
        network = ip_network(entry, strict=False)
    except ValueError:
        return None
    if isinstance(network, IPv6Network) and network.prefixlen >= MAPPED:
        mapped = network.network_address.ipv4_mapped
        return network if mapped is None else IPv4Network((mapped, network.prefixlen - MAPPED))
    return network


def _read_address(text: str) -> Address | None:
    """An address; None also for one with a zone, which no entry may have."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv4Address):
        return address
    return None if address.scope_id else address.ipv4_mapped or address


def _split_port(entry: str) -> tuple[str, str]:
    """Host and port of ``host:port`` and ``[address]:port``; otherwise all of it is the host."""
    if entry.startswith("["):
        host, _, port = entry[1:].partition("]")
        return (host, port.removeprefix(":")) if port[:1] in ("", ":") else (entry, "")
    host, _, port = entry.partition(":")
    return (entry, "") if ":" in port else (host, port)


def _to_ascii(domain: str) -> str:
    """The domain as in a request: a non-ASCII name in punycode."""
    if domain.isascii():
        return domain
    try:
        return httpx.URL(scheme="http", host=domain).raw_host.decode("ascii")
    except httpx.InvalidURL:
        return domain
