"""What is said of an API that answers in a way no HTTP/1.1 client understands; every answer is a real one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from exporter.cohere.connection_errors import ConnectionErrors
from exporter.cohere.http import parse_base_url
from exporter.cohere.proxies import Proxy
from exporter.cohere.transport import ConnectionTrace
from exporter.errors import ApiError, ConnectionFailed, Forbidden, InvalidResponse
from tests.clients import open_client

pytestmark = pytest.mark.anyio

HEAD = b"HTTP/1.1 200 OK\r\n"
SETTINGS = b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64"
ALERT = b"\x15\x03\x01\x00\x02\x02\x46"
PASSWORD = "pass-of-the-proxy"


@asynccontextmanager
async def saying(answer: bytes) -> AsyncIterator[str]:
    """Answer each connection with these bytes; yield the base URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.write_eof()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def failure(url: str, proxy: Proxy | None = None) -> ApiError:
    trace, errors = ConnectionTrace(), ConnectionErrors(httpx.URL(url), proxy)
    async with open_client(url, proxy=proxy) as client:
        with pytest.raises(httpx.HTTPError) as caught:
            await client.get("/", extensions={"trace": trace})
    return errors.located(errors.failed(caught.value, is_connected=trace.is_connected))


@pytest.mark.parametrize(
    ("answer", "kind", "says"),
    [
        (HEAD + b"X-Gateway : edge\r\n\r\n", InvalidResponse, "a header name with a blank at its end"),
        (HEAD + b"X-Gateway\r\n\r\n", InvalidResponse, "a malformed header line"),
        (HEAD + b" X: y\r\n\r\n", InvalidResponse, "begins with a blank"),
        (HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n", InvalidResponse, "other than chunked"),
        (b"HTTP/1.1 2000 OK\r\n\r\n", InvalidResponse, "a malformed status line"),
        (SETTINGS, ConnectionFailed, "it speaks TLS or HTTP/2 only"),
        (ALERT, ConnectionFailed, "it speaks TLS or HTTP/2 only"),
        (b"220 mail.example.com ESMTP\r\n\r\n", ConnectionFailed, "it does not speak HTTP"),
    ],
)
async def test_what_is_wrong_is_said_in_words(answer: bytes, kind: type[ApiError], says: str) -> None:
    async with saying(answer) as url:
        error = await failure(url)
    assert type(error) is kind
    assert says in error.message
    assert error.advice


async def test_a_gateway_that_speaks_http2_only_over_tls_is_named() -> None:
    broken = httpx.RemoteProtocolError("illegal request line")
    error = ConnectionErrors(httpx.URL("https://gw.test")).failed(broken, is_connected=True)
    assert error.message == "cannot talk to gw.test:443: it speaks HTTP/2 only"
    assert error.advice == "Have the gateway offer HTTP/1.1 as well as HTTP/2."


async def test_every_error_names_the_proxy_and_its_variable_but_not_its_password() -> None:
    async with saying(b"HTTP/1.1 407 no\r\nContent-Length: 0\r\n\r\n") as url:
        port = httpx.URL(url).port
        proxy = Proxy(httpx.URL(f"http://u:{PASSWORD}@127.0.0.1:{port}"), "HTTPS_PROXY")
        error = await failure("https://gw.test", proxy)
        assert f"through the proxy 127.0.0.1:{port}: the proxy asks for a user name" in error.message
    gone = await failure("https://gw.test", proxy)
    assert f"cannot connect to the proxy 127.0.0.1:{port} on the way to gw.test:443" in gone.message
    refusal = ConnectionErrors(httpx.URL("http://gw.test"), proxy).located(Forbidden("HTTP 403: Forbidden"))
    assert str(refusal) == f"HTTP 403: Forbidden through the proxy 127.0.0.1:{port}"
    for told in (error, gone, refusal):
        assert "The proxy is set by HTTPS_PROXY" in told.advice
        assert PASSWORD not in told.message + told.advice


@pytest.mark.parametrize(
    "url", ["http://xn--a.test", "https://xn--.test", f"https://{'a' * 64}.test", "http://a..b"]
)
def test_a_url_that_can_never_work_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="the host is not a valid name or address"):
        parse_base_url(url)


@pytest.mark.parametrize(
    "url", ["http://xn--bcher-kva.test", "https://gw.test.", "http://a_b", "http://[fd00::1]:8"]
)
def test_other_urls_are_taken_as_they_are(url: str) -> None:
    assert str(parse_base_url(url)) == url
