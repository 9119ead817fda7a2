"""What a handler answers to clients, over a real connection."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from exporter.web.connection import Handler
from exporter.web.server import WebServer, listen
from tests.clients import plain_client


@asynccontextmanager
async def client_of(handler: Handler, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    """Serve a handler, and yield a client that accepts anything, but nothing compressed."""
    headers = {"Accept": "*/*", "Accept-Encoding": "identity"}
    async with WebServer(handler, listen("127.0.0.1", 0), **options) as server:
        url = f"http://127.0.0.1:{server.port}"
        async with plain_client(base_url=url, headers=headers) as client:
            yield client
