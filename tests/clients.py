"""The HTTP client as the exporter opens it, for tests that need no settings, and bodies it may read."""

from collections.abc import AsyncIterator, Iterable
from typing import Any

import httpx

from exporter.cohere.client_tls import TlsContexts, TlsFiles
from exporter.cohere.http import open_http
from exporter.cohere.proxies import Proxy


def open_client(
    base_url: str,
    *files: TlsFiles,
    client_name: str = "c",
    connections: int = 1,
    proxy: Proxy | None = None,
    reloads: list[tuple[str, str | None]] | None = None,
) -> httpx.AsyncClient:
    """Open a client that trusts what is in `files` and adds its reloads to `reloads`."""
    seen = [] if reloads is None else reloads
    return open_http(
        httpx.URL(base_url),
        client_name=client_name,
        user_agent="x/1",
        connections=connections,
        tls=TlsContexts(files, on_reload=lambda name, error: seen.append((name, error))),
        proxy=proxy,
    )


def plain_client(**options: Any) -> httpx.AsyncClient:
    """Return a client without the public CAs, which no test needs and which take 50 ms of CPU to load."""
    return httpx.AsyncClient(**{"trust_env": False, "verify": False, "timeout": 60, **options})


async def arriving(chunks: Iterable[bytes], then: Exception | None = None) -> AsyncIterator[bytes]:
    """Yield the pieces of a body, which may then break."""
    for chunk in chunks:
        yield chunk
    if then:
        raise then
