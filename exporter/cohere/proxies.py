"""Which proxy leads to the API, by the environment, as Go's http.ProxyFromEnvironment chooses it.

`HTTPS_PROXY` or `HTTP_PROXY` by the scheme of the URL, else `ALL_PROXY` as in curl; lower case counts where
upper case is not set. `NO_PROXY` lists exceptions; an entry that makes no sense is skipped. This machine is
never reached through a proxy. A proxy's URL may hold a password, which no message shows.
"""

import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import httpx

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_HOST_AND_PORT = re.compile(r"(?P<host>\[.*]|[^:]*):(?P<port>[0-9]*)")
_SEPARATORS = re.compile(r"[,\s]+")

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


class UnusableProxy(ValueError):
    """The environment names a proxy that cannot be used; the message names the variable, never its value."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy, and the variable that names it."""

    url: httpx.URL
    variable: str

    @property
    def address(self) -> str:
        """The host and port, without user name and password."""
        return address_of(self.url)


def address_of(url: httpx.URL) -> str:
    """Return `host:port`, an IPv6 address in brackets."""
    host = url.raw_host.decode("ascii")
    return f"[{host}]:{_port(url)}" if ":" in host else f"{host}:{_port(url)}"


def proxy_for(url: httpx.URL, environ: Mapping[str, str]) -> Proxy | None:
    """Return the proxy that leads to `url`; raise `UnusableProxy` when it is none."""
    variable = next((name for name in _variables(url.scheme) if environ.get(name, "").strip()), None)
    if variable is None or bypasses_proxy(url, environ.get("NO_PROXY") or environ.get("no_proxy", "")):
        return None
    if variable == "HTTP_PROXY" and environ.get("REQUEST_METHOD"):
        raise UnusableProxy(
            "HTTP_PROXY is not used in a CGI script, where a client may set it; use http_proxy"
        )
    return Proxy(_parse(environ[variable].strip(), variable), variable)


def bypasses_proxy(url: httpx.URL, no_proxy: str) -> bool:
    """Return whether `url` is reached directly: it is on this machine, or in the list `no_proxy`."""
    host = url.raw_host.decode("ascii").lower().removesuffix(".")
    ip = _ip(host)
    if host == "localhost" or (ip is not None and ip.is_loopback):
        return True
    entries = filter(None, _SEPARATORS.split(no_proxy.lower()))
    return any(_covers(entry, host, ip, _port(url)) for entry in entries)


def _variables(scheme: str) -> Iterator[str]:
    for name in (f"{scheme}_proxy", "all_proxy"):
        yield name.upper()
        yield name


def _port(url: httpx.URL) -> int:
    return url.port or (443 if url.scheme == "https" else 80)


def _parse(text: str, variable: str) -> httpx.URL:
    try:
        url = httpx.URL(text if _SCHEME.match(text) else f"http://{text}")
        usable = bool(url.host)
    except (httpx.InvalidURL, ValueError):
        usable = False
    if not usable:
        raise UnusableProxy(f"{variable}: must be the URL of a proxy, such as http://proxy.example.com:3128")
    if url.scheme not in ("http", "https"):
        raise UnusableProxy(f"{variable}: must be an http or https proxy; SOCKS is not supported")
    return url


def _covers(entry: str, host: str, ip: IpAddress | None, port: int) -> bool:
    """Return whether one entry of NO_PROXY covers `host`, which is the address `ip` if that is not None."""
    if entry == "*":
        return True
    if "/" in entry:
        return ip is not None and _in_network(ip, entry)
    if match := _HOST_AND_PORT.fullmatch(entry):
        entry = match["host"]
        if match["port"] and int(match["port"]) != port:
            return False
    if ip is not None:
        return _ip(entry.removeprefix("[").removesuffix("]")) == ip
    return _covers_name(entry.removeprefix("*"), host)


def _covers_name(entry: str, host: str) -> bool:
    """Return whether a name covers `host`: itself and what is below it, but the latter alone after a dot."""
    domain = _ascii(entry.strip("."))
    if not domain:
        return False
    return host.endswith(f".{domain}") or (host == domain and not entry.startswith("."))


def _in_network(ip: IpAddress, entry: str) -> bool:
    base, _, prefix = entry.partition("/")
    try:
        network = ipaddress.ip_network(
            f"{base.removeprefix('[').removesuffix(']')}/{int(prefix)}", strict=False
        )
    except ValueError:
        return False
    return ip in network


def _ip(text: str) -> IpAddress | None:
    try:
        ip = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(ip, "ipv4_mapped", None) or ip


def _ascii(name: str) -> str:
    """Return a name as it is looked up, an international one as xn--…; "" when it is none."""
    try:
        return httpx.URL(f"http://{name}").raw_host.decode("ascii")
    except (httpx.InvalidURL, ValueError):
        return ""
