"""Why there was no response: what broke on the way to the API, and what to change.

The words are the operating system's, OpenSSL's fixed ones or our own: those of libraries may quote what the
other side sent. Each fault that a network engineer would recognise has its own line and its own advice.
"""

import os
import re
import ssl
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import httpx

from exporter.cohere.proxies import Proxy, address_of
from exporter.errors import ApiError, ConnectionFailed, InvalidResponse


class _Fault(NamedTuple):
    """What is wrong on the other side, and what to do; no advice: that of the kind of error."""

    words: str
    advice: str = ""


_TRUST = "Give the CA that signed it in --cohere.ca-file or SSL_CERT_FILE."
_UNKNOWN_CA = _Fault("its certificate is signed by a CA that is not trusted here", _TRUST)
_WRONG_NAME = _Fault(
    "its certificate is for another name",
    "Use a name from the certificate in --cohere.base-url, or have this one added to the certificate.",
)
_NO_TLS = _Fault(
    "it does not speak TLS", "Is it http instead of https, or another port? See --cohere.base-url."
)
_OLD_TLS = _Fault("it speaks no TLS of version 1.2 or later", "Turn on TLS 1.2 or 1.3 on the API's side.")
_BROKE_OFF = _Fault(
    "it broke off the TLS handshake",
    "Check for a firewall or proxy that inspects TLS; the API may also require a client certificate.",
)

_CLIENT_CERTIFICATE = "--cohere.client-cert-file and --cohere.client-key-file"
_REFUSED_CERTIFICATE = _Fault(
    "it refuses the client certificate",
    f"Renew it, or have its CA trusted by the API: {_CLIENT_CERTIFICATE}.",
)
_HTTP2_ONLY = "Have the gateway offer HTTP/1.1 as well as HTTP/2."

# By the codes of OpenSSL's x509_vfy.h.
_CERTIFICATES: Mapping[int, _Fault] = {
    9: _Fault(
        "its certificate is not valid yet",
        "Check the clock of this machine and of the certificate's CA.",
    ),
    10: _Fault("its certificate has expired", "Renew the API's certificate, or that of its CA."),
    18: _Fault("its certificate is self-signed and not trusted here", _TRUST),
    19: _UNKNOWN_CA,  # the CA came along, but is not trusted
    20: _UNKNOWN_CA,
    21: _UNKNOWN_CA,  # nor did the intermediate come along
    62: _WRONG_NAME,
    64: _WRONG_NAME,  # the same for an IP address
}
# By the names of OpenSSL's sslerr.h.
_HANDSHAKES: Mapping[str, _Fault] = {
    "WRONG_VERSION_NUMBER": _NO_TLS,
    "PACKET_LENGTH_TOO_LONG": _NO_TLS,
    "RECORD_LAYER_FAILURE": _NO_TLS,
    "HTTP_REQUEST": _NO_TLS,
    "UNSUPPORTED_PROTOCOL": _OLD_TLS,
    "TLSV1_ALERT_PROTOCOL_VERSION": _OLD_TLS,
    "UNEXPECTED_EOF_WHILE_READING": _BROKE_OFF,
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": _Fault(
        "it asks for a client certificate", f"Give one in {_CLIENT_CERTIFICATE}."
    ),
    "SSLV3_ALERT_HANDSHAKE_FAILURE": _Fault(
        "it refuses the TLS handshake", f"It may ask for a client certificate: {_CLIENT_CERTIFICATE}."
    ),
    "SSLV3_ALERT_BAD_CERTIFICATE": _REFUSED_CERTIFICATE,
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": _REFUSED_CERTIFICATE,
    "SSLV3_ALERT_CERTIFICATE_REVOKED": _REFUSED_CERTIFICATE,
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": _REFUSED_CERTIFICATE,
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": _REFUSED_CERTIFICATE,
    "TLSV1_ALERT_UNKNOWN_CA": _REFUSED_CERTIFICATE,
    "TLSV1_ALERT_ACCESS_DENIED": _REFUSED_CERTIFICATE,
    "TLSV1_ALERT_NO_APPLICATION_PROTOCOL": _Fault("it speaks HTTP/2 only", _HTTP2_ONLY),
    "TLSV1_UNRECOGNIZED_NAME": _Fault(
        "it knows no host of this name", "Correct the host in --cohere.base-url."
    ),
}
# As in "[SSL] tlsv1 alert no application protocol (_ssl.c:1006)".
_OPENSSL_WORDS = re.compile(r"\[SSL\] ([a-z0-9 ]*[a-z0-9])")
_NO_HTTP = _Fault("it does not speak HTTP", "Correct scheme, host and port in --cohere.base-url.")
_BINARY = {
    "https": _Fault("it speaks HTTP/2 only", _HTTP2_ONLY),
    "http": _Fault("it speaks TLS or HTTP/2 only", f"Is it https instead of http? Else: {_HTTP2_ONLY}"),
}
_NO_RESPONSE = {
    "https": _Fault("it closed the connection without a response"),
    "http": _Fault(
        "it closed the connection without a response",
        "Check --cohere.base-url: is it https instead of http, or another port?",
    ),
}
# By how h11's messages begin, which httpx hands on: what is wrong with a response.
_RESPONSES: Mapping[str, str] = {
    "illegal status line: bytearray(b'HTTP/1": "a malformed status line",
    "illegal header line": "a malformed header line",
    "continuation line at start of headers": "a malformed header line, which begins with a blank",
    "conflicting Content-Length": "several values of Content-Length",
    "bad Content-Length": "a Content-Length that is no number",
    "multiple Transfer-Encoding": "several Transfer-Encoding headers",
    "Only Transfer-Encoding": "a Transfer-Encoding other than chunked",
    "illegal chunk header": "a chunk without its size",
    "malformed chunk footer": "a chunk longer than its size",
    "Receive buffer too long": "a head larger than 100 KiB",
    "Received server _SWITCH": "a change of protocol that was not asked for",
}
_BLANK_BEFORE_COLON = re.compile(r"illegal header line: bytearray\(b'[^ :]+\s+:")
_RESPONSE_ADVICE = "Have the gateway in front of the API send valid HTTP: curl --verbose shows what it sends."


