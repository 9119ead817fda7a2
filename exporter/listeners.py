"""The sockets of the pages and the probes. Where one cannot be had, a SettingsError names the option."""

import socket

from exporter.settings import ListenAddress, Settings, SettingsError
from exporter.web.server import listen


def open_listeners(settings: Settings) -> list[socket.socket]:
    """Return the listening sockets of the pages."""
    origin = settings.origin("web.listen-address")
    return [_open(address, origin) for address in settings.web.listen_address]


def open_probe_listener(settings: Settings) -> socket.socket | None:
    """Return the listening socket of the probes alone, if they are to have one."""
    address = settings.web.probe_address
    return None if address is None else _open(address, settings.origin("web.probe-address"))


def _open(address: ListenAddress, origin: str) -> socket.socket:
    try:
        return listen(*address)
    except OSError as error:
        raise SettingsError(f"{origin}: {error.strerror or error}") from None


def browser_url(host: str, port: int, scheme: str) -> str:
    """Return an address that opens in a browser on this machine."""
    if host in ("", "::", "0.0.0.0"):  # noqa: S104 - compared, not bound
        host = "localhost"
    return f"{scheme}://[{host}]:{port}/" if ":" in host else f"{scheme}://{host}:{port}/"
