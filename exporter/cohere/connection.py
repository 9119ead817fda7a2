"""Why there was no answer: what broke on the way to the API → one line for people.

The words are the operating system's, OpenSSL's fixed ones or our own: those of libraries may quote what the
other side sent. What is wrong with a certificate is said as what it means to whoever runs the exporter.
"""

import os
import ssl
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import httpx

from exporter.errors import ApiError, ConnectionFailed

_UNKNOWN_AUTHORITY = "its certificate is from an authority not known here; SSL_CERT_FILE may name it"
_WRONG_NAME = "its certificate is for another name"
_NO_TLS = "it does not speak TLS; is it http instead of https?"
_OLD_TLS = "it speaks no TLS of version 1.2 or later"
_BROKE_OFF = "the TLS connection broke off"

# By the codes of OpenSSL's x509_vfy.h.
_CERTIFICATES: Mapping[int, str] = MappingProxyType(
    {
        9: "its certificate is not valid yet, or this machine's clock is wrong",
        10: "its certificate has expired",
        18: _UNKNOWN_AUTHORITY,  # signed by itself
        19: _UNKNOWN_AUTHORITY,  # the authority came along, but is not trusted
        20: _UNKNOWN_AUTHORITY,
        21: _UNKNOWN_AUTHORITY,  # nor did the one in between come along
        62: _WRONG_NAME,
        64: _WRONG_NAME,  # the same for an IP address
    }
)
# By the names of OpenSSL's sslerr.h.
_HANDSHAKES: Mapping[str, str] = MappingProxyType(
    {
        "WRONG_VERSION_NUMBER": _NO_TLS,
        "PACKET_LENGTH_TOO_LONG": _NO_TLS,
        "RECORD_LAYER_FAILURE": _NO_TLS,
        "HTTP_REQUEST": _NO_TLS,
        "UNSUPPORTED_PROTOCOL": _OLD_TLS,
        "TLSV1_ALERT_PROTOCOL_VERSION": _OLD_TLS,
        "UNEXPECTED_EOF_WHILE_READING": _BROKE_OFF,
        "TLSV13_ALERT_CERTIFICATE_REQUIRED": "it asks for a client certificate, and the exporter has none",
    }
)


class ConnectionTrace:
    """Follows the connection of one request to `url`, through `proxy` ("" for none), as an httpx trace."""

    def __init__(self, url: httpx.URL, proxy: str = "") -> None:
        port = url.port or (443 if url.scheme == "https" else 80)
        self._api = address(url.raw_host.decode("ascii"), port)
        self._through = f" through the proxy {proxy}" if proxy else ""
        self._stream: Any = None

    async def __call__(self, event: str, info: Mapping[str, Any]) -> None:
        """Close the connection that httpcore leaves open when the timeout ends a TLS handshake."""
        if event == "connection.connect_tcp.started":
            first = address(info["host"], info["port"])
            self._through = f" through the proxy {first}" if first != self._api else ""
        elif event == "connection.connect_tcp.complete":
            self._stream = info["return_value"]
        elif event == "connection.start_tls.failed":
            await self._stream.aclose()

    def describe(self, error: BaseException) -> str:
        """Return one line that says what broke where, and why."""
        never_stood = isinstance(error, httpx.ConnectError | httpx.ProxyError)
        what = "cannot connect to" if never_stood else "lost the connection to"
        return f"{what} {self._api}{self._through}: {_why(error)}"

    def located(self, error: ApiError) -> ApiError:
        """Return `error`, which names the proxy that was used."""
        if self._through and self._through not in error.message:
            error.message += f" ({self._through.strip()})"
            error.args = (error.message,)
        return error


def connection_error(error: BaseException, trace: ConnectionTrace) -> ApiError:
    """Return the error of the API for what httpx or the operating system raised."""
    return ConnectionFailed(trace.describe(error))


def address(host: str, port: int) -> str:
    """Return `host:port`, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _why(error: BaseException) -> str:
    """Give the deepest cause that has words for people."""
    words = "it broke off, or is no HTTP" if isinstance(error, httpx.ProtocolError) else type(error).__name__
    for cause in _causes(error):
        words = _words(cause) or words
    return words


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        # Several addresses fail as a group; the last one tried speaks for them.
        group = cause.exceptions if isinstance(cause, BaseExceptionGroup) else ()
        cause = group[-1] if group else cause.__cause__ or cause.__context__


def _words(cause: BaseException) -> str | None:
    if isinstance(cause, ssl.SSLCertVerificationError):
        message = f"its certificate cannot be trusted: {cause.verify_message}"
        return _CERTIFICATES.get(cause.verify_code, message)
    if isinstance(cause, ssl.SSLError):
        reason = getattr(cause, "reason", None) or ""  # Python's own have none
        return _HANDSHAKES.get(reason, f"TLS failed: {reason.replace('_', ' ').lower()}".removesuffix(": "))
    if isinstance(cause, httpx.ProxyError):
        return _refusal(cause)
    if isinstance(cause, OSError) and cause.strerror:
        # asyncio puts the address there instead of the reason.
        opaque = cause.strerror.startswith("Connect call failed")
        return os.strerror(cause.errno) if opaque and cause.errno else cause.strerror
    return None


def _refusal(error: httpx.ProxyError) -> str:
    # Behind the status the proxy says what it likes.
    status = str(error)[:3]
    return f"the proxy refuses: HTTP {status}" if status.isdecimal() else "the proxy refuses"