class ConnectionErrors:
    """Explains what broke on the way to `url`, through `proxy` if there is one."""

    def __init__(self, url: httpx.URL, proxy: Proxy | None = None) -> None:
        self._url = url
        self._proxy = proxy
        self._through = f" through the proxy {proxy.address}" if proxy else ""

    def failed(self, error: Exception, *, is_connected: bool) -> ApiError:
        """Return the error for what httpx or the operating system raised."""
        if words := _response_fault(error):
            return InvalidResponse(f"the response is not valid HTTP: {words}", advice=_RESPONSE_ADVICE)
        fault = self._fault(error)
        what = self._what(error, is_connected=is_connected)
        return ConnectionFailed(f"{what}: {fault.words}", advice=fault.advice)

    def located(self, error: ApiError) -> ApiError:
        """Return the error, which names the proxy that was used and where it was set."""
        if self._proxy:
            if self._proxy.address not in error.message:
                error.message += self._through
            error.advice += f" The proxy is set by {self._proxy.variable}; NO_PROXY lists exceptions."
            error.args = (error.message,)
        return error

    def _what(self, error: Exception, *, is_connected: bool) -> str:
        api = address_of(self._url)
        if self._proxy and not is_connected and isinstance(error, httpx.ConnectError):
            return f"cannot connect to the proxy {self._proxy.address} on the way to {api}"
        if isinstance(error, httpx.ConnectError | httpx.ProxyError):
            return f"cannot connect to {api}{self._through}"
        spoken = str(error).startswith("illegal") or str(error).startswith("no response line")
        return f"{'cannot talk to' if spoken else 'lost the connection to'} {api}{self._through}"

    def _fault(self, error: Exception) -> _Fault:
        """Return the deepest cause that has words for people."""
        fault = _Fault(type(error).__name__)
        if isinstance(error, httpx.ProtocolError):
            fault = self._protocol_fault(str(error))
        for cause in causes_of(error):
            fault = _fault_of(cause) or fault
        return fault

    def _protocol_fault(self, message: str) -> _Fault:
        if message.startswith("illegal request line"):  # h11's for a first byte that no text has
            return _BINARY[self._url.scheme]
        if message.startswith(("illegal status line", "no response line")):
            return _NO_HTTP
        if message.startswith("Server disconnected"):
            return _NO_RESPONSE[self._url.scheme]
        return _Fault("it closed the connection within the response")


def causes_of(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what led to it, the deepest last."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        # Several addresses fail as a group; the last one tried speaks for them.
        group = cause.exceptions if isinstance(cause, BaseExceptionGroup) else ()
        cause = group[-1] if group else cause.__cause__ or cause.__context__


def _reason(error: ssl.SSLError) -> str:
    """Return the name of sslerr.h, made of OpenSSL's words where Python's ssl has none for an alert."""
    named = getattr(error, "reason", None)
    words = _OPENSSL_WORDS.match(str(error.args[-1]) if error.args else "")
    return named or (words[1].replace(" ", "_").upper() if words else "")


def _fault_of(cause: BaseException) -> _Fault | None:
    if isinstance(cause, ssl.SSLCertVerificationError):
        unknown = _Fault(f"its certificate is not valid: {cause.verify_message}", _TRUST)
        return _CERTIFICATES.get(cause.verify_code, unknown)
    if isinstance(cause, ssl.SSLError):
        reason = _reason(cause)
        words = f"TLS failed: {reason.replace('_', ' ').lower()}".removesuffix(": ")
        return _HANDSHAKES.get(reason, _Fault(words))
    if isinstance(cause, httpx.ProxyError):
        return _proxy_fault(cause)
    if isinstance(cause, OSError) and cause.strerror:
        # asyncio puts the address there instead of the reason.
        opaque = cause.strerror.startswith("Connect call failed")
        return _Fault(os.strerror(cause.errno) if opaque and cause.errno else cause.strerror)
    return None


def _proxy_fault(error: httpx.ProxyError) -> _Fault:
    status = str(error)[:3]  # behind it the proxy says what it likes
    if status == "407":
        return _Fault(
            "the proxy asks for a user name and password (HTTP 407)", "Write them into the proxy's URL."
        )
    return _Fault(
        f"the proxy refuses: HTTP {status}" if status.isdecimal() else "the proxy refuses",
        "Have the proxy allow this host.",
    )


def _response_fault(error: Exception) -> str:
    """Return what is wrong with a response that the HTTP parser refuses, "" when that is not the matter."""
    message = str(error)
    if not isinstance(error, httpx.RemoteProtocolError):
        return ""
    if _BLANK_BEFORE_COLON.match(message):
        return "a header name with a blank at its end"
    return next((words for start, words in _RESPONSES.items() if message.startswith(start)), "")
